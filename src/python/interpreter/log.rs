//! The way of a line of text from any Python thread to the error log.
//!
//! Called by `errors` and `exception`, and by whoever has one plain line to say. There is one
//! interpreter in a process, so there is one sink. In a forked child the event loop of the parent
//! is out of reach: lines go straight to descriptor 2.
//! Runs on: any thread that is attached to Python.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;

use crate::wsgi::fork;
use crate::wsgi::lines::printable;
use crate::wsgi::mailbox::{ExchangeId, Level, LogRecord, Mailbox};

use super::ffi;

/// Bytes of a text that are logged at once.
const MAX_TEXT: usize = 64 * 1024;

static SINK: OnceLock<Arc<Mailbox>> = OnceLock::new();

/// The event loop, which waits until Python has been started, collects by now.
static COLLECTED: AtomicBool = AtomicBool::new(false);

/// Called once, before Python runs any code.
pub fn open(mailbox: Arc<Mailbox>) {
    let _ = SINK.set(mailbox);
}

/// Called when Python has been started: from now on a full mailbox is waited for.
pub fn started() {
    COLLECTED.store(true, Ordering::Release);
}

/// Where mail for the event loop goes; none in a process that has not been opened for it.
pub fn mailbox() -> Option<&'static Mailbox> {
    SINK.get().map(|sink| &**sink)
}

/// Logs a line, or several with line feeds between them, as they are; they must be free of other
/// control characters, see [`text`].
pub fn record(py: Python<'_>, exchange: Option<ExchangeId>, level: Level, text: String) {
    if let Some(full) = post(exchange, level, text)
        && COLLECTED.load(Ordering::Acquire)
    {
        py.detach(|| full.wait_for_log_room());
    }
}

/// As [`record`], but never waits. The mailbox, if this has used up its room.
fn post(exchange: Option<ExchangeId>, level: Level, mut text: String) -> Option<&'static Mailbox> {
    if fork::is_child() {
        text.push('\n');
        ffi::write_to_stderr(text.as_bytes());
        return None;
    }
    let mailbox = mailbox()?;
    let room = mailbox.log(LogRecord { exchange, level, text });
    (!room).then_some(mailbox)
}

/// Logs lines that belong together: they come one behind the other, and only the first has the
/// context of the request. A long text is divided, so that it need not be in the queue as a whole.
pub fn lines(py: Python<'_>, exchange: Option<ExchangeId>, level: Level, lines: Vec<String>) {
    let mut lines = lines.into_iter();
    while let Some(mut text) = lines.next() {
        while text.len() < MAX_TEXT
            && let Some(line) = lines.next()
        {
            text.push('\n');
            text.push_str(&line);
        }
        record(py, exchange, level, text);
    }
}

/// Logs what a thread that ends has left, not attached any more.
pub fn leave(level: Level, lines: Vec<String>) {
    if !lines.is_empty() {
        post(None, level, lines.join("\n"));
    }
}

/// Logs text of any kind, a record a line, escaped.
pub fn text(py: Python<'_>, exchange: Option<ExchangeId>, level: Level, text: &str) {
    lines(py, exchange, level, printable(text.as_bytes()));
}
