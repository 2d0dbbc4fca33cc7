//! What `wsgi_status` shows: how it lies in shared memory, and how it is written down.
//!
//! `counters.rs` is what is counted, and never forgotten by a reload; `records.rs` what each worker
//! says of itself, its pools, its applications and its requests, in the cells of `cell.rs`.
//! `src/nginx/status` makes a [`Snapshot`](snapshot::Snapshot) of both. The other files are
//! functions of that: `findings.rs` says what is wrong, and one file a format writes it all.
//! Runs on: event loop.

pub mod cell;
pub mod stack;
mod visible;
pub mod wanted;

pub mod counters;
pub mod records;

pub mod snapshot;

pub mod findings;

pub mod html;
pub mod json;
pub mod prometheus;
pub mod text;

#[cfg(test)]
mod tests;
