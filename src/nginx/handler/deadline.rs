//! Requests that get no thread, or no answer, in time: 503 and 504.
//!
//! Each request has a timer from when it is queued to its end.
//! Runs on: event loop.

use std::fmt;
use std::time::Instant;

use ngx::ffi::{ngx_event_t, ngx_http_request_t, ngx_int_t};

use super::slow;
use crate::nginx::config::LocConf;
use crate::nginx::request::context::{self, Context};
use crate::nginx::response::end::{abort, finish};
use crate::nginx::response::headers;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{code, log};
use crate::nginx::websocket;
use crate::nginx::worker::{display, retire, worker};
use crate::wsgi::exchange::{Progress, time_left};
use crate::wsgi::mailbox::Level;
use crate::wsgi::status::counters::{Cells, Rejected, Timeout};

/// 503 with Retry-After, in seconds (RFC 9110 section 10.2.3).
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn unavailable(r: *mut ngx_http_request_t, seconds: u64) -> ngx_int_t {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let value = seconds.to_string();
        let header = headers::push_header(r, b"Retry-After", value.as_bytes());
        if header.is_none() { code::INTERNAL_SERVER_ERROR } else { code::SERVICE_UNAVAILABLE }
    }
}

/// As many wait for a thread as may: the request is answered with what this returns.
///
/// # Safety
///
/// The context is in the table, and has just been made.
pub unsafe fn full(context: *mut Context, why: fmt::Arguments<'_>) -> ngx_int_t {
    // SAFETY: the context is not detached, and its request is live; its head has not been sent.
    unsafe {
        let r = (*context).request;
        log::write_request(r, Level::Error, why);
        let rc = unavailable(r, 1);
        (*context).timings.refused(rc);
        if let Some(endpoint) = (*context).conf().endpoint {
            display::count(endpoint.series, |cells| cells.full(display::now()));
        }
        (*context).detach();
        rc
    }
}

/// The request waits for a thread from now on.
///
/// # Safety
///
/// The context is in the table, and has just been made.
pub unsafe fn waits(context: *mut Context) {
    // SAFETY: the context is not detached.
    unsafe {
        let conf = (*context).conf();
        let time = conf.queue_timeout().min(conf.read_timeout());
        (*context).arm(time);
    }
    retire::count();
    if let Some(display) = display::display() {
        display.begins();
    }
}

/// Counts a request that is answered without a place in a queue.
pub fn refused(conf: &LocConf, why: Rejected, rc: ngx_int_t) {
    if let Some(endpoint) = conf.endpoint {
        display::count(endpoint.series, |cells| {
            cells.rejected(why);
            cells.refused(usize::try_from(rc).unwrap_or_default());
        });
    }
}

pub const NO_THREAD: &str = "all threads of the pool are stuck";

/// No thread of this pool will take what waits for it.
pub fn refuse_waiting(pool: usize) {
    if worker().is_none() {
        // The event loop has ended.
        return;
    }
    let table = context::table();
    for id in table.ids() {
        let Some(context) = table.find(id) else { continue };
        // SAFETY: contexts in the table belong to live requests.
        unsafe {
            let is_here = (*context).exchange.handed_over().is_none();
            if (*context).pool() != Some(pool) || !is_here || !(*context).exchange.withdraw() {
                continue;
            }
            Context::act(context, |context| {
                let r = (*context).request;
                log::write_request(r, Level::Error, format_args!("{NO_THREAD}"));
                count(context, |cells| cells.rejected(Rejected::Stuck));
                finish(context, unavailable(r, 1));
            });
        }
    }
}

/// The timer of a context: it waited too long in the queue, or its application is silent.
///
/// # Safety
///
/// Called by nginx with the event of a context that is not detached.
pub unsafe extern "C" fn ngx_http_wsgi_timeout(ev: *mut ngx_event_t) {
    protect((), || {
        // SAFETY: the event is part of its context, whose request is live while the timer is set.
        unsafe {
            Context::act((*ev).data.cast(), |context| timed_out(context));
        }
    });
}

unsafe fn timed_out(context: *mut Context) {
    let now = Instant::now();
    // SAFETY: the context is not detached, its request is live.
    unsafe {
        if websocket::timed_out(context) {
            return;
        }
        let r = (*context).request;
        let progress = (*context).exchange.progress();
        slow::look(context, progress, now);
        let pipe = (*context).pipe.as_ref();
        let progress = pipe.map_or(progress, |pipe| pipe.progress(progress));
        let read_timeout = (*context).conf().read_timeout();
        if progress == Progress::Queued {
            let left = (*context).queue_deadline().saturating_duration_since(now);
            if !left.is_zero() {
                return (*context).arm(left.min(read_timeout));
            }
            // Who gets a 503 sends the request again: it must not have run.
            if !(*context).exchange.withdraw() {
                return (*context).arm(read_timeout);
            }
            let waited = (*context).conf().queue_timeout();
            let text = format_args!("request waited {waited:?} in the wsgi queue");
            log::write_request(r, Level::Error, text);
            count(context, |cells| cells.rejected(Rejected::QueueTimeout));
            let rc = unavailable(r, waited.as_secs().max(1));
            return finish(context, rc);
        }
        let request_left = (*context).request_time_left(progress, now);
        if request_left.is_some_and(|left| left.is_zero()) {
            let time = (*context).conf().request_timeout().unwrap_or_default();
            log::write_request(r, Level::Error, format_args!("request took longer than {time:?}"));
            count(context, |cells| cells.timeout(Timeout::Request));
            return give_up(context);
        }
        match time_left(progress, read_timeout, now) {
            Some(left) if left.is_zero() => {
                let text = format_args!("application was silent for {read_timeout:?}");
                log::write_request(r, Level::Error, text);
                count(context, |cells| cells.timeout(Timeout::Read));
                give_up(context);
            }
            left => {
                let left = left.unwrap_or(read_timeout);
                (*context).arm(request_left.map_or(left, |request| request.min(left)));
            }
        }
    }
}

/// Counts what has become of a request.
///
/// # Safety
///
/// The context is live.
unsafe fn count(context: *mut Context, count: impl FnOnce(&Cells)) {
    // SAFETY: a live context, as the caller says.
    if let Some(endpoint) = unsafe { (*context).conf().endpoint } {
        display::count(endpoint.series, count);
    }
}

/// The application has had its time: 504, or a response that is cut.
unsafe fn give_up(context: *mut Context) {
    // SAFETY: the context is not detached, its request is live.
    unsafe {
        if (*context).head_taken {
            abort(context);
        } else {
            finish(context, code::GATEWAY_TIME_OUT);
        }
    }
}
