//! Needs no nginx but its headers: structures alone.

#[path = "../bits.rs"]
pub mod bits;
#[path = "../raw.rs"]
mod raw;
#[path = "../list.rs"]
mod walk;

#[path = "bits.rs"]
mod compared;
mod list;
mod thread_pool;
