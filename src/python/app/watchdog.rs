//! Interrupts a request that takes longer than `wsgi_request_timeout`, and shows where one is that
//! takes longer than `wsgi_slow_request`.
//!
//! Called by `host` on the watchdog's thread, which attaches only for this. The exception is
//! raised in the application's thread at its next step in Python; a call into C goes on until it
//! returns.
//! Runs on: watchdog thread (interrupt, show, stacks, locate_main), pool thread (`is_timeout`).

use std::sync::Arc;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::python::interpreter::{bootstrap, exception, ffi, log};
use crate::wsgi::exchange::Exchange;
use crate::wsgi::mailbox::{ExchangeId, Level};

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
    let stack = stack(py, thread);
    // The thread may have gone on meanwhile: what counts is where it is now.
    let class = py.get_type::<RequestTimeout>();
    if !interruption.raise(|thread| ffi::raise_in_thread(thread, &class)) {
        return;
    }
    log_stack(py, None, Level::Error, title, format(py, stack, None));
}

/// Logs the innermost `depth` frames of the thread that is in the application for `exchange`.
pub fn show(py: Python<'_>, exchange: &Exchange, depth: u32) {
    let thread = exchange.interruption().thread();
    let (Some(thread), Some(taken)) = (thread, exchange.taken()) else { return };
    let ran = taken.at.elapsed().as_secs_f64();
    let stack = format(py, stack(py, thread), Some(depth));
    // The thread may have gone on meanwhile, to another request, and the client may have left.
    if exchange.interruption().thread() == Some(thread) && !exchange.is_cancelled() {
        let title = format!("request has been running for {ran:.3}s, stack of its thread:");
        log_stack(py, Some(exchange.id()), Level::Warn, &title, stack);
    }
}

/// Where the threads are that are in the application for these exchanges. First all are looked at,
/// then their sources are read, during which they may go on.
pub fn stacks(py: Python<'_>, exchanges: &[Arc<Exchange>]) -> Vec<(ExchangeId, String)> {
    let Ok(module) = bootstrap::module(py) else { return Vec::new() };
    let found = exchanges.iter().filter_map(|exchange| {
        let thread = exchange.interruption().thread()?;
        Some((exchange.id(), module.call_method1("stack", (thread,)).ok()?))
    });
    let found: Vec<_> = found.collect();
    let text = |stack: Bound<'_, PyAny>| -> PyResult<String> {
        let text = module.call_method1("format_stack", (stack,))?;
        Ok(exception::readable(text.cast()?)?.into_owned())
    };
    found.into_iter().filter_map(|(id, stack)| Some((id, text(stack).ok()?))).collect()
}

/// Logs where Python's main thread is, below `title`.
pub fn locate_main(py: Python<'_>, title: &str) {
    let stack = bootstrap::module(py).and_then(|module| module.call_method0("main_stack"));
    log_stack(py, None, Level::Error, title, format(py, stack, None));
}

fn stack(py: Python<'_>, thread: u64) -> PyResult<Bound<'_, PyAny>> {
    bootstrap::module(py)?.call_method1("stack", (thread,))
}

/// The innermost `depth` frames of a stack as text, or all.
fn format(
    py: Python<'_>,
    stack: PyResult<Bound<'_, PyAny>>,
    depth: Option<u32>,
) -> PyResult<String> {
    let text = bootstrap::module(py)?.call_method1("format_stack", (stack?, depth))?;
    Ok(exception::readable(text.cast()?)?.into_owned())
}

fn log_stack(
    py: Python<'_>,
    exchange: Option<ExchangeId>,
    level: Level,
    title: &str,
    stack: PyResult<String>,
) {
    match stack {
        Ok(stack) => log::text(py, exchange, level, &format!("{title}\n{stack}")),
        Err(err) => {
            exception::log(py, exchange, &format!("{title}\nthe stack cannot be shown:"), &err);
        }
    }
}

/// Whether it is the exception that [`interrupt`] has raised.
pub fn is_timeout(py: Python<'_>, err: &PyErr) -> bool {
    err.is_instance_of::<RequestTimeout>(py)
}
