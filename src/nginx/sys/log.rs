//! nginx's error log: the only place that names its levels and its macros.
//!
//! Lines of the application come through the worker's mailbox, because only the event loop may
//! walk a request for its context (client, server, request, host).
//! Runs on: event loop.

use std::fmt;

use ngx::ffi::{
    NGX_LOG_ALERT, NGX_LOG_CRIT, NGX_LOG_DEBUG, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO,
    NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_conf_t, ngx_http_request_t, ngx_log_t, ngx_uint_t,
};
use ngx::{ngx_conf_log_error, ngx_log_error};

use crate::wsgi::mailbox::Level;

/// nginx's number for a level.
fn number(level: Level) -> ngx_uint_t {
    let number = match level {
        Level::Emerg => NGX_LOG_EMERG,
        Level::Alert => NGX_LOG_ALERT,
        Level::Crit => NGX_LOG_CRIT,
        Level::Error => NGX_LOG_ERR,
        Level::Warn => NGX_LOG_WARN,
        Level::Notice => NGX_LOG_NOTICE,
        Level::Info => NGX_LOG_INFO,
        Level::Debug => NGX_LOG_DEBUG,
    };
    number as ngx_uint_t
}

/// Writes one record to `log`.
///
/// # Safety
///
/// `log` is a live log of this cycle.
pub unsafe fn write(log: *mut ngx_log_t, at: Level, text: fmt::Arguments<'_>) {
    // SAFETY: `log` is live, as the caller says; the macro reads its level and writes one record.
    #[allow(clippy::macro_metavars_in_unsafe, unused_unsafe)]
    unsafe {
        ngx_log_error!(number(at), log, "{text}");
    }
}

/// Writes one record to the log of the cycle that this process is in.
pub fn write_here(at: Level, text: fmt::Arguments<'_>) {
    // SAFETY: nginx has a cycle and a log before it calls any module.
    unsafe { write((*ngx::ffi::ngx_cycle).log, at, text) };
}

/// Writes one record about this worker to the log of its cycle.
pub fn write_worker(at: Level, text: &str) {
    write_here(at, format_args!("wsgi worker {text}"));
}

/// Writes one record that ends with file and line of the configuration that is being read.
pub fn write_conf(cf: *mut ngx_conf_t, at: Level, text: fmt::Arguments<'_>) {
    let level = number(at) as u32;
    ngx_conf_log_error!(level, cf, "{text}");
}

/// Writes one record with the context of a request.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn write_request(r: *mut ngx_http_request_t, at: Level, text: fmt::Arguments<'_>) {
    // SAFETY: a live request has a connection, and that a log whose data nginx keeps for it.
    unsafe {
        let log = (*(*r).connection).log;
        set_log_request(log, r);
        write(log, at, text);
    }
}

/// Writes a record for each line of a text.
///
/// # Safety
///
/// As of [`write`].
pub unsafe fn write_lines(log: *mut ngx_log_t, at: Level, text: &str) {
    for line in text.split('\n') {
        // SAFETY: the log is live, as the caller says.
        unsafe { write(log, at, format_args!("{line}")) };
    }
}

/// The same with the context of a request behind the first line. The others have what nginx puts
/// before the text, the connection's number among it, and go to the same logs.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn write_request_lines(r: *mut ngx_http_request_t, at: Level, text: &str) {
    let (first, rest) = text.split_once('\n').map_or((text, None), |(a, b)| (a, Some(b)));
    // SAFETY: the request is live, as the caller says, and its connection's log as long. Nobody
    // else writes to that while its handler is away: this is the event loop's only thread.
    unsafe {
        write_request(r, at, format_args!("{first}"));
        if let Some(rest) = rest {
            let log = (*(*r).connection).log;
            let handler = (*log).handler.take();
            write_lines(log, at, rest);
            (*log).handler = handler;
        }
    }
}

/// nginx's ngx_http_set_log_request(): log records name this (sub)request.
///
/// # Safety
///
/// `log` is the log of the connection of the live request `r`.
pub unsafe fn set_log_request(log: *mut ngx_log_t, r: *mut ngx_http_request_t) {
    // SAFETY: the data of an HTTP connection's log is an ngx_http_log_ctx_t.
    unsafe {
        let ctx: *mut ngx::ffi::ngx_http_log_ctx_t = (*log).data.cast();
        (*ctx).current_request = r;
    }
}
