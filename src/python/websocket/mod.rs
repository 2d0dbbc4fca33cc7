//! WebSocket by frames, as applications know it: `wsgi.websocket`, and the module `uwsgi`.
//!
//! `socket` is the object in the environ; `uwsgi` holds functions that act on the WebSocket of the
//! request that the calling thread serves. Whoever waits is detached from Python meanwhile.
//! Runs on: any thread of Python.

pub mod socket;
pub mod uwsgi;
