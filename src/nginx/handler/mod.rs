//! The content handler: from nginx's request to a job in a queue.
//!
//! `vars.rs` is what an application is told of it, `stream.rs` the body of a request that is handed
//! on as it comes, `upgrade.rs` a request for a WebSocket. `deadline.rs` is how a request ends that
//! gets no thread or no answer in time, `slow.rs` what is logged of one that takes long.
//! Runs on: event loop.

pub mod stream;

mod slow;
mod vars;

pub mod deadline;

mod upgrade;

use std::sync::Arc;
use std::time::Instant;

use ngx::ffi::{
    NGX_HTTP_HEAD, ngx_http_finalize_request, ngx_http_read_client_request_body,
    ngx_http_request_t, ngx_int_t, ngx_uint_t,
};

use self::deadline::{NO_THREAD, full, ngx_http_wsgi_timeout, refused, unavailable, waits};
use self::vars::{split_path, vars};
use super::balance::balance;
use super::config::{self, LocConf};
use super::request::body::request_body;
use super::request::client::watch_client;
use super::request::context::{self, Context, Waiting};
use super::sys::panic::protect;
use super::sys::{bits, code, log};
use super::websocket::asked::asks_for_websocket;
use super::worker::retry::{self, Answer};
use super::worker::{retire, worker};
use crate::wsgi::application::Import;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::header_policy::Accel;
use crate::wsgi::mailbox::Level;
use crate::wsgi::queue::{Full, Job};
use crate::wsgi::request::{Flags, Request};
use crate::wsgi::status::counters::Rejected;

/// The handler of a location with `wsgi_app`.
///
/// # Safety
///
/// Called by nginx in the content phase.
pub unsafe extern "C" fn ngx_http_wsgi_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    protect(code::INTERNAL_SERVER_ERROR, || {
        // SAFETY: nginx's request.
        unsafe {
            let conf = config::of_request(r);
            if split_path((*r).uri.as_bytes(), conf.mount()).is_none() {
                return code::NOT_FOUND;
            }
            let streams = !conf.request_buffering()
                && conf.policy.passes_request_body()
                && !is_upgrade(r, conf);
            let rc = if streams && stream::is_unread(r) {
                bits::request::set_request_body_no_buffering(r, true);
                ngx_http_read_client_request_body(r, Some(ngx_http_wsgi_body_begun))
            } else {
                ngx_http_read_client_request_body(r, Some(ngx_http_wsgi_body_read))
            };
            if rc >= code::SPECIAL_RESPONSE { rc } else { code::DONE }
        }
    })
}

/// The body is complete: queue the request, or say why not.
unsafe extern "C" fn ngx_http_wsgi_body_read(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx's request, with a reference for us that one finalize gives back. What comes
        // after `submit` may free the request; nothing touches it then.
        unsafe {
            match protect(Err(code::INTERNAL_SERVER_ERROR), || submit(r, Reading::Done)) {
                Ok(()) => watch_client(r),
                Err(rc) => ngx_http_finalize_request(r, rc),
            }
        }
    });
}

/// With `wsgi_request_buffering off`: all, a part or nothing of the body is there.
unsafe extern "C" fn ngx_http_wsgi_body_begun(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx's request, with a reference for us that one finalize gives back. What comes
        // after `submit` may free the request; nothing touches it then.
        unsafe {
            match protect(Err(code::INTERNAL_SERVER_ERROR), || submit(r, Reading::Begun)) {
                Ok(()) => stream::start(r),
                Err(rc) => ngx_http_finalize_request(r, rc),
            }
        }
    });
}

/// How far nginx is with the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is complete, or is not to be had.
    Done,
    /// The application reads it as it comes.
    Begun,
}

