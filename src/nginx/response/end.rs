//! The end of a request with an application: whole, refused, or cut.
//!
//! nginx does not protect the framing of a content handler, so an exchange that failed after its
//! head never ends cleanly here: the connection (HTTP/1) or stream (HTTP/2) is aborted.
//! Runs on: event loop.

use std::mem;

use ngx::ffi::{
    NGX_HTTP_VERSION_20, ngx_connection_t, ngx_http_finalize_request, ngx_int_t, ngx_uint_t,
};

use crate::nginx::request::context::Context;
use crate::nginx::sys::{bits, code, log};
use crate::nginx::worker::worker;
use crate::wsgi::error::Failure;
use crate::wsgi::mailbox::{Level, LogRecord};

/// HTTP status and log level of a failed exchange. The application's own mistakes have been logged
/// with all details where they happened, except Underrun and Lost, which only the caller logs.
pub fn failure(failure: Failure) -> (ngx_int_t, Level) {
    match failure {
        Failure::Application | Failure::Protocol | Failure::Import | Failure::Spool => {
            (code::INTERNAL_SERVER_ERROR, Level::Info)
        }
        // Nobody else knows. A panic has its own alert.
        Failure::Underrun | Failure::Lost => (code::INTERNAL_SERVER_ERROR, Level::Error),
        Failure::Died => (code::BAD_GATEWAY, Level::Error),
    }
}

/// Cuts a response whose head has been sent: the application failed, or was silent too long.
///
/// # Safety
///
/// The context is not detached. It and its request may be freed: afterwards only the connection
/// may be looked at.
pub unsafe fn abort(context: *mut Context) {
    // SAFETY: a context that is not detached and its request are live.
    unsafe {
        let r = (*context).request;
        if let Some(Err(failure)) = (*context).end {
            let (_, level) = self::failure(failure);
            log::write_request(r, level, format_args!("{failure}, response is cut"));
        }
        let main = (*r).main;
        // A post_action would end it well, with a connection that goes on.
        bits::request::set_keepalive(main, false);
        let until_close = (*main).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t
            && !bits::request::chunked(main)
            && (*main).headers_out.content_length_n == -1;
        if until_close {
            reset_at_close((*r).connection);
        }
        finish(context, code::ERROR);
    }
}

/// The body ends with the connection: only a reset tells the client that it is cut, and with TLS
/// only the missing close_notify.
unsafe fn reset_at_close(c: *mut ngx_connection_t) {
    // SAFETY: a live connection.
    unsafe {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        libc::setsockopt(
            (*c).fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            mem::size_of::<libc::linger>() as libc::socklen_t,
        );
        #[cfg(ngx_feature = "ssl")]
        if !(*c).ssl.is_null() {
            bits::tls::set_no_send_shutdown((*c).ssl, true);
            bits::tls::set_no_wait_shutdown((*c).ssl, true);
        }
    }
}

/// Writes what the application has said, and no mail has told of yet: the request, which is the
/// context of that, may be over soon.
///
/// # Safety
///
/// The context is not detached.
pub unsafe fn write_last_lines(context: *mut Context) {
    let Some(worker) = worker() else { return };
    // SAFETY: the context is not detached, and its request is live.
    unsafe {
        for LogRecord { level, text, .. } in worker.mailbox.take_logs((*context).exchange.id()) {
            log::write_request_lines((*context).request, level, &text);
        }
    }
}

/// Gives the request back to nginx with `rc`. The application is told if it still runs.
///
/// # Safety
///
/// The context is not detached. It and its request may be freed: afterwards only the connection
/// may be looked at.
pub unsafe fn finish(context: *mut Context, rc: ngx_int_t) {
    // SAFETY: the request is live; its body reader's reference is ours and given back here, once.
    unsafe {
        let r = (*context).request;
        write_last_lines(context);
        (*context).detach();
        (*context).timings.refused(rc);
        // A post_action has no response of its own, and the client's must not suffer.
        let failed = rc >= code::SPECIAL_RESPONSE;
        let rc = if failed && bits::request::post_action(r) { code::OK } else { rc };
        ngx_http_finalize_request(r, rc);
    }
}
