//! The table where nginx and Python meet: plain owned Rust data, nothing of either side.
//!
//! `src/nginx` puts a [`request::Request`] on a [`queue::RequestQueue`]; a [`queue::runner`] on a
//! pool thread takes it and hands it to an [`application::Application`], which answers through a
//! [`exchange::ResponseSender`]; the event loop is told through the worker's [`mailbox::Mailbox`].
//! Nothing here holds a raw pointer or a lifetime, so a request may die in nginx at any moment
//! while its thread runs on.
//! Runs on: either.

#![forbid(unsafe_code)]

// Each imports only from the groups above its own (scripts/lint).

pub mod arguments;
pub mod board;
pub mod error;
pub mod fork;
pub mod generation;
pub mod header_policy;
pub mod lines;
pub mod lock;
pub mod numbers;
pub mod offer;
pub mod segment;
pub mod slow;
pub mod sources;
pub mod status;
pub mod trial;
pub mod tries;
pub mod zone;

pub mod head;
pub mod mailbox;
pub mod target;
pub mod websocket;

pub mod head_variables;
pub mod upgrade;

pub mod exchange;

pub mod request;

pub mod application;

pub mod interpreter;

pub mod main_thread;
pub mod queue;

pub mod own_threads;

pub mod relay;

#[cfg(test)]
pub(crate) mod tests;
