//! `wsgi_balance`, and what the master makes for it: see `nginx/balance`.
//!
//! Runs on: event loop (configuration, in the master).

use std::env;
use std::ptr;
use std::sync::Arc;

use ngx::ffi::ngx_shm_zone_t;

use crate::nginx::sys::seqpacket::Seqpacket;
use crate::wsgi::board::Clock;
use crate::wsgi::exchange::spool::Spooling;

/// An environment variable for tests: every request that can be handed over is. `self`: through a
/// link of the worker to itself; `force`: to another worker. `off`: none is, unless the directive
/// says so.
const FORCE: &str = "WSGI_BALANCE";

/// Whom requests are handed to that could be served where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forced {
    ToSelf,
    ToOthers,
}

/// Context http.
pub struct Balance {
    /// `wsgi_balance`.
    pub on: Option<bool>,
    default: bool,
    pub forced: Option<Forced>,
    /// Temporary files of all locations with an application. Workers name each other the index.
    pub spoolings: Vec<Arc<Spooling>>,
    /// The shared memory; null without an application, or if it is off.
    pub zone: *mut ngx_shm_zone_t,
    /// Workers that may hand requests to each other; 0: there is nobody.
    pub slots: usize,
    /// One a slot: where its worker receives, and where others send.
    pub inboxes: Vec<[Seqpacket; 2]>,
    /// Is there if there are slots.
    pub clock: Option<Clock>,
}

impl Default for Balance {
    fn default() -> Self {
        let (on, forced) = match env::var(FORCE).as_deref() {
            Ok("self") => (true, Some(Forced::ToSelf)),
            Ok("force") => (true, Some(Forced::ToOthers)),
            Ok("off") => (false, None),
            _ => (true, None),
        };
        Self {
            on: None,
            default: on,
            forced,
            spoolings: Vec::new(),
            zone: ptr::null_mut(),
            slots: 0,
            inboxes: Vec::new(),
            clock: None,
        }
    }
}

impl Balance {
    pub fn is_on(&self) -> bool {
        self.on.unwrap_or(self.default)
    }

    pub fn is_forced(&self) -> bool {
        self.forced.is_some()
    }
}
