//! What one request has of this module while it lives.
//!
//! `context.rs` is its state, found by a number that pool threads name, `vars.rs` and
//! `body.rs` are what the application is given, `left_body.rs` what other locations get of a body
//! that has gone.
//! `upgraded.rs` is of a request for a WebSocket.
//! `in_flight.rs` shows the requests to other workers, as `seen.rs` has them.
//! `timings.rs` and `variables.rs` are for logs, `client.rs` looks after the client.
//! Runs on: event loop.

pub mod body;
pub mod timings;
pub mod upgraded;

pub mod seen;

pub mod context;

pub mod client;
pub mod in_flight;
pub mod left_body;
pub mod variables;

pub mod vars;
