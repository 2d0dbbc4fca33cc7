//! From the exchange to the client: what an application has sent goes into nginx's filters.
//!
//! [`advance`] is called when a pool thread has sent something, and when the client can take more.
//! `headers.rs` is the head, `redirect.rs` and `intercept.rs` are the other locations that a head
//! may lead to, `chain.rs` is the body, `end.rs` the end.
//! Runs on: event loop.

pub mod end;
pub mod headers;

mod chain;
mod intercept;
mod redirect;

use std::mem;
use std::ptr;

use ngx::ffi::{
    NGX_HTTP_WRITE_BUFFERED, ngx_handle_write_event, ngx_http_output_filter, ngx_http_request_t,
    ngx_int_t,
};

use self::chain::{is_active, release, send_chunks};
use self::end::{abort, finish, write_last_lines};
use self::headers::send_head;
use self::intercept::intercept;
use super::config;
use super::request::client;
use super::request::context::{self, Context};
use super::sys::event::{add_timer, del_timer};
use super::sys::panic::protect;
use super::sys::{bits, code, log};
use super::worker::{display, retire};
use crate::wsgi::exchange::Batch;
use crate::wsgi::mailbox::Level;
use crate::wsgi::segment::Segment;
use crate::wsgi::status::counters::Timeout;

/// Takes what the application has sent and passes it on. May end the request.
///
/// # Safety
///
/// The context is not detached. It and its request may be freed: afterwards only the connection
/// may be looked at.
pub unsafe fn advance(context: *mut Context) {
    // SAFETY: a context that is not detached and its request are live. `finish` is the last use.
    unsafe {
        // HTTP/2 empties buffers before it calls the write handler, which would find nothing new.
        let mut busy = (*context).is_spooled();
        if busy {
            release(context, ptr::null_mut());
            busy = (*context).is_spooled();
        }
        let exchange = &(*context).exchange;
        let batch = if busy { exchange.take_urgent() } else { exchange.take() };
        let Batch { head, chunks, end } = batch;
        let r = (*context).request;
        if let Some(end) = end {
            (*context).end = Some(end);
            (*context).timings.close();
            write_last_lines(context);
        }
        if let Some(rc) = (*context).client_lost {
            if (*context).end.is_some() {
                finish(context, rc);
            }
            return;
        }
        if let Some(head) = head {
            (*context).head_taken = true;
            (*context).timings.head(head.code());
            // Where variables find it that are evaluated from here on.
            (*context).head = Some(head);
            if intercept(context) || redirect::redirect(context) {
                return;
            }
            if retire::is_draining() {
                bits::request::set_keepalive(r, false);
            }
            let rc = (*context).head.as_ref().map_or(code::ERROR, |head| send_head(r, head));
            if rc == code::ERROR && outlives_client(context, rc) {
                return;
            }
            if rc == code::ERROR || rc > code::OK || bits::request::header_only(r) {
                return finish(context, rc);
            }
            (*r).write_event_handler = Some(ngx_http_wsgi_write);
        } else if let (false, Some(end)) = ((*context).head_taken, (*context).end) {
            let rc = match end {
                Ok(()) => code::INTERNAL_SERVER_ERROR,
                Err(failure) => {
                    let (rc, level) = end::failure(failure);
                    log::write_request(r, level, format_args!("{failure}"));
                    rc
                }
            };
            return finish(context, rc);
        }
        (*context).timings.received(chunks.iter().map(Segment::len).sum());
        let last = (*context).end == Some(Ok(()));
        let rc = if chunks.is_empty() && !last {
            // An abort; or the application is blocked, or nginx still busy with what it has.
            release(context, ptr::null_mut());
            code::OK
        } else {
            send_chunks(context, chunks)
        };
        settle(context, rc);
    }
}

