//! Loads an application by its `wsgi_app` target, and calls it.
//!
//! Made by `host`; [`crate::wsgi::application::AppSlot`] decides when it is loaded and called. A
//! failed import is logged and never leaves this file as anything but `false`: not even SystemExit
//! may end the worker. `literals` makes the arguments of a factory, `conflict` finds applications
//! that get what is another's, `call` serves one request.
//! Runs on: pool thread. PEP 3333, "The Application/Framework Side".

pub mod call;
mod conflict;
pub mod development;
mod literals;
pub mod watchdog;

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path};
use std::sync::{Mutex, OnceLock};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use development::Page;

use crate::python::interpreter::{bootstrap, exception, log};
use crate::python::request::errors::Context;
use crate::wsgi::application::Application;
use crate::wsgi::error::{Failure, LoadError};
use crate::wsgi::exchange::ResponseSender;
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::Request;
use crate::wsgi::target::{Source, Target};

const ASGI: &str = "an ASGI application, which is not called as WSGI has it: name one of WSGI \
    (Django's is in wsgi.py, not asgi.py), wrap it in a2wsgi.ASGIMiddleware, or let an ASGI server \
    run it, behind proxy_pass";

struct Loaded {
    /// The name of the module that the target names.
    module: String,
    callable: Py<PyAny>,
    objects: call::ObjectFactory,
}

pub struct PythonApplication {
    target: Target,
    loaded: OnceLock<Loaded>,
    /// Why the last import has failed, if somebody wants to know.
    failed: Mutex<Option<Page>>,
    /// The same in a line.
    failure: Mutex<Option<String>>,
}

impl PythonApplication {
    pub fn new(target: Target) -> Self {
        Self {
            target,
            loaded: OnceLock::new(),
            failed: Mutex::new(None),
            failure: Mutex::new(None),
        }
    }

    fn import(&self, py: Python<'_>) -> PyResult<Loaded> {
        let mut found = match &self.target.source {
            Source::Module(name) => {
                py.import("importlib")?.call_method1("import_module", (name,))?
            }
            Source::File(path) => load_file(py, path)?,
            Source::Paste(path) => return self.import_paste(py, path),
        };
        let module = found.getattr("__name__").and_then(|name| name.extract()).unwrap_or_default();
        for name in self.target.callable.split('.') {
            found = found.getattr(name)?;
        }
        if let Some(arguments) = &self.target.factory {
            found = literals::call(&found, arguments)?;
        }
        self.check_callable(&found)?;
        Ok(Loaded { module, callable: found.unbind(), objects: call::ObjectFactory::new(py)? })
    }

    /// Which modules the callable comes from is the file's matter: no module is named here.
    fn import_paste(&self, py: Python<'_>, path: &Path) -> PyResult<Loaded> {
        let path = path::absolute(path)?;
        let found = bootstrap::module(py)?
            .call_method1("load_paste", (path.as_os_str(), &self.target.callable))?;
        self.check_callable(&found)?;
        Ok(Loaded {
            module: String::new(),
            callable: found.unbind(),
            objects: call::ObjectFactory::new(py)?,
        })
    }

    fn check_callable(&self, found: &Bound<'_, PyAny>) -> PyResult<()> {
        let what = if self.target.factory.is_some() { "what it returns" } else { "it" };
        if !found.is_callable() {
            let kind = found.get_type().name()?;
            return Err(PyTypeError::new_err(format!("{what} is not callable: {kind}")));
        }
        if bootstrap::module(found.py())?.call_method1("is_asgi", (found,))?.is_truthy()? {
            return Err(PyTypeError::new_err(format!("{what} is {ASGI}")));
        }
        Ok(())
    }

