//! The way of a line of text from any Python thread to the error log.
//!
//! Called by `errors` and `exception`, and by whoever has one plain line to say. There is one
//! interpreter in a process, so there is one sink. In a forked child the event loop of the parent
//! is out of reach: lines go straight to descriptor 2.
//! Runs on: any thread that is attached to Python.

use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;

use crate::wsgi::fork;
use crate::wsgi::mailbox::{ExchangeId, Level, LogRecord, Mailbox};

use super::ffi;
use super::lines::printable;

struct Sink {
    mailbox: Arc<Mailbox>,
    /// The thread that collects: it must never wait for itself.
    event_loop: ThreadId,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Called once, on the event loop's thread, before Python runs any code.
pub fn open(mailbox: Arc<Mailbox>) {
    let _ = SINK.set(Sink { mailbox, event_loop: thread::current().id() });
}

/// Where mail for the event loop goes; none in a process that has not been opened for it.
pub fn mailbox() -> Option<&'static Mailbox> {
    SINK.get().map(|sink| &*sink.mailbox)
}

/// Logs one line as it is; it must be free of control characters, see [`text`].
pub fn record(py: Python<'_>, exchange: Option<ExchangeId>, level: Level, line: String) {
    if fork::is_child() {
        ffi::write_to_stderr(line.as_bytes());
        ffi::write_to_stderr(b"\n");
        return;
    }
    let Some(sink) = SINK.get() else { return };
    let room = sink.mailbox.log(LogRecord { exchange, level, line });
    if !room && thread::current().id() != sink.event_loop {
        py.detach(|| sink.mailbox.wait_for_log_room());
    }
}

/// Logs text of any kind, a record a line, escaped.
pub fn text(py: Python<'_>, exchange: Option<ExchangeId>, level: Level, text: &str) {
    for line in printable(text.as_bytes()) {
        record(py, exchange, level, line);
    }
}
