//! What an exchange knows of two workers: one has the client, the other runs the request.
//!
//! Runs on: event loop.

use super::Exchange;
use crate::wsgi::offer::Offer;

impl Exchange {
    /// The request is another worker's, and its thread has to take this offer before it begins.
    /// Called before the request is queued.
    pub fn require(&self, offer: Offer) {
        self.lock().offer = Some(offer);
    }
}