    /// Hands on what has been imported, and what has become of the time zone.
    fn try_load<R>(
        &self,
        done: impl FnOnce(Python<'_>, PyResult<Loaded>, Option<String>) -> R,
    ) -> R {
        Python::attach(|py| {
            let _context = Context::enter(py, None);
            let zone = zone(py);
            let imported = self.import(py);
            call::returned();
            done(py, imported, zone.and_then(|zone| zone_moved(py, zone)))
        })
    }

    /// As [`Application::load`], but keeps nothing and logs nothing; a conflict with an application
    /// that was imported before is an error here.
    pub fn try_import(&self) -> Result<(), LoadError> {
        self.try_load(|py, imported, _| match imported {
            Ok(loaded) => {
                let mut conflicts = conflict::note(py, &self.target, &loaded.module).into_iter();
                let cause = conflicts.next();
                cause.map_or(Ok(()), |cause| {
                    Err(LoadError { cause, traceback: conflicts.collect(), is_conflict: true })
                })
            }
            Err(err) => Err(exception::report(py, &err)),
        })
    }
}

impl Application for PythonApplication {
    fn load(&self) -> bool {
        if self.loaded.get().is_some() {
            return true;
        }
        self.try_load(|py, imported, zone| {
            if let Some(change) = zone {
                let line = format!(
                    "wsgi_app \"{}\" has changed the time zone of the worker {change}, for all \
                     applications; \"wsgi_tzset off\" keeps it",
                    self.target
                );
                log::text(py, None, Level::Info, &line);
            }
            match imported {
                Ok(loaded) => {
                    for line in conflict::note(py, &self.target, &loaded.module) {
                        log::text(py, None, Level::Error, &line);
                    }
                    self.loaded.set(loaded).is_ok() || self.loaded.get().is_some()
                }
                Err(err) => {
                    let what = format!("wsgi_app \"{}\" could not be loaded", self.target);
                    exception::log(py, None, &what, &err);
                    let page = development::import_failed(py, &what, &err);
                    *lock(&self.failed) = page;
                    *lock(&self.failure) = Some(exception::summary(py, &err));
                    false
                }
            }
        })
    }

    fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    fn call(&self, request: Request, mut response: ResponseSender) {
        let Some(loaded) = self.loaded.get() else {
            response.finish(Err(Failure::Import));
            return;
        };
        Python::attach(|py| {
            if request.flags.debug
                && let Some(page) = development::wrong()
            {
                return page.answer(py, &request, response);
            }
            call::serve(loaded.callable.bind(py), &loaded.objects, request, response);
        });
    }

    fn refuse(&self, request: Request, mut response: ResponseSender) {
        let failed = lock(&self.failed).clone();
        match development::wrong().or(failed).filter(|_| request.flags.debug) {
            Some(page) => Python::attach(|py| page.answer(py, &request, response)),
            None => response.finish(Err(Failure::Import)),
        }
    }
}

/// The time zone of the process, for [`zone_moved`].
fn zone(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    bootstrap::module(py).ok()?.call_method0("zone").ok()
}

/// What has become of the time zone since, in words; none if it is the same.
fn zone_moved(py: Python<'_>, before: Bound<'_, PyAny>) -> Option<String> {
    let change = bootstrap::module(py).ok()?.call_method1("zone_moved", (before,)).ok()?;
    change.extract().ok()?
}

fn load_file<'py>(py: Python<'py>, path: &Path) -> PyResult<Bound<'py, PyAny>> {
    let path = path::absolute(path)?;
    let name = module_name(&path);
    bootstrap::module(py)?.call_method1("load_file", (name, path.as_os_str()))
}

/// `/srv/my-app.py` is `_wsgi__2fsrv_2fmy_2dapp_2epy`: no two paths share a name, and no module
/// that can be imported has such a one.
fn module_name(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().fold("_wsgi_".to_owned(), |mut name, byte| {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "_{byte:02x}");
        }
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_of_files_are_unique() {
        assert_eq!(module_name(Path::new("/srv/my-app.py")), "_wsgi__2fsrv_2fmy_2dapp_2epy");
        let paths = ["/a_2fb.py", "/a/b.py", "/a_b.py", "/a-b.py", "/a.b.py"];
        let mut names: Vec<_> = paths.iter().map(|p| module_name(Path::new(p))).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), paths.len());
    }
}
