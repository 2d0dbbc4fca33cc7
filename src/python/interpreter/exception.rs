//! Exceptions on their way to the log, and errors of this module on their way to the application.
//!
//! Called by `app` and `call` (logging), `start_response` and `input` (raising). Formatting is
//! left to Python's `traceback`; `PyErr_Print` is never used, since on SystemExit it would end the
//! process.
//! Runs on: pool thread. PEP 3333, "Error Handling".

use pyo3::exceptions::{PyBaseException, PyBrokenPipeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::wsgi::error::{Cancelled, HeadError, LoadError};
use crate::wsgi::lines;
use crate::wsgi::mailbox::{ExchangeId, Level};

use super::{bootstrap, log};

/// Logs an exception with its traceback, a record a line; `what` comes first if not empty.
pub fn log(py: Python<'_>, exchange: Option<ExchangeId>, what: &str, err: &PyErr) {
    let traceback = text(py, err);
    let text = if what.is_empty() { traceback } else { format!("{what}\n{traceback}") };
    log::text(py, exchange, Level::Error, &text);
}

/// An exception for a process that has no log of its own.
pub fn report(py: Python<'_>, err: &PyErr) -> LoadError {
    let cause = lines::printable(err.to_string().as_bytes()).into_iter().next();
    let traceback = lines::printable(text(py, err).as_bytes());
    LoadError { cause: cause.unwrap_or_default(), traceback, is_conflict: false }
}

/// An exception and the place where it was raised, in a line.
pub fn summary(py: Python<'_>, err: &PyErr) -> String {
    let LoadError { cause, traceback, .. } = report(py, err);
    let place = traceback.iter().rev().find_map(|line| line.trim_start().strip_prefix("File "));
    place.map_or_else(|| cause.clone(), |place| format!("{cause} (File {place})"))
}

/// An exception with its traceback, as Python prints it.
pub fn text(py: Python<'_>, err: &PyErr) -> String {
    // The formatting fails in turn when memory or stack is what is lacking.
    format(py, err).unwrap_or_else(|_| {
        let name = err.get_type(py);
        let name = name.name();
        let name = name.as_ref().map_or("exception".into(), |name| name.to_string_lossy());
        format!("{name}: (no traceback)")
    })
}

/// The exception itself. Before CPython 3.12 only this attaches the traceback to it.
pub fn with_traceback(py: Python<'_>, err: &PyErr) -> Py<PyBaseException> {
    err.clone_ref(py).into_value(py)
}

fn format(py: Python<'_>, err: &PyErr) -> PyResult<String> {
    let exc = with_traceback(py, err);
    let text = bootstrap::module(py)?
        .call_method1(pyo3::intern!(py, "format_exception"), (exc, err.traceback(py)))?;
    Ok(readable(text.cast::<PyString>()?)?.into_owned())
}

/// The text of a str; lone surrogates, which UTF-8 cannot hold, become `\udcNN`.
pub fn readable<'a>(text: &'a Bound<'_, PyString>) -> PyResult<std::borrow::Cow<'a, str>> {
    if let Ok(text) = text.to_str() {
        return Ok(text.into());
    }
    let bytes = text.call_method1("encode", ("utf-8", "backslashreplace"))?;
    let bytes: Vec<u8> = bytes.extract()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// What start_response raises for a bad status or header.
pub fn from_head_error(err: &HeadError) -> PyErr {
    PyValueError::new_err(err.to_string())
}

/// What write() raises when nobody reads any more.
pub fn from_cancelled(err: Cancelled) -> PyErr {
    PyBrokenPipeError::new_err((libc::EPIPE, err.to_string()))
}

/// `TypeError: <what> must be <kind>, not <type of got>`.
pub fn wrong_type(what: &str, kind: &str, got: &Bound<'_, PyAny>) -> PyErr {
    let name = got.get_type();
    let name = name.name();
    let name = name.as_ref().map_or("?".into(), |name| name.to_string_lossy());
    PyTypeError::new_err(format!("{what} must be {kind}, not {name}"))
}

/// `io.UnsupportedOperation`, for an operation that a stream does not have.
pub fn unsupported(py: Python<'_>, operation: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let raised = CLASS
        .get_or_try_init(py, || py.import("io")?.getattr("UnsupportedOperation").map(Bound::unbind))
        .and_then(|class| class.bind(py).call1((operation,)));
    match raised {
        Ok(exc) => PyErr::from_value(exc),
        Err(err) => err,
    }
}
