//! Applications that get each other's modules or settings, because they share an interpreter.
//!
//! `app` notes here each application it has imported; from the second on conflict.py looks for
//! conflicts. A worker logs them and serves the applications as before; the child of
//! `wsgi_check` refuses the configuration.
//! Runs on: pool thread, attached.

use std::ffi::CString;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::python::interpreter::{bootstrap, exception};
use crate::wsgi::lock::lock;
use crate::wsgi::target::Target;

const CODE: &str = include_str!("conflict.py");

/// What is known of the applications of this process.
struct Known {
    /// Target and name of the module, of each application that has been imported.
    apps: Vec<(String, String)>,
    /// The conflicts that have been found.
    reported: Vec<String>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { apps: Vec::new(), reported: Vec::new() });

/// An application has been imported from this module: the conflicts this brings, a line each.
pub fn note(py: Python<'_>, target: &Target, module: &str) -> Vec<String> {
    let apps = {
        let mut known = lock(&KNOWN);
        if known.apps.iter().any(|(_, name)| name == module) {
            return Vec::new();
        }
        known.apps.push((target.to_string(), module.to_owned()));
        known.apps.clone()
    };
    if apps.len() < 2 {
        return Vec::new();
    }
    // Not under the lock: Python may let another thread run.
    let mut lines = find(py, apps).unwrap_or_else(|err| {
        exception::log(py, None, "looking for conflicts of applications:", &err);
        Vec::new()
    });
    let mut known = lock(&KNOWN);
    lines.retain(|line| !known.reported.contains(line));
    known.reported.extend_from_slice(&lines);
    lines
}

fn find(py: Python<'_>, apps: Vec<(String, String)>) -> PyResult<Vec<String>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || {
        let code = CString::new(CODE)?;
        PyModule::from_code(py, &code, c"<wsgi conflict>", c"_wsgi_conflict").map(Bound::unbind)
    })?;
    let bootstrap = bootstrap::module(py)?;
    let given = (bootstrap.getattr("configured")?, bootstrap.getattr("settings_given")?);
    let found = module.bind(py).call_method1("conflicts", (apps, given.0, given.1))?;
    found.try_iter()?.map(|line| line?.extract()).collect()
}
