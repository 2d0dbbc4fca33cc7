//! `wsgi_status`: a location that shows how the workers do, without Python, a thread or the GIL.
//!
//! `collect.rs` reads what all workers have left in shared memory, `stacks.rs` asks them for what is
//! not there; `wsgi/status` writes it down, and `answer.rs` sends it.
//! Runs on: event loop.

mod collect;

mod answer;

pub mod stacks;

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, ngx_http_discard_request_body, ngx_http_request_t, ngx_int_t,
};

use self::answer::finish;
use super::config;
use super::sys::code;
use super::sys::panic::protect;

/// The handler of a location with `wsgi_status`.
///
/// # Safety
///
/// Called by nginx in the content phase.
pub unsafe extern "C" fn ngx_http_wsgi_status(r: *mut ngx_http_request_t) -> ngx_int_t {
    protect(code::INTERNAL_SERVER_ERROR, || {
        // SAFETY: nginx's request.
        unsafe {
            if (*r).method as u32 & (NGX_HTTP_GET | NGX_HTTP_HEAD) == 0 {
                return code::NOT_ALLOWED;
            }
            let wanted = config::of_request(r).status.unwrap_or_default();
            let Some((_, has_stacks)) = wanted.asked((*r).args.as_bytes()) else {
                return code::BAD_REQUEST;
            };
            if has_stacks && r == (*r).main {
                return stacks::ask(r);
            }
            match ngx_http_discard_request_body(r) {
                code::OK => finish(r, |_| ()),
                rc => rc,
            }
        }
    })
}
