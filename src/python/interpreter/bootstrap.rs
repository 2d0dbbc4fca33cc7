//! The functions of bootstrap.py, which everything in this room may call.
//!
//! `host` runs it before any code of an application.
//! Runs on: main thread (load), any thread that is attached to Python.

use std::ffi::CString;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;

const CODE: &str = include_str!("bootstrap.py");
const SPAWNED: &str = include_str!("spawned.py");

/// The packages that come with the server, as texts.
const PACKAGES: [(&str, &str); 1] =
    [("nginx_wsgi", include_str!("../../../python/nginx_wsgi/__init__.py"))];

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Runs bootstrap.py, once.
pub fn load(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let code = CString::new(CODE)?;
    let module = PyModule::from_code(py, &code, c"<wsgi bootstrap>", c"_wsgi_bootstrap")?;
    module.setattr("spawned", SPAWNED)?;
    module.setattr("packages", PACKAGES.into_py_dict(py)?)?;
    MODULE.get_or_init(py, || module.clone().unbind());
    Ok(module)
}

/// The functions of bootstrap.py.
pub fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = MODULE.get(py).ok_or_else(|| PyRuntimeError::new_err("Python is not started"))?;
    Ok(module.bind(py))
}
