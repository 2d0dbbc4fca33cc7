//! A request that one worker has accepted and another one runs: what the two tell each other.
//!
//! The worker that has the client is the request's *owner*, the one whose runner is to take it the
//! *peer*. The owner *offers* the request over a link between the two, and keeps all of it until
//! the word of the [`Offer`](crate::wsgi::offer::Offer) says that it is *taken*; until then the
//! owner may *withdraw* the offer, and queue the request again. Either worker may be the owner of
//! some requests and the peer for others on one link, which keeps messages in order.
//!
//! The peer opens an [`Exchange`](crate::wsgi::exchange::Exchange) of its own, into which its
//! runner writes as into any other, with flow control and temporary file. [`PeerEnd`] turns what is
//! in there into answers. The owner's [`OwnerEnd`] writes the answers into the request's own
//! exchange, as a thread of that worker would, and turns what is read, or no longer read, into
//! orders.
//! Runs on: event loop.

pub mod codec;
pub mod message;
mod owner;
pub mod packet;
mod peer;
mod wire;

pub use owner::{Goes, OwnerEnd};
pub use peer::PeerEnd;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
