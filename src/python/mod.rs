//! The pool threads' room: everything of Python, behind [`crate::wsgi::host::Host`].
//!
//! `host` is what the other rooms see, `interpreter` starts CPython. `app` loads an application,
//! `call` runs one request: `environ`, `input`, `stream`, `errors`, `file_wrapper` and `start_response` are
//! the objects it hands to the application, `response` passes on what comes back. `log`
//! and `exception` turn text into log records; `ffi` holds what needs `unsafe`; `conflict` finds
//! applications that get what is another's; `literals` makes the arguments of a factory.
//! Runs on: pool thread, except `start`. PEP 3333.

mod app;
mod call;
mod conflict;
mod development;
mod environ;
mod errors;
mod file;
mod host;
mod input;
mod interpreter;
mod literals;
mod objects;
mod response;
mod shapes;
mod spare;
mod stream;

pub use host::start;

#[cfg(test)]
mod tests;
mod watchdog;
