//! The client of a request: notices when it goes away.
//!
//! Runs on: event loop.

use ngx::ffi::{
    NGX_HTTP_VERSION_20, ngx_http_request_t, ngx_http_test_reading, ngx_posted_events, ngx_uint_t,
};

use crate::nginx::config;
use crate::nginx::sys::bits;
use crate::nginx::sys::event::post_event;

/// Notices when the client goes away. May free the request.
///
/// # Safety
///
/// `r` is a live request whose body is complete.
pub unsafe fn watch_client(r: *mut ngx_http_request_t) {
    // SAFETY: a live request that waits for its application.
    unsafe {
        if bits::request::post_action((*r).main) || config::of_request(r).ignores_client_abort() {
            // It runs when the client has its response, and may be gone.
            return;
        }
        (*r).read_event_handler = Some(ngx_http_test_reading);
        // Its end may have been seen while the body was read; there is no second event for it.
        let read = (*(*r).connection).read;
        if (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t && bits::event::pending_eof(read) {
            ngx_http_test_reading(r);
        }
    }
}

/// A subrequest had the connection's events: what the client has sent meanwhile is still to be
/// read.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn look_again(r: *mut ngx_http_request_t) {
    // SAFETY: the request is live, as the caller says; nginx takes the event out when it closes the
    // connection.
    unsafe {
        if bits::request::reading_body(r) {
            let rev = (*(*r).connection).read;
            // Nobody has looked whether the client was in time.
            bits::event::set_timedout(rev, false);
            post_event(rev, &raw mut ngx_posted_events);
        }
    }
}
