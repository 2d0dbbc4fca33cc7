//! The pool threads' room: everything of Python, behind [`crate::wsgi::host::Host`].
//!
//! `host` is what the other rooms see, `interpreter` starts CPython. `app` loads an application,
//! `call` runs one request: `request` makes the objects it hands to the application, `response`
//! passes on what comes back. `conflict` finds applications that get what is another's; `literals`
//! makes the arguments of a factory.
//! Runs on: pool thread, except `start`. PEP 3333.

mod app;
mod call;
mod conflict;
mod development;
mod host;
mod interpreter;
mod literals;
mod request;
mod response;

pub use host::start;

#[cfg(test)]
mod tests;
mod watchdog;
