//! What of a request goes to another worker, and which requests stay.
//!
//! Runs on: event loop.

use std::sync::Arc;

use crate::nginx::config::{self, Endpoint, LocConf, MainConf};
use crate::nginx::request::context;
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::mailbox::ExchangeId;
use crate::wsgi::relay::message::{Limit, Settings};

/// What is to be known of a request to hand it over.
pub struct Task {
    /// Indices into the configuration.
    pub app: usize,
    pub pool: usize,
    pub buffering: Settings,
    pub limit: Option<Limit>,
}

/// Whether the request of this exchange is one of this worker's clients, and of a kind that other
/// workers can run. Called with the queue's lock.
pub fn may_go(id: ExchangeId) -> bool {
    let Some(context) = context::table().find(id) else { return false };
    // SAFETY: contexts in the table belong to live requests.
    unsafe {
        let r = (*context).request;
        r == (*r).main && (*context).pipe.is_none() && !(*context).stays
    }
}

/// The request of this exchange as it is to be handed over; `None` if it stays here.
pub fn task(id: ExchangeId) -> Option<Task> {
    if !may_go(id) {
        return None;
    }
    let context = context::table().find(id)?;
    // SAFETY: contexts in the table belong to live requests.
    unsafe {
        let r = (*context).request;
        let conf = (*context).conf();
        let Endpoint { app, pool, .. } = conf.endpoint?;
        let main = config::main_of_request(r);
        let limit = conf.request_timeout().map(|time| Limit::new(time, &(*context).title()));
        Some(Task { app, pool, buffering: settings(main, conf)?, limit })
    }
}

/// `None`: its temporary files are unknown to the others.
fn settings(main: &MainConf, conf: &LocConf) -> Option<Settings> {
    let Buffering { on, heeds_header, size, spooling } = conf.buffering();
    let index = |spooling| {
        let at = main.balance.spoolings.iter().position(|known| Arc::ptr_eq(known, &spooling));
        at.and_then(|at| u32::try_from(at).ok())
    };
    let spooling = match spooling {
        Some(spooling) => Some(index(spooling)?),
        None => None,
    };
    Some(Settings { on, heeds_header, size, spooling })
}

/// The request of this exchange does not fit a message.
pub fn stays(id: ExchangeId) {
    if let Some(context) = context::table().find(id) {
        // SAFETY: contexts in the table are live.
        unsafe { (*context).stays = true };
    }
}
