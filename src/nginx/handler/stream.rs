//! `wsgi_request_buffering off`: the request body goes to the application as it arrives.
//!
//! nginx reads into its own buffer; what it has read is copied into the request's pipe
//! (`wsgi/request/body_pipe.rs`). When the pipe is full nothing is read, so that the client is held
//! back by its own window; the application's mail makes the reading go on. As with nginx's
//! upstreams, client_body_timeout runs only while something is waited for, and what goes wrong
//! with the body ends the request, also when the application has begun its response.
//! Runs on: event loop.

use std::sync::Arc;

use ngx::ffi::{
    ngx_handle_read_event, ngx_http_block_reading, ngx_http_read_unbuffered_request_body,
    ngx_http_request_t, ngx_http_test_reading, ngx_int_t,
};

use crate::nginx::config;
use crate::nginx::request::client::watch_client;
use crate::nginx::request::context::Context;
use crate::nginx::response::end::{abort, finish};
use crate::nginx::sys::event::del_timer;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{bits, code, list};
use crate::wsgi::exchange::Room;
use crate::wsgi::mailbox::{ExchangeId, Mailbox};
use crate::wsgi::request::body_pipe::{BodyError, BodyPipe};

/// Least size of a pipe: that of a stream's first window in HTTP/2, too.
const WINDOW: usize = 64 * 1024;

/// Whether nginx has the body of `r` still to read: not so in a subrequest, or after another
/// module.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn is_unread(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the request is live, as the caller says.
    unsafe { r == (*r).main && (*r).request_body.is_null() && !bits::request::discard_body(r) }
}

/// Whether a part of the body has gone to an application before, so that the rest is of no use.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn is_begun(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: a live request has a main request.
    unsafe { bits::request::reading_body((*r).main) }
}

/// The pipe of `r`, with what nginx has read so far; `None` if all of it is in a file.
///
/// # Safety
///
/// `r` is a live main request whose body nginx has begun to read.
pub unsafe fn open(
    r: *mut ngx_http_request_t,
    id: ExchangeId,
    mailbox: &Arc<Mailbox>,
) -> Option<Arc<BodyPipe>> {
    // SAFETY: the request is live, as the caller says; the core module's configuration is that of
    // its location.
    unsafe {
        let window = WINDOW.max(config::core_of_request(r).client_body_buffer_size);
        let pipe = Arc::new(BodyPipe::new(id, window, Arc::clone(mailbox)));
        if bits::request::reading_body(r) {
            move_on(r, &pipe);
        } else {
            // A complete body stays where it is, for a location that the request is handed to.
            if !copy(r, &pipe) {
                return None;
            }
            pipe.complete();
        }
        Some(pipe)
    }
}

/// Copies a complete body; false if it is in a file.
unsafe fn copy(r: *mut ngx_http_request_t, pipe: &BodyPipe) -> bool {
    // SAFETY: the request is live, as the caller says; `bufs` is a chain of complete buffers.
    unsafe {
        let rb = (*r).request_body;
        for link in list::links(if rb.is_null() { std::ptr::null_mut() } else { (*rb).bufs }) {
            let b = (*link).buf;
            if bits::buffer::in_file(b) {
                return false;
            }
            if (*b).last > (*b).pos {
                let len = (*b).last.offset_from((*b).pos) as usize;
                pipe.append(std::slice::from_raw_parts((*b).pos, len));
            }
        }
        true
    }
}

/// Moves what nginx has read into the pipe: its buffers are empty afterwards, and its own again.
unsafe fn move_on(r: *mut ngx_http_request_t, pipe: &BodyPipe) -> Room {
    // SAFETY: the request is live, as the caller says, whose body is being read; what nginx hands
    // out unbuffered is in memory. The links come from the request's pool, which keeps free ones in
    // a list.
    unsafe {
        let rb = (*r).request_body;
        for link in list::links(std::mem::replace(&mut (*rb).bufs, std::ptr::null_mut())) {
            let b = (*link).buf;
            if (*b).last > (*b).pos {
                let len = (*b).last.offset_from((*b).pos) as usize;
                pipe.append(std::slice::from_raw_parts((*b).pos, len));
                (*b).pos = (*b).last;
            }
            (*link).next = (*(*r).pool).chain;
            (*(*r).pool).chain = link;
        }
        if bits::request::reading_body(r) { pipe.hand_over() } else { pipe.complete() }
    }
}

