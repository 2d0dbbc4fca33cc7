//! Needs no nginx but its headers: structures, and what is the system's alone.

#[path = "../bits.rs"]
pub mod bits;
#[path = "../pair.rs"]
mod pair;
#[path = "../raw.rs"]
mod raw;
#[path = "../seqpacket.rs"]
mod seqpacket;
#[path = "../list.rs"]
mod walk;

#[path = "bits.rs"]
mod compared;
mod list;
mod messages;
#[path = "pair.rs"]
mod pairs;
mod thread_pool;
