//! What the application tells nginx in X-Accel-* headers, as to an upstream.
//!
//! None of them goes to the client unless `wsgi_pass_header` names it, and none is obeyed that
//! `wsgi_ignore_headers` names. X-Accel-Buffering has been obeyed where the head was queued, before
//! the body. X-Accel-Expires is for caches: there is none, it changes nothing.
//! Called by `response`, `headers` and `intercept`. Runs on: event loop.

use std::ptr;

use ngx::core::Status;
use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_LOG_UNSAFE, NGX_HTTP_NOT_FOUND, NGX_OK, ngx_atoi, ngx_http_core_get_method,
    ngx_http_finalize_request, ngx_http_internal_redirect, ngx_http_named_location,
    ngx_http_parse_unsafe_uri, ngx_http_request_t, ngx_int_t, ngx_palloc, ngx_str_t, ngx_uint_t,
};

use super::conf;
use super::context::Context;
use super::headers::{copy, set_header};
use super::response::finish;
use super::sys::bits;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::passing::{Accel, Passing};

const INTERNAL_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// What of the application's headers outlives an X-Accel-Redirect: as with an upstream.
const KEPT: [&[u8]; 6] = [
    b"content-type",
    b"set-cookie",
    b"content-disposition",
    b"cache-control",
    b"expires",
    b"accept-ranges",
];

/// Does what X-Accel-Limit-Rate and X-Accel-Charset ask for; nothing for other names. False
/// without memory.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn obey(
    r: *mut ngx_http_request_t,
    passing: &Passing,
    name: &[u8],
    value: &[u8],
) -> bool {
    let Some(accel) = Accel::of(name).filter(|accel| !passing.ignores(*accel)) else {
        return true;
    };
    // SAFETY: the caller's request; the string and its holder are in its pool.
    unsafe {
        if accel == Accel::LimitRate {
            let rate = ngx_atoi(value.as_ptr().cast_mut(), value.len());
            if rate != NGX_ERROR as ngx_int_t {
                (*r).limit_rate = rate as usize;
                bits::request::set_limit_rate_set(r, true);
            }
        } else if accel == Accel::Charset {
            let charset: *mut ngx_str_t = ngx_palloc((*r).pool, size_of::<ngx_str_t>()).cast();
            let (false, Some(value)) = (charset.is_null(), copy(r, value)) else {
                return false;
            };
            *charset = value;
            (*r).headers_out.override_charset = charset;
        }
        true
    }
}

/// Gives the request to the location that X-Accel-Redirect names, if the head has it. The
/// application is told that nobody reads on. Returns whether this was done; then `context` may be
/// gone.
///
/// # Safety
///
/// As [`super::response::advance`].
pub unsafe fn redirect(context: *mut Context, head: &ResponseHead) -> bool {
    if !head.is_redirect() {
        return false;
    }
    let mut fields = head.fields();
    let Some((_, target)) = fields.find(|(name, _)| Accel::of(name) == Some(Accel::Redirect))
    else {
        return false;
    };
    // SAFETY: the request is live until it is finalized, which is the last thing done to it.
    unsafe {
        let r = (*context).request;
        if bits::request::post_action(r) {
            // It has no response.
            finish(context, Status::NGX_OK.into());
            return true;
        }
        let passing = &conf::of_request(r).passing;
        for (name, value) in head.fields() {
            let kept = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept));
            if (kept && !set_header(r, name, value)) || !obey(r, passing, name, value) {
                finish(context, INTERNAL_ERROR);
                return true;
            }
        }
        let Some(mut uri) = copy(r, target) else {
            finish(context, INTERNAL_ERROR);
            return true;
        };
        if target.first() == Some(&b'@') {
            (*context).detach();
            ngx_http_named_location(r, &mut uri);
        } else {
            let mut args = ngx_str_t { len: 0, data: ptr::null_mut() };
            let mut flags = NGX_HTTP_LOG_UNSAFE as ngx_uint_t;
            let rc = ngx_http_parse_unsafe_uri(r, &mut uri, &mut args, &mut flags);
            if rc != NGX_OK as ngx_int_t {
                finish(context, NGX_HTTP_NOT_FOUND as ngx_int_t);
                return true;
            }
            (*context).detach();
            if (*r).method != NGX_HTTP_HEAD as ngx_uint_t {
                (*r).method = NGX_HTTP_GET as ngx_uint_t;
                (*r).method_name = ngx_http_core_get_method;
            }
            ngx_http_internal_redirect(r, &mut uri, &mut args);
        }
        ngx_http_finalize_request(r, NGX_DONE as ngx_int_t);
        true
    }
}
