//! CPython itself, and what everything in this room needs of it.
//!
//! `start` starts it in the `layout` of its files, and is unsafe where it calls CPython, as is
//! `ffi`; nothing else in this room is. `bootstrap` holds functions that are better written in
//! Python. `log` and `exception` bring lines and tracebacks to the error log.
//! Runs on: each file says where.

pub mod bootstrap;
pub mod exception;
pub mod ffi;
pub mod layout;
pub mod log;
pub mod start;
