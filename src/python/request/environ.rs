//! Builds the environ dict of a request from its vars.
//!
//! Used by `call` for every request, so it is lean: requests with the names of earlier ones copy a
//! dict (`shapes`), others copy what never changes and look for the str of each name.
//! Runs on: pool thread. PEP 3333, "environ Variables", "Unicode Issues".

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::python::interpreter::ffi;
use crate::python::response::file_wrapper::FileWrapper;
use crate::wsgi::request::Flags;
use crate::wsgi::request::vars::Vars;

use super::errors::LogStream;
use super::shapes::{MAX_NAME, Shapes, schemes};

/// Names kept at most: clients choose the names of headers.
const MAX_NAMES: usize = 1024;

/// What the environs of one application have in common.
pub struct EnvironFactory {
    /// By multithread and multiprocess.
    prototypes: [[Py<PyDict>; 2]; 2],
    names: RwLock<HashMap<Box<[u8]>, Py<PyString>>>,
    /// By multithread; multiprocess is the same for all requests of a worker.
    shapes: [Shapes; 2],
}

impl EnvironFactory {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let of = |multithread, multiprocess| prototype(py, multithread, multiprocess);
        Ok(Self {
            prototypes: [
                [of(false, false)?, of(false, true)?],
                [of(true, false)?, of(true, true)?],
            ],
            names: RwLock::default(),
            shapes: Default::default(),
        })
    }

    /// A new dict, exactly of type dict, whose CGI values are exactly of type str.
    pub fn make<'py>(
        &self,
        py: Python<'py>,
        vars: &Vars,
        flags: Flags,
        input: &Bound<'py, PyAny>,
        errors: &Bound<'py, LogStream>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let shapes = &self.shapes[usize::from(flags.multithread)];
        let environ = match shapes.find(vars) {
            Some(shape) => shape.environ(py, vars)?,
            None => {
                let base = self.base(py, flags);
                if shapes.is_wanted(vars) {
                    shapes.learn(vars, base, |name| self.known(py, name))?;
                }
                self.environ(base, vars)?
            }
        };
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        environ.set_item(intern!(py, "wsgi.errors"), errors)?;
        Ok(environ)
    }

    /// The environ without vars.
    fn base<'a, 'py>(&'a self, py: Python<'py>, flags: Flags) -> &'a Bound<'py, PyDict> {
        let [multithread, multiprocess] = [flags.multithread, flags.multiprocess].map(usize::from);
        self.prototypes[multithread][multiprocess].bind(py)
    }

    fn environ<'py>(&self, base: &Bound<'py, PyDict>, vars: &Vars) -> PyResult<Bound<'py, PyDict>> {
        let (py, environ) = (base.py(), base.copy()?);
        environ.set_item(intern!(py, "wsgi.url_scheme"), schemes(py).of(vars))?;
        let mut new = Vec::new();
        {
            // Nothing in this block runs Python code or lets go of the interpreter.
            let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
            for (name, value) in vars.iter() {
                let text = ffi::latin1(py, value)?;
                if let Some(name) = names.get(name) {
                    environ.set_item(name.bind(py), text)?;
                } else if !name.starts_with(b"wsgi.") {
                    // The keys of PEP 3333 are not for variables to break.
                    let key = ffi::latin1(py, name)?;
                    environ.set_item(&key, text)?;
                    new.push((name, key));
                }
            }
        }
        if !new.is_empty() {
            self.remember(new);
        }
        Ok(environ)
    }

    fn known(&self, py: Python<'_>, name: &[u8]) -> Option<Py<PyString>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(name).map(|key| key.clone_ref(py))
    }

    fn remember(&self, new: Vec<(&[u8], Bound<'_, PyString>)>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for (name, key) in new {
            if names.len() < MAX_NAMES && name.len() <= MAX_NAME {
                names.entry(name.into()).or_insert_with(|| key.unbind());
            }
        }
    }
}

fn prototype(py: Python<'_>, multithread: bool, multiprocess: bool) -> PyResult<Py<PyDict>> {
    let environ = PyDict::new(py);
    // Empty is what PEP 3333 lets them be; the others always come as vars.
    for name in ["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"] {
        environ.set_item(PyString::intern(py, name), "")?;
    }
    environ.set_item("wsgi.version", (1, 0))?;
    environ.set_item("wsgi.multithread", multithread)?;
    environ.set_item("wsgi.multiprocess", multiprocess)?;
    environ.set_item("wsgi.run_once", false)?;
    environ.set_item("wsgi.input_terminated", true)?;
    // Each request has its own; with them here a copy need not grow.
    environ.set_item(intern!(py, "wsgi.input"), py.None())?;
    environ.set_item(intern!(py, "wsgi.errors"), py.None())?;
    environ.set_item(intern!(py, "wsgi.url_scheme"), schemes(py).http)?;
    environ.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
    Ok(environ.unbind())
}
