//! A request for a WebSocket: it waits in no queue, and goes to no other worker. It has a thread of
//! its own, or is refused.
//!
//! Runs on: event loop.

use std::sync::Arc;
use std::time::Instant;

use ngx::ffi::{ngx_http_request_t, ngx_int_t};

use super::deadline::{full, ngx_http_wsgi_timeout, unavailable, waits};
use super::vars::vars;
use crate::nginx::config;
use crate::nginx::request::context::{self, Context, Waiting};
use crate::nginx::sys::{code, log};
use crate::nginx::websocket;
use crate::nginx::worker::Worker;
use crate::nginx::worker::sockets::Refused;
use crate::wsgi::application::AppSlot;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::header_policy::Accel;
use crate::wsgi::mailbox::Level;
use crate::wsgi::queue::Job;
use crate::wsgi::request::{Flags, Request};

/// Gives the request to a thread, or says why not.
///
/// # Safety
///
/// `r` is a live request of this module without a context, whose body nginx has read.
pub unsafe fn submit(
    r: *mut ngx_http_request_t,
    worker: &'static Worker,
    app: &'static AppSlot,
) -> Result<(), ngx_int_t> {
    // SAFETY: the request is live, as the caller says; the log is that of the worker's cycle.
    unsafe {
        let conf = config::of_request(r);
        let table = context::table();
        let id = table.next_id();
        let (left, old) = worker.stock.take();
        let vars = vars(r, conf, Some(0), left)?;
        let mut upgraded = websocket::open(id, conf, &worker.mailbox, (*ngx::ffi::ngx_cycle).log)
            .ok_or_else(|| {
            log::write_request(r, Level::Error, format_args!("no socket for a websocket"));
            unavailable(r, 1)
        })?;
        let request = Request {
            vars,
            upgrade: Some(Arc::clone(&upgraded.upgrade)),
            flags: Flags {
                head: false,
                ignores_redirect: conf.policy.ignores(Accel::Redirect),
                debug: conf.debug(),
                multithread: true,
                multiprocess: worker.multiprocess,
            },
            ..Request::default()
        };
        let (exchange, response) = match old {
            Some(old) => Exchange::open_over(old, id, conf.buffering()),
            None => Exchange::open(id, conf.buffering(), worker.mailbox.clone()),
        };
        let waiting = Waiting {
            exchange,
            kept: (request.vars.clone(), None),
            takes_body: false,
            pipe: None,
            conf,
            queued: Instant::now(),
        };
        let context = Context::create(r, waiting, table, Some(ngx_http_wsgi_timeout));
        if context.is_null() {
            upgraded.close();
            return Err(code::INTERNAL_SERVER_ERROR);
        }
        (*context).upgraded = Some(upgraded);
        table.insert(context);
        let threads = conf.websocket.threads();
        if let Err(refused) = worker.sockets.push(Job::Call { app, request, response }, threads) {
            return Err(match (refused, worker.sockets.threads().left()) {
                (Refused::NotStarted, _) => {
                    full(context, format_args!("no thread could be started for a websocket"))
                }
                (Refused::Full, 0) => {
                    full(context, format_args!("all {threads} websocket threads are in use"))
                }
                (Refused::Full, left) => full(
                    context,
                    format_args!(
                        "all {threads} websocket threads are in use, {left} for clients that have gone"
                    ),
                ),
            });
        }
        waits(context);
        Ok(())
    }
}
