//! Interrupts a request that takes longer than `wsgi_request_timeout`.
//!
//! Called by `host` on the watchdog's thread, which attaches only for this. The exception is
//! raised in the application's thread at its next step in Python; a call into C goes on until it
//! returns.
//! Runs on: watchdog thread (interrupt, locate_main), pool thread (`is_timeout`).

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::python::interpreter::{bootstrap, exception, ffi, log};
use crate::wsgi::exchange::Exchange;
use crate::wsgi::mailbox::Level;

pyo3::create_exception!(
    wsgi,
    RequestTimeout,
    PyBaseException,
    "The request takes longer than wsgi_request_timeout. Not an Exception, as KeyboardInterrupt."
);

/// Raises [`RequestTimeout`] in the thread that is in the application for `exchange`, and logs
/// where that thread was.
pub fn interrupt(py: Python<'_>, exchange: &Exchange, title: &str) {
    let interruption = exchange.interruption();
    let Some(thread) = interruption.thread() else { return };
    let stack = bootstrap::module(py).and_then(|module| module.call_method1("stack", (thread,)));
    // The thread may have gone on meanwhile: what counts is where it is now.
    let class = py.get_type::<RequestTimeout>();
    if !interruption.raise(|thread| ffi::raise_in_thread(thread, &class)) {
        return;
    }
    log_stack(py, title, stack);
}

/// Logs where Python's main thread is, below `title`.
pub fn locate_main(py: Python<'_>, title: &str) {
    let stack = bootstrap::module(py).and_then(|module| module.call_method0("main_stack"));
    log_stack(py, title, stack);
}

fn log_stack(py: Python<'_>, title: &str, stack: PyResult<Bound<'_, PyAny>>) {
    let text = stack.and_then(|stack| {
        let text = bootstrap::module(py)?.call_method1("format_stack", (stack,))?;
        Ok(exception::readable(text.cast()?)?.into_owned())
    });
    match text {
        Ok(stack) => log::text(py, None, Level::Error, &format!("{title}\n{stack}")),
        Err(err) => {
            exception::log(py, None, &format!("{title}\nthe stack cannot be shown:"), &err);
        }
    }
}

/// Whether it is the exception that [`interrupt`] has raised.
pub fn is_timeout(py: Python<'_>, err: &PyErr) -> bool {
    err.is_instance_of::<RequestTimeout>(py)
}
