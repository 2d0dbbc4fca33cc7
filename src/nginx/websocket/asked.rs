//! Which requests ask for a WebSocket.
//!
//! RFC 6455 section 4.2.1, but for what the application looks at itself: key, version, origin.
//! Runs on: event loop.

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_VERSION_11, ngx_http_request_t, ngx_table_elt_t, ngx_uint_t,
};

use crate::nginx::sys::{bits, list};
use crate::wsgi::upgrade::has_token;

/// Whether `r` asks for a WebSocket, over HTTP/1.1 and without a body.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn asks_for_websocket(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the request is live, as the caller says; the list holds ngx_table_elt_t's that live as
    // long.
    unsafe {
        let is_plain = r == (*r).main
            && (*r).http_version == NGX_HTTP_VERSION_11 as ngx_uint_t
            && (*r).method == NGX_HTTP_GET as ngx_uint_t
            && (*r).headers_in.content_length_n <= 0
            && !bits::headers_in::chunked(&raw const (*r).headers_in)
            && !bits::request::post_action(r);
        let has = |name: &[u8], token: &[u8]| {
            list::elements::<ngx_table_elt_t>(&raw const (*r).headers_in.headers).any(|field| {
                (*field).key.as_bytes().eq_ignore_ascii_case(name)
                    && has_token((*field).value.as_bytes(), token)
            })
        };
        is_plain && has(b"upgrade", b"websocket") && has(b"connection", b"upgrade")
    }
}
