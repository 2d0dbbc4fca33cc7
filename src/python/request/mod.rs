//! What the application gets for one request, and the streams it has for good.
//!
//! `objects` makes it: `environ` (with the help of `shapes`), `input` or `stream` as wsgi.input,
//! both with the methods of `file`, `errors` for wsgi.errors and for print(), `socket` for the
//! connection of a WebSocket. `free_list` keeps what can be used again.
//! Runs on: pool thread; the streams on any thread of Python. PEP 3333, "environ Variables".

pub mod environ;
pub mod errors;
pub mod file;
pub mod free_list;
pub mod input;
pub mod objects;
pub mod shapes;
pub mod socket;
pub mod stream;
