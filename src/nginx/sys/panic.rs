//! Panics never cross into C.
//!
//! Every function that nginx calls has its body in [`protect`].
//! Runs on: event loop.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::log;
use crate::wsgi::mailbox::Level;

/// Calls `body`; a panic becomes an `[alert]` and `otherwise`.
pub fn protect<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            log::write_here(Level::Alert, format_args!("wsgi module panicked: {text}"));
            otherwise
        }
    }
}
