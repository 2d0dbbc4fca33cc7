//! What the application tells nginx in X-Accel-* headers, as to an upstream.
//!
//! None of them goes to the client unless `wsgi_pass_header` names it, and none is obeyed that
//! `wsgi_ignore_headers` names. X-Accel-Buffering has been obeyed where the head was queued, before
//! the body. X-Accel-Expires is for caches: there is none, it changes nothing.
//! X-Accel-Limit-Rate and X-Accel-Charset are obeyed by `headers`. Runs on: event loop.

use std::ptr;

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_LOG_UNSAFE, ngx_http_core_get_method,
    ngx_http_finalize_request, ngx_http_internal_redirect, ngx_http_named_location,
    ngx_http_parse_unsafe_uri, ngx_str_t, ngx_uint_t,
};

use super::end::finish;
use super::headers::{obey, set_header};
use crate::nginx::config;
use crate::nginx::request::context::Context;
use crate::nginx::sys::pool::copy;
use crate::nginx::sys::{bits, code};
use crate::wsgi::header_policy::Accel;

/// What of the application's headers outlives an X-Accel-Redirect: as with an upstream.
const KEPT: [&[u8]; 6] = [
    b"content-type",
    b"set-cookie",
    b"content-disposition",
    b"cache-control",
    b"expires",
    b"accept-ranges",
];

/// Gives the request to the location that X-Accel-Redirect names, if the head has it. The
/// application is told that nobody reads on. Returns whether this was done; then `context` may be
/// gone.
///
/// # Safety
///
/// As [`super::advance`].
pub unsafe fn redirect(context: *mut Context) -> bool {
    // SAFETY: the context lives as long as its request, which is finalized last.
    let head = unsafe { (*context).head.as_ref() };
    let Some(head) = head.filter(|head| head.is_redirect()) else {
        return false;
    };
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
            finish(context, code::OK);
            return true;
        }
        let policy = &config::of_request(r).policy;
        for (name, value) in head.fields() {
            let kept = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept));
            if (kept && !set_header(r, name, value)) || !obey(r, policy, name, value) {
                finish(context, code::INTERNAL_SERVER_ERROR);
                return true;
            }
        }
        let Some(mut uri) = copy((*r).pool, target) else {
            finish(context, code::INTERNAL_SERVER_ERROR);
            return true;
        };
        if target.first() == Some(&b'@') {
            (*context).detach();
            ngx_http_named_location(r, &mut uri);
        } else {
            let mut args = ngx_str_t { len: 0, data: ptr::null_mut() };
            let mut flags = NGX_HTTP_LOG_UNSAFE as ngx_uint_t;
            let rc = ngx_http_parse_unsafe_uri(r, &mut uri, &mut args, &mut flags);
            if rc != code::OK {
                finish(context, code::NOT_FOUND);
                return true;
            }
            (*context).detach();
            if (*r).method != NGX_HTTP_HEAD as ngx_uint_t {
                (*r).method = NGX_HTTP_GET as ngx_uint_t;
                (*r).method_name = ngx_http_core_get_method;
            }
            ngx_http_internal_redirect(r, &mut uri, &mut args);
        }
        ngx_http_finalize_request(r, code::DONE);
        true
    }
}
