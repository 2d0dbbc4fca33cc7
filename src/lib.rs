//! ngx_http_wsgi_module: Python WSGI applications inside the nginx worker.
//!
//! `module.rs` is the front door: which interpreter is started. It alone names both sides.
//! `nginx/` is the event loop: all of nginx's types, and never Python.
//! `python/` is the pool threads: all of Python, and never nginx.
//! `wsgi/` is the table where both meet: owned plain data, queues and checks.

pub mod wsgi;

#[cfg(not(test))]
mod module;
#[cfg(not(test))]
mod nginx;
mod python;
/// What needs nothing of nginx but its headers.
#[cfg(test)]
#[path = "nginx/sys/tests/mod.rs"]
mod sys;