/// The request has been queued: from now on its body is read as it comes. May free the request.
///
/// # Safety
///
/// `r` is a live request with a context that is not detached.
pub unsafe fn start(r: *mut ngx_http_request_t) {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        if !bits::request::reading_body(r) {
            return watch_client(r);
        }
        (*r).read_event_handler = Some(ngx_http_wsgi_read_body);
        read(Context::of(r));
    }
}

/// The application has made room. May end the request.
///
/// # Safety
///
/// The context is not detached. It and its request may be freed.
pub unsafe fn resume(context: *mut Context) {
    // SAFETY: the context is not detached, its request is live. Once complete there is nothing to
    // read.
    unsafe {
        if bits::request::reading_body((*context).request) {
            read(context);
        }
    }
}

/// The client has sent something, has gone, or has timed out.
unsafe extern "C" fn ngx_http_wsgi_read_body(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx calls this for a live request.
        unsafe {
            let context = Context::of(r);
            let ours = !context.is_null() && !(*context).is_detached();
            if !ours || !bits::request::reading_body(r) {
                // Another location has the request now, and has set no handler.
                return ngx_http_block_reading(r);
            }
            read(context);
        }
    });
}

/// Reads until the client has sent no more or the pipe is full.
unsafe fn read(context: *mut Context) {
    // SAFETY: the context is not detached, its request is live. What may free them comes last.
    unsafe {
        let r = (*context).request;
        let Some(pipe) = (*context).pipe.clone() else {
            return;
        };
        loop {
            let room = move_on(r, &pipe);
            if !bits::request::reading_body(r) {
                return watch_client(r);
            }
            if room == Room::Full {
                return pause(context);
            }
            let rc = ngx_http_read_unbuffered_request_body(r);
            if rc != code::OK && rc != code::AGAIN {
                return fail(context, &pipe, rc);
            }
            if (*(*r).request_body).bufs.is_null() && bits::request::reading_body(r) {
                return;
            }
        }
    }
}

/// The application is slower than the client, which is not to be timed. Its going away is noticed.
unsafe fn pause(context: *mut Context) {
    // SAFETY: the context is not detached, its request is live.
    unsafe {
        let r = (*context).request;
        let rev = (*(*r).connection).read;
        if bits::event::timer_set(rev) {
            del_timer(rev);
        }
        bits::event::set_timedout(rev, false);
        if ngx_handle_read_event(rev, 0) != code::OK {
            return finish(context, code::INTERNAL_SERVER_ERROR);
        }
        ngx_http_test_reading(r);
    }
}

/// The body does not come to its end. The application is told first, so that it does not take its
/// exception for one of its own.
unsafe fn fail(context: *mut Context, pipe: &BodyPipe, rc: ngx_int_t) {
    // SAFETY: the context is not detached, its request is live.
    unsafe {
        let gone = bits::connection::error((*(*context).request).connection);
        (*context).exchange.cancel();
        pipe.fail(match rc {
            code::REQUEST_TIME_OUT => BodyError::TimedOut,
            code::REQUEST_ENTITY_TOO_LARGE => BodyError::TooLarge,
            code::BAD_REQUEST if !gone => BodyError::Malformed,
            _ => BodyError::Gone,
        });
        if (*context).head_taken {
            return abort(context);
        }
        let known = rc >= code::SPECIAL_RESPONSE;
        let rc = if known { rc } else { code::INTERNAL_SERVER_ERROR };
        finish(context, rc);
    }
}
