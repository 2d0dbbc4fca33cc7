//! Needs no nginx but its headers: structures alone.

mod bits;
mod thread_pool;
