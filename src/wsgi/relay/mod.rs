//! A request that one worker has accepted and another one runs: what the two tell each other.
//!
//! The worker that has the client is the request's *owner*, the one whose runner is to take it the
//! *peer*. The owner *offers* the request over a link between the two, and keeps all of it until it
//! is *taken*; until then the owner may *withdraw* the offer, and queue the request again. Either
//! worker may be the owner of some requests and the peer for others on one link, which keeps
//! messages in order.
//! Runs on: event loop.

pub mod codec;
pub mod message;
mod wire;
