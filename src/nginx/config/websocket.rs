//! What the directives about WebSockets say of a location.
//!
//! Runs on: event loop.

use std::time::Duration;

/// Contexts http, server, location. `None`: not set here.
#[derive(Default)]
pub struct Websocket {
    pub on: Option<bool>,
    pub threads: Option<usize>,
    /// Bytes.
    pub max_message: Option<u64>,
    /// How long a connection is silent until it is asked, and how long it may take to answer. The
    /// first zero: it is not.
    pub ping: Option<(Duration, Duration)>,
}

impl Websocket {
    pub fn is_on(&self) -> bool {
        self.on.unwrap_or(false)
    }

    pub fn threads(&self) -> usize {
        self.threads.unwrap_or(100)
    }

    /// What is not set is as in the block around.
    pub fn inherit(&mut self, prev: &Self) {
        self.on = self.on.or(prev.on);
        self.threads = self.threads.or(prev.threads);
        self.max_message = self.max_message.or(prev.max_message);
        self.ping = self.ping.or(prev.ping);
    }
}
