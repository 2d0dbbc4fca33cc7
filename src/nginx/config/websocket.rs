//! What the directives about WebSockets say of a location.
//!
//! Runs on: event loop.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use crate::nginx::sys::process;
use crate::wsgi::websocket::{Interval, Limits};

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

    /// How messages are limited, and clients asked whether they are there.
    pub fn limits(&self) -> Limits {
        let every = Duration::from_secs(30);
        let (every, timeout) = self.ping.unwrap_or((every, Duration::from_secs(10)));
        Limits {
            max_message: usize::try_from(self.max_message.unwrap_or(1 << 20)).unwrap_or(usize::MAX),
            ping: (!every.is_zero()).then_some(Interval { every, timeout }),
        }
    }

    /// What is not set is as in the block around.
    pub fn inherit(&mut self, prev: &Self) {
        self.on = self.on.or(prev.on);
        self.threads = self.threads.or(prev.threads);
        self.max_message = self.max_message.or(prev.max_message);
        self.ping = self.ping.or(prev.ping);
    }
}

/// A file that all workers of this master have; what is locked of it are bytes.
pub fn lock_file() -> Option<RawFd> {
    static FILE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let file = FILE.get_or_init(|| process::memory_file(c"wsgi-locks").ok());
    file.as_ref().map(AsRawFd::as_raw_fd)
}
