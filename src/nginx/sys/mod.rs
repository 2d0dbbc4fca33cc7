//! What nginx-sys leaves out or gets wrong, from a bindgen run of our own (build.rs).
//!
//! `bits` reads and writes bit-fields, `event` has the inline functions of nginx that do, and
//! `thread_pool` knows a structure that nginx's headers only name. `raw` is what bindgen has made;
//! nobody else sees it.
//! Runs on: event loop.

pub mod bits;
#[cfg(not(test))]
pub mod event;
#[cfg(not(test))]
pub mod thread_pool;

#[cfg(test)]
mod tests;

#[allow(
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc
)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/nginx.rs"));
}
