//! nginx as the rest of this room would like it: what nginx-sys leaves raw, leaves out or gets
//! wrong. No policy.
//!
//! `bits` reads and writes bit-fields, `event` has the inline functions of nginx that do, and
//! `thread_pool` knows a structure that nginx's headers only name, all three from a bindgen run of
//! our own (`raw`, build.rs). `process`, `children`, `pair` and `seqpacket` are about processes, not
//! about nginx.
//! Runs on: event loop, unless a file says otherwise.

mod raw;

pub mod bits;
pub mod code;
pub mod list;
pub mod log;
pub mod module;
pub mod pair;
pub mod process;
pub mod seqpacket;

pub mod children;
pub mod connection;
pub mod event;
pub mod panic;
pub mod thread_pool;

pub mod eventfd;
pub mod pool;
pub mod socket;
pub mod timer;
