//! The answer to a request for the status.
//!
//! Runs on: event loop.

use std::ptr;

use ngx::ffi::{
    ngx_buf_t, ngx_chain_t, ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header,
    ngx_int_t, ngx_pcalloc, ngx_str_t, ngx_uint_t,
};

use super::collect;
use crate::nginx::config;
use crate::nginx::request::in_flight;
use crate::nginx::response::headers::push_header;
use crate::nginx::sys::{bits, code, pool};
use crate::wsgi::status::snapshot::Snapshot;
use crate::wsgi::status::wanted::Format;
use crate::wsgi::status::{html, json, prometheus, text};

/// What keeps a page from loading, running or being anything else than it is.
const HEADERS: [(&[u8], &[u8]); 3] = [
    (b"Cache-Control", b"no-store"),
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"X-Content-Type-Options", b"nosniff"),
];

/// Answers, when what is not in shared memory is known too, which `fill` adds.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn finish(r: *mut ngx_http_request_t, fill: impl FnOnce(&mut Snapshot)) -> ngx_int_t {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let wanted = config::of_request(r).status.unwrap_or_default();
        let Some((format, _)) = wanted.asked((*r).args.as_bytes()) else {
            return code::BAD_REQUEST;
        };
        // What this worker shows is of now.
        in_flight::show();
        let mut snapshot = collect::snapshot(config::main_of_request(r), wanted);
        fill(&mut snapshot);
        respond(r, format, &snapshot)
    }
}

/// Status and text.
fn written(format: Format, snapshot: &Snapshot) -> (ngx_int_t, String) {
    match format {
        Format::Html => (code::HTTP_OK, html::status(snapshot)),
        Format::Json => (code::HTTP_OK, json::status(snapshot)),
        Format::Prometheus => (code::HTTP_OK, prometheus::status(snapshot)),
        Format::Text => (code::HTTP_OK, text::status(snapshot)),
        Format::Ready => match text::ready(snapshot) {
            Ok(text) => (code::HTTP_OK, text),
            Err(text) => (code::SERVICE_UNAVAILABLE, text),
        },
    }
}

/// Sends the whole answer.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
unsafe fn respond(r: *mut ngx_http_request_t, format: Format, snapshot: &Snapshot) -> ngx_int_t {
    let (status, text) = written(format, snapshot);
    // SAFETY: the request is live, as the caller says; what is sent is in its pool.
    unsafe {
        let out = &raw mut (*r).headers_out;
        let content_type = format.content_type();
        let (Some(content_type), Some(body)) = (
            pool::copy((*r).pool, content_type.as_bytes()),
            pool::copy((*r).pool, text.as_bytes()),
        ) else {
            return code::INTERNAL_SERVER_ERROR;
        };
        (*out).status = status as ngx_uint_t;
        (*out).content_type = content_type;
        (*out).content_type_len = content_type.len;
        (*out).content_type_lowcase = ptr::null_mut();
        (*out).content_length_n = text.len() as i64;
        if HEADERS.iter().any(|(name, value)| push_header(r, name, value).is_none()) {
            return code::INTERNAL_SERVER_ERROR;
        }
        let rc = ngx_http_send_header(r);
        if rc == code::ERROR || rc > code::OK || bits::request::header_only(r) {
            return rc;
        }
        send(r, body)
    }
}

/// # Safety
///
/// `r` is a live request whose head has been sent, and `body` in its pool and not empty.
unsafe fn send(r: *mut ngx_http_request_t, body: ngx_str_t) -> ngx_int_t {
    // SAFETY: the request is live, as the caller says; the buffer is zeroed memory of its pool.
    unsafe {
        let b: *mut ngx_buf_t = ngx_pcalloc((*r).pool, size_of::<ngx_buf_t>()).cast();
        if b.is_null() {
            return code::ERROR;
        }
        (*b).pos = body.data;
        (*b).last = body.data.add(body.len);
        (*b).start = (*b).pos;
        (*b).end = (*b).last;
        bits::buffer::set_memory(b, true);
        bits::buffer::set_last_buf(b, r == (*r).main);
        bits::buffer::set_last_in_chain(b, true);
        let mut out = ngx_chain_t { buf: b, next: ptr::null_mut() };
        ngx_http_output_filter(r, &mut out)
    }
}
