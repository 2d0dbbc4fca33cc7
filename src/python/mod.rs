//! The pool threads' room: everything of Python, behind [`crate::wsgi::interpreter::Interpreter`].
//!
//! `cpython` is what the other rooms see. `interpreter` starts CPython; `app` loads an application and
//! calls it: `request` makes the objects it gets, `response` passes on what comes back, `websocket` is
//! for requests whose connection becomes the application's.
//! Runs on: pool thread, except `start`. PEP 3333.

// Each imports only from the groups above its own (scripts/lint).

mod interpreter;

mod response;
mod websocket;

mod request;

mod app;

mod cpython;

pub use cpython::start;

#[cfg(test)]
mod tests;
