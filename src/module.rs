//! The front door: which interpreter the workers start.
//!
//! The only file that names both sides. nginx's tables are in `nginx/hooks.rs`.

use crate::wsgi::interpreter::StartInterpreter;

/// Starts Python.
pub const START_INTERPRETER: StartInterpreter = crate::python::start;
