//! `wsgi_intercept_errors`: an error_page in place of what the application answers.
//!
//! Called by `response`, as nginx's upstream modules do: before X-Accel-Redirect counts.
//! Runs on: event loop.

use ngx::ffi::{ngx_http_err_page_t, ngx_http_request_t, ngx_int_t};

use super::end::finish;
use super::headers::{obey, set_header};
use crate::nginx::config;
use crate::nginx::request::context::Context;
use crate::nginx::sys::code;

/// Gives the request to the error_page for this status, if errors are intercepted and there is
/// one. The application is told that nobody reads on. Returns whether this was done; then
/// `context` may be gone.
///
/// # Safety
///
/// As [`super::advance`].
pub unsafe fn intercept(context: *mut Context) -> bool {
    // SAFETY: the request is live until it is finished, which is the last thing done to it.
    unsafe {
        let (r, Some(head)) = ((*context).request, (*context).head.as_ref()) else {
            return false;
        };
        let code = ngx_int_t::try_from(head.code()).unwrap_or_default();
        let policy = &config::of_request(r).policy;
        if code < code::SPECIAL_RESPONSE || !policy.intercepts_errors() || !has_page(r, code) {
            return false;
        }
        let challenge = |name: &[u8]| {
            code == code::UNAUTHORIZED && name.eq_ignore_ascii_case(b"www-authenticate")
        };
        for (name, value) in head.fields() {
            if !obey(r, policy, name, value) || (challenge(name) && !set_header(r, name, value)) {
                finish(context, code::INTERNAL_SERVER_ERROR);
                return true;
            }
        }
        finish(context, code);
        true
    }
}

/// Whether the location of `r` has an error_page for this status.
unsafe fn has_page(r: *mut ngx_http_request_t, code: ngx_int_t) -> bool {
    // SAFETY: a live request has a configuration of the core module, whose array is null or one
    // of error pages.
    unsafe {
        let pages = config::core_of_request(r).error_pages;
        !pages.is_null()
            && (*pages).as_slice::<ngx_http_err_page_t>().iter().any(|page| page.status == code)
    }
}