unsafe fn submit(r: *mut ngx_http_request_t, reading: Reading) -> Result<(), ngx_int_t> {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let conf = config::of_request(r);
        let (Some(worker), Some(endpoint)) = (worker(), conf.endpoint) else {
            log::write_request(r, Level::Error, format_args!("python is not running"));
            retry::ask_for_python();
            return Err(not_loaded(r, conf));
        };
        let (Some(app), Some(pool)) = (worker.app(endpoint.app), worker.pool(endpoint.pool)) else {
            return Err(code::INTERNAL_SERVER_ERROR);
        };
        let now = Instant::now();
        if app.import() == Import::Failed
            && let Answer::Refuse(left) = worker.imports.ask(endpoint.app)
            // With wsgi_debug a thread shows why.
            && !conf.debug()
        {
            let name = app.name();
            let next = if left.is_zero() {
                String::from("a fresh worker is to try")
            } else {
                format!("next try in {left:.1?}")
            };
            let text = format_args!("\"{name}\" is not loaded, {next}");
            log::write_request(r, Level::Error, text);
            return Err(not_loaded(r, conf));
        }
        if is_upgrade(r, conf) {
            return upgrade::submit(r, worker, app);
        }
        let is_elsewhere =
            || balance().is_some_and(|balance| balance.has_room(endpoint.pool, endpoint.app));
        if pool.stuck() >= pool.threads() && !is_elsewhere() {
            log::write_request(r, Level::Error, format_args!("{NO_THREAD}"));
            let rc = unavailable(r, 1);
            refused(conf, Rejected::Stuck, rc);
            return Err(rc);
        }
        let table = context::table();
        let id = table.next_id();
        let pipe = match reading {
            Reading::Begun => stream::open(r, id, &worker.mailbox),
            Reading::Done => None,
        };
        // One that is not passed has been read, and is there for another location that the request
        // is given to.
        let passes = conf.policy.passes_request_body();
        let body = if pipe.is_some() || stream::is_begun(r) || !passes {
            None
        } else {
            request_body(r).map_err(|err| {
                log::write_request(r, Level::Alert, format_args!("request body: {err}"));
                code::INTERNAL_SERVER_ERROR
            })?
        };
        let body = body.map(Arc::new);
        let (left, old) = worker.stock.take();
        let len = (reading == Reading::Done).then(|| body.as_ref().map_or(0, |body| body.len()));
        let request = Request {
            vars: vars(r, conf, len, left)?,
            body,
            pipe: pipe.clone(),
            upgrade: None,
            flags: Flags {
                head: (*r).method == NGX_HTTP_HEAD as ngx_uint_t,
                ignores_redirect: conf.policy.ignores(Accel::Redirect),
                debug: conf.debug(),
                multithread: pool.threads() > 1,
                multiprocess: worker.multiprocess,
            },
        };
        let (exchange, response) = match old {
            Some(old) => Exchange::open_over(old, id, conf.buffering()),
            None => Exchange::open(id, conf.buffering(), worker.mailbox.clone()),
        };
        let waiting = Waiting {
            exchange,
            kept: (request.vars.clone(), request.body.clone()),
            takes_body: pipe.is_some() && stream::is_begun(r),
            pipe,
            conf,
            queued: now,
        };
        let context = Context::create(r, waiting, table, Some(ngx_http_wsgi_timeout));
        if context.is_null() {
            return Err(code::INTERNAL_SERVER_ERROR);
        }
        table.insert(context);
        let mut job = Some(Job::Call { app, request, response });
        if let Some(balance) = balance().filter(|balance| balance.is_forced()) {
            job = job.and_then(|job| balance.force(job));
        }
        let pushed = match job.map_or(Ok(()), |job| pool.push(job, conf.queue().limit)) {
            Err(Full(job)) if is_elsewhere() => pool.push(*job, usize::MAX),
            pushed => pushed,
        };
        if pushed.is_err() {
            return Err(full(context, format_args!("wsgi queue is full")));
        }
        waits(context);
        Ok(())
    }
}

/// Whether the application may take over the connection of `r`.
unsafe fn is_upgrade(r: *mut ngx_http_request_t, conf: &LocConf) -> bool {
    // SAFETY: the request is live, as the caller says.
    conf.websocket.is_on() && unsafe { asks_for_websocket(r) }
}

/// 500 for an application that is not there. A worker that is to be replaced for it keeps no
/// connection.
unsafe fn not_loaded(r: *mut ngx_http_request_t, conf: &LocConf) -> ngx_int_t {
    refused(conf, Rejected::NotLoaded, code::INTERNAL_SERVER_ERROR);
    if retire::is_draining() {
        // SAFETY: the request is live, as the caller says.
        unsafe { bits::request::set_keepalive(r, false) };
    }
    code::INTERNAL_SERVER_ERROR
}
