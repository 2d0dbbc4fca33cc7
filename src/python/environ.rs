//! Builds the environ dict of a request from its vars.
//!
//! Used by `call` for every request, so it is lean: what never changes is copied from a prototype,
//! and the names that requests have in common are made into a str once.
//! Runs on: pool thread. PEP 3333, "environ Variables", "Unicode Issues".

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::wsgi::request::Flags;
use crate::wsgi::vars::Vars;

use super::errors::LogStream;
use super::ffi;
use super::file_wrapper::FileWrapper;
use super::input::Input;

/// Names kept at most: clients choose the names of headers.
const MAX_NAMES: usize = 1024;
/// Longest name kept.
const MAX_NAME: usize = 64;

/// What the environs of one application have in common.
pub struct EnvironMaker {
    /// By multithread and multiprocess.
    prototypes: [[Py<PyDict>; 2]; 2],
    names: RwLock<HashMap<Box<[u8]>, Py<PyString>>>,
}

impl EnvironMaker {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let of = |multithread, multiprocess| prototype(py, multithread, multiprocess);
        Ok(Self {
            prototypes: [
                [of(false, false)?, of(false, true)?],
                [of(true, false)?, of(true, true)?],
            ],
            names: RwLock::default(),
        })
    }

    /// A new dict, exactly of type dict, whose CGI values are exactly of type str.
    pub fn make<'py>(
        &self,
        py: Python<'py>,
        vars: &Vars,
        flags: Flags,
        input: &Bound<'py, Input>,
        errors: &Bound<'py, LogStream>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let prototype =
            &self.prototypes[usize::from(flags.multithread)][usize::from(flags.multiprocess)];
        let environ = prototype.bind(py).copy()?;
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        environ.set_item(intern!(py, "wsgi.errors"), errors)?;
        let scheme = self.set_vars(&environ, vars)?;
        let scheme = match scheme {
            Scheme::Https => intern!(py, "https"),
            Scheme::Http => intern!(py, "http"),
        };
        environ.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
        Ok(environ)
    }

    fn set_vars(&self, environ: &Bound<'_, PyDict>, vars: &Vars) -> PyResult<Scheme> {
        let py = environ.py();
        let mut new = Vec::new();
        let mut scheme = Scheme::Http;
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
                scheme = scheme.after(name, value);
            }
        }
        if !new.is_empty() {
            self.remember(new);
        }
        Ok(scheme)
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

#[derive(Debug, Clone, Copy)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// HTTPS=on and its kin, or REQUEST_SCHEME, make it https.
    fn after(self, name: &[u8], value: &[u8]) -> Self {
        let secure = match name {
            b"HTTPS" => [&b"on"[..], b"1", b"https", b"true"]
                .iter()
                .any(|secure| value.eq_ignore_ascii_case(secure)),
            b"REQUEST_SCHEME" => value.eq_ignore_ascii_case(b"https"),
            _ => false,
        };
        if secure { Self::Https } else { self }
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
    environ.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
    Ok(environ.unbind())
}
