//! The [`Interpreter`] that runners attach to: what the other rooms see of this one.
//!
//! `start` is called by the thread that is to be Python's main thread. A worker's Python is never
//! finalized: threads of the application may still run (and CPython would end them in ways that
//! Rust does not survive).
//! Runs on: main thread (start, once, and exit), watchdog (interrupt, locate_main), pool thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::wrap_pyfunction;

use crate::python::app::{call, development, watchdog};
use crate::python::interpreter::layout::Layout;
use crate::python::interpreter::{bootstrap, exception, ffi, log, start};
use crate::python::request::errors::{self, LogStream, Std};
use crate::python::response::deferred_release;
use crate::python::websocket::{socket, uwsgi};
use crate::wsgi::application::Application;
use crate::wsgi::error::LoadError;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::interpreter::{Interpreter, Settings};
use crate::wsgi::mailbox::{ExchangeId, Level, Mailbox};
use crate::wsgi::target::Target;

use super::app::PythonApplication;

/// Starts Python. To be called once in a process, before any thread that uses it; the calling
/// thread becomes Python's main thread and is left detached. The error names path and cause.
pub fn start(settings: &Settings, mailbox: Arc<Mailbox>) -> Result<Arc<dyn Interpreter>, String> {
    let layout = Layout::find(settings.home.as_deref())?;
    log::open(mailbox);
    start::start(&layout, |py| {
        prepare(py, settings).map_err(|err| format!("cannot prepare Python: {err}"))
    })?;
    log::started();
    Ok(Arc::new(CPython))
}

/// What has to be done in Python before any code of the application runs.
fn prepare(py: Python<'_>, settings: &Settings) -> PyResult<()> {
    let sys = py.import("sys")?;
    for (std, name) in [(Std::Out, "stdout"), (Std::Err, "stderr")] {
        let stream = Bound::new(py, LogStream::of_process(std))?;
        sys.setattr(name, &stream)?;
        sys.setattr(format!("__{name}__"), stream)?;
    }
    let null = py.import("os")?.getattr("devnull")?;
    sys.setattr("stdin", py.import("io")?.call_method1("open", (null,))?)?;
    // On this thread, else threading takes the first request's thread for the main one.
    py.import("threading")?;
    // Else _thread.interrupt_main() finds no handler to call (CPython gh-102399) and crashes.
    py.import("signal")?;
    py.import("faulthandler")?.call_method1("enable", (2,))?;
    let module = bootstrap::load(py)?;
    let chdir = settings.chdir.as_deref().map(Path::as_os_str);
    let path: Vec<_> = settings.path.iter().map(|path| path.as_os_str()).collect();
    development::prepare(py, settings)?;
    module.call_method1("paths", (chdir, path))?;
    module.call_method0("wrap_exit")?;
    module.call_method1("wrap_signal", (wrap_pyfunction!(signal_ignored, py)?,))?;
    module.call_method1("bring_packages", (wrap_pyfunction!(errors::log_record, py)?,))?;
    let inside = py.import("_nginx_wsgi")?;
    inside.setattr("WebSocketError", py.get_type::<socket::WebSocketError>())?;
    if let Some(api) = &settings.uwsgi {
        uwsgi::bring(py, api, &wrap_pyfunction!(errors::current_request, py)?)?;
    }
    errors::log_stdio_at(settings.stdio_level.unwrap_or(Level::Error));
    if settings.measures_cpu {
        call::measure_cpu();
    }
    if settings.keeps_zone {
        module.call_method0("keep_zone")?;
    }
    if let Some((signum, fd)) = settings.stack_dump {
        module.call_method1("dump_stacks_on", (signum, fd))?;
    }
    if let Some(interval) = settings.switch_interval {
        sys.call_method1("setswitchinterval", (interval.as_secs_f64(),))?;
    }
    Ok(())
}

/// The interpreter of this process.
struct CPython;

impl Interpreter for CPython {
    fn attach(&self, run: &mut dyn FnMut()) {
        Python::attach(|_py| run());
    }

    fn name_thread(&self, name: &str) {
        ffi::name_thread(name);
        Python::attach(|py| {
            let named = bootstrap::module(py)
                .and_then(|module| module.call_method1("name_thread", (name,)));
            if let Err(err) = named {
                exception::log(py, None, "a thread cannot be named:", &err);
            }
        });
    }

    fn detach(&self, wait: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| py.detach(wait));
    }

    fn sleeps(&self) -> u64 {
        ffi::sleeps()
    }

    fn tidy(&self) {
        deferred_release::release();
        call::returned();
    }

    fn exit(&self, grace: Instant) {
        deferred_release::release();
        Python::attach(|py| {
            if let Err(err) = leave(py, grace) {
                exception::log(py, None, "at exit:", &err);
            }
        });
    }

    fn locate_main(&self, title: &str) {
        Python::attach(|py| watchdog::locate_main(py, title));
    }

    fn finalize(&self) {
        start::finalize();
    }

    fn interrupt(&self, exchange: &Exchange, title: &str) {
        Python::attach(|py| watchdog::interrupt(py, exchange, title));
    }

    fn show(&self, exchange: &Exchange, depth: u32) {
        Python::attach(|py| watchdog::show(py, exchange, depth));
    }

    fn stacks(&self, exchanges: &[Arc<Exchange>]) -> Vec<(ExchangeId, String)> {
        Python::attach(|py| watchdog::stacks(py, exchanges))
    }

    fn try_import(&self, target: &Target) -> Result<(), LoadError> {
        PythonApplication::new(target.clone()).try_import()
    }

    fn compiles(&self, files: &[PathBuf]) -> bool {
        Python::attach(|py| development::compiles(py, files))
    }

    fn application(&self, target: &Target) -> Box<dyn Application> {
        Box::new(PythonApplication::new(target.clone()))
    }
}

fn leave(py: Python<'_>, grace: Instant) -> PyResult<()> {
    let seconds = grace.saturating_duration_since(Instant::now()).as_secs_f64();
    for said in bootstrap::module(py)?.call_method1("leave", (seconds,))?.try_iter()? {
        let said = said?;
        match said.cast::<PyString>() {
            Ok(line) => log::text(py, None, Level::Error, &line.to_string_lossy()),
            Err(_) => exception::log(py, None, "at exit:", &PyErr::from_value(said)),
        }
    }
    errors::flush_all(py);
    Ok(())
}

/// The application wants a signal handler in the worker, whose signals are nginx's.
#[pyfunction]
fn signal_ignored(py: Python<'_>, line: &str) {
    log::text(py, None, Level::Warn, line);
}
