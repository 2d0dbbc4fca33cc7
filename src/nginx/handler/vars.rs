//! What an application is told of a request: its vars, with the path below `wsgi_mount`.
//!
//! Runs on: event loop.

use ngx::ffi::{ngx_http_request_t, ngx_int_t};

use crate::nginx::config::{self, LocConf};
use crate::nginx::request::vars::request_vars;
use crate::nginx::sys::{code, log};
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::vars::Vars;

/// SCRIPT_NAME and PATH_INFO (RFC 3875 sections 4.1.5 and 4.1.13); whole segments only.
pub fn split_path<'a>(uri: &'a [u8], mount: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = uri.strip_prefix(mount)?;
    matches!((mount, rest), ([], _) | (_, [] | [b'/', ..])).then(|| uri.split_at(mount.len()))
}

/// The vars of the request. `body`: its length, as far as it is known; `left`: to be written over.
///
/// # Safety
///
/// `r` is a live request of this location.
pub unsafe fn vars(
    r: *mut ngx_http_request_t,
    conf: &LocConf,
    body: Option<u64>,
    left: Vars,
) -> Result<Vars, ngx_int_t> {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let path = split_path((*r).uri.as_bytes(), conf.mount()).ok_or(code::NOT_FOUND)?;
        let main = config::main_of_request(r);
        request_vars(r, main, conf, path, body, left).map_err(|err| {
            log::write_request(r, Level::Info, format_args!("request variables: {err}"));
            code::BAD_REQUEST
        })
    }
}
