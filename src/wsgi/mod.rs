//! The table where nginx and Python meet: plain owned Rust data, nothing of either side.
//!
//! `src/nginx` puts a [`request::Request`] on a [`queue::RequestQueue`]; a [`queue::runner`] on a
//! pool thread takes it and hands it to an [`application::Application`], which answers through a
//! [`exchange::ResponseSender`]; the event loop is told through the worker's [`mailbox::Mailbox`].
//! Nothing here holds a raw pointer or a lifetime, so a request may die in nginx at any moment
//! while its thread runs on.
//! Runs on: either.

#![forbid(unsafe_code)]

pub mod application;
pub mod arguments;
pub mod error;
pub mod exchange;
pub mod fork;
pub mod head;
pub mod host;
pub mod lines;
pub mod mailbox;
pub mod main_thread;
pub mod numbers;
pub mod passing;
pub mod queue;
pub mod request;
pub mod segment;
pub mod sources;
pub mod target;
pub mod trial;
pub mod tries;
pub mod zone;

#[cfg(test)]
pub(crate) mod tests;
