//! A location that a request comes to while its body goes, or has gone, to an application piece by
//! piece (`wsgi_request_buffering off`): it gets an empty one.
//!
//! Nothing is left of such a body, but the fields of the request still promise it. nginx would
//! announce it on a kept upstream connection, where the next client's request would be taken for
//! it. All ways to a location pass the rewrite phases: X-Accel-Redirect, error_page, post_action,
//! and subrequests, whose fields are a copy of their parent's.
//! Runs on: event loop.

use std::ptr;

use ngx::ffi::{
    ngx_array_push, ngx_http_core_main_conf_t, ngx_http_handler_pt,
    ngx_http_phases_NGX_HTTP_REWRITE_PHASE, ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE,
    ngx_http_request_body_t, ngx_http_request_t, ngx_int_t, ngx_pcalloc,
};

use super::context::Context;
use crate::nginx::sys::event::del_timer;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{bits, code};

/// Before nginx compares the length with the location's client_max_body_size, and, for a named
/// location, which has only the second of the two, before anything there looks at it.
const PHASES: [u32; 2] =
    [ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE, ngx_http_phases_NGX_HTTP_REWRITE_PHASE];

/// Puts the handler into nginx's phases; false without memory.
///
/// # Safety
///
/// Called in postconfiguration, with the core module's main configuration.
pub unsafe fn register(cmcf: *mut ngx_http_core_main_conf_t) -> bool {
    PHASES.into_iter().all(|phase| {
        // SAFETY: the core module's main configuration is live; nginx has made an array of handlers
        // for each phase.
        unsafe {
            let handlers = &raw mut (*cmcf).phases[phase as usize].handlers;
            let place: *mut ngx_http_handler_pt = ngx_array_push(handlers).cast();
            if !place.is_null() {
                place.write(Some(ngx_http_wsgi_leave_body));
            }
            !place.is_null()
        }
    })
}

unsafe extern "C" fn ngx_http_wsgi_leave_body(r: *mut ngx_http_request_t) -> ngx_int_t {
    protect(code::INTERNAL_SERVER_ERROR, || {
        // SAFETY: nginx's request.
        unsafe {
            if !promises_what_is_gone(r) || leave_body(r) {
                code::DECLINED
            } else {
                code::INTERNAL_SERVER_ERROR
            }
        }
    })
}

/// Whether `r` still has the length, or the coding, of a body that nobody can have any more.
unsafe fn promises_what_is_gone(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let fields = &raw const (*r).headers_in;
        ((*fields).content_length_n != -1 || bits::headers_in::chunked(fields)) && is_gone(r)
    }
}

/// Whether the body of `r` has gone piece by piece to whoever had the request before, in part or
/// altogether.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn is_gone(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: a live request has a main request. One that has just come has no body yet.
    unsafe {
        let main = (*r).main;
        !(*main).request_body.is_null()
            && (bits::request::reading_body(main)
                || Context::all_of(main).into_iter().any(|context| (*context).takes_body))
    }
}

/// Makes `r` a request without a body; false without memory. `reading_body` stays, by which nginx
/// knows that the client may send more, and ends its connection or stream with the response.
unsafe fn leave_body(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the request is live, as the caller says. Its fields are its own; a main request that
    // comes to another location has left the one that read its body.
    unsafe {
        let body = ngx_pcalloc((*r).pool, size_of::<ngx_http_request_body_t>());
        if body.is_null() {
            return false;
        }
        (*r).request_body = body.cast();
        bits::request::set_request_body_no_buffering(r, false);
        let fields = &raw mut (*r).headers_in;
        (*fields).content_length = ptr::null_mut();
        (*fields).content_length_n = -1;
        bits::headers_in::set_chunked(fields, false);
        let rev = (*(*r).connection).read;
        if r == (*r).main && bits::event::timer_set(rev) {
            // client_body_timeout: nothing of the body is waited for.
            del_timer(rev);
        }
        true
    }
}