/// After output: ends the request, or waits for the client or the application.
unsafe fn settle(context: *mut Context, rc: ngx_int_t) {
    // SAFETY: the context is not detached, and its request is live.
    unsafe {
        if rc == code::ERROR {
            if !outlives_client(context, rc) {
                finish(context, rc);
            }
            return;
        }
        let r = (*context).request;
        let c = (*r).connection;
        let buffered = bits::request::buffered(r) != 0
            || !(*r).postponed.is_null()
            || (is_active(r) && bits::connection::buffered(c) != 0);
        match (*context).end {
            // nginx sends the rest by itself.
            Some(Ok(())) => {
                if buffered && display::display().is_some() {
                    context::table().linger(context);
                }
                finish(context, rc);
            }
            Some(Err(_)) if !buffered => abort(context),
            _ => watch_output(context),
        }
    }
}

/// The client has gone, which `wsgi_ignore_client_abort` keeps from the application: what it sends
/// is dropped from now on, and the request ends with `rc` when the application does. False if
/// there is no reason to wait for that.
unsafe fn outlives_client(context: *mut Context, rc: ngx_int_t) -> bool {
    // SAFETY: the context is not detached, and its request is live.
    unsafe {
        let c = (*(*context).request).connection;
        let gone = bits::connection::error(c) || bits::connection::timedout(c);
        if !((*context).conf().ignores_client_abort() && gone && (*context).end.is_none()) {
            return false;
        }
        (*context).client_lost = Some(rc);
        (*context).exchange.discard();
        let wev = (*c).write;
        if bits::event::timer_set(wev) {
            del_timer(wev);
        }
        true
    }
}

/// The client can take more, or has not for send_timeout.
unsafe extern "C" fn ngx_http_wsgi_write(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx calls this for a live request.
        unsafe {
            let context = Context::of(r);
            if context.is_null() || (*context).is_detached() || (*context).client_lost.is_some() {
                return;
            }
            if mem::take(&mut (*context).is_passive) {
                client::look_again(r);
            }
            let wev = (*(*r).connection).write;
            if bits::event::timedout(wev) {
                log::write_request(r, Level::Info, format_args!("client timed out"));
                bits::connection::set_timedout((*r).connection, true);
                let rc = code::REQUEST_TIME_OUT;
                if let Some(endpoint) = (*context).conf().endpoint {
                    display::count(endpoint.series, |cells| cells.timeout(Timeout::Send));
                }
                if !outlives_client(context, rc) {
                    finish(context, rc);
                }
                return;
            }
            if bits::event::delayed(wev) || bits::request::aio(r) {
                return watch_output(context);
            }
            let rc = ngx_http_output_filter(r, ptr::null_mut());
            let busy = (*context).is_spooled();
            release(context, ptr::null_mut());
            if busy && !(*context).is_spooled() && rc != code::ERROR {
                // More may have been written to the file meanwhile.
                return advance(context);
            }
            settle(context, rc);
        }
    });
}

/// The response goes on: be called when the client can take more, and time it if it cannot.
unsafe fn watch_output(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live; the core module's configuration
    // of the main request decides, as in nginx's own writer.
    unsafe {
        let r = (*context).request;
        if !is_active(r) {
            // nginx calls the write handler when it becomes active.
            (*context).is_passive = true;
            return;
        }
        let wev = (*(*r).connection).write;
        let clcf = config::core_of_request((*r).main);
        if ngx_handle_write_event(wev, clcf.send_lowat) != code::OK {
            return finish(context, code::ERROR);
        }
        if bits::event::delayed(wev) {
            // limit_rate has a timer of its own.
        } else if bits::event::active(wev) && !bits::event::ready(wev) {
            add_timer(wev, clcf.send_timeout);
        } else {
            if bits::event::timer_set(wev) {
                del_timer(wev);
            }
            // Nothing is left to write, so a filter holds it back for an end that does not come.
            let written =
                bits::connection::buffered((*r).connection) & NGX_HTTP_WRITE_BUFFERED == 0;
            if written && matches!((*context).end, Some(Err(_))) {
                abort(context);
            }
        }
    }
}
