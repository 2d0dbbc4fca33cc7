//! What a log says of a request: how long it waited, how long its application took, and with what
//! result. `variables.rs` shows it as `$wsgi_*` and among the `$upstream_*` of nginx.
//!
//! Kept in the request's context. It takes no clock: the event loop's own, as `$request_time`, and
//! the one that a thread has looked at when it took the request.
//! Runs on: event loop.

use std::ptr;
use std::time::Instant;

use libc::off_t;
use ngx::ffi::{
    ngx_current_msec, ngx_http_request_t, ngx_http_upstream_state_t, ngx_msec_t, ngx_str_t,
    ngx_uint_t,
};

use crate::nginx::config::LocConf;
use crate::wsgi::exchange::Taken;

/// nginx's word for a time that is not there.
const NO_TIME: ngx_msec_t = ngx_msec_t::MAX;

/// The times of one request with one application.
pub struct Timings {
    /// Upstream states that the request had before.
    pub states_before: usize,
    pub queued: Instant,
    start: ngx_msec_t,
    head: Option<ngx_msec_t>,
    end: Option<ngx_msec_t>,
    /// Zero: none yet.
    status: ngx_uint_t,
    /// Bytes of the body that the application has sent.
    length: u64,
}

impl Timings {
    /// Begins the times of `r`, which is `queued` now.
    ///
    /// # Safety
    ///
    /// `r` is a live request.
    pub unsafe fn open(r: *mut ngx_http_request_t, queued: Instant) -> Self {
        // SAFETY: the array of a live request, or null.
        let states_before = unsafe { (*r).upstream_states.as_ref().map_or(0, |all| all.nelts) };
        Self { states_before, queued, start: now(), head: None, end: None, status: 0, length: 0 }
    }

    /// When it began, in milliseconds of nginx's clock.
    pub fn start(&self) -> u64 {
        self.start as u64
    }

    /// From then to the end, in microseconds.
    pub fn duration(&self) -> u64 {
        1000 * self.since_start(self.end.unwrap_or_else(now)) as u64
    }

    /// From then to the head of the response, in microseconds.
    pub fn until_head(&self) -> u64 {
        1000 * self.since_start(self.head.unwrap_or_else(now)) as u64
    }

    /// Until a thread took the request, in microseconds.
    pub fn waited(&self, taken: Taken) -> u64 {
        let waited = taken.at.saturating_duration_since(self.queued);
        u64::try_from(waited.as_micros()).unwrap_or(u64::MAX)
    }

    /// 0: none yet.
    pub fn status(&self) -> usize {
        self.status
    }

    /// The application has answered with this status.
    pub fn head(&mut self, status: u16) {
        self.head = Some(now());
        self.status = status.into();
    }

    /// nginx answers with this status, unless the application has answered.
    pub fn refused(&mut self, status: isize) {
        if self.status == 0 {
            self.status = ngx_uint_t::try_from(status).unwrap_or_default();
        }
    }

    pub fn received(&mut self, bytes: u64) {
        self.length += bytes;
    }

    /// The application has ended, or nginx has no more use for it. Only the first call counts.
    pub fn close(&mut self) {
        self.end.get_or_insert_with(now);
    }

    fn since_start(&self, at: ngx_msec_t) -> ngx_msec_t {
        // As nginx: the clock may have been set between two of its looks.
        ngx_msec_t::try_from(at.wrapping_sub(self.start).cast_signed()).unwrap_or_default()
    }

    /// Milliseconds until a thread took the request, if one has.
    pub fn queue_time(&self, taken: Option<Taken>) -> Option<ngx_msec_t> {
        let waited = taken?.at.saturating_duration_since(self.queued);
        ngx_msec_t::try_from(waited.as_millis()).ok()
    }

    /// Milliseconds from then to the end.
    pub fn app_time(&self, taken: Option<Taken>) -> Option<ngx_msec_t> {
        Some(self.since_start(self.end?).saturating_sub(self.queue_time(taken)?))
    }

    /// The same in nginx's terms. "Connected" is when a thread took the request.
    pub fn state(&self, taken: Option<Taken>, conf: &LocConf) -> ngx_http_upstream_state_t {
        let time = |at: Option<ngx_msec_t>| at.map_or(NO_TIME, |at| self.since_start(at));
        // SAFETY: all-zero bytes are a valid state.
        let mut state = unsafe { std::mem::zeroed::<ngx_http_upstream_state_t>() };
        state.status = self.status;
        state.connect_time = self.queue_time(taken).unwrap_or(NO_TIME);
        state.header_time = time(self.head);
        state.response_time = time(self.end);
        state.response_length = off_t::try_from(self.length).unwrap_or(off_t::MAX);
        state.bytes_received = state.response_length;
        // A state without a peer would be a separator.
        state.peer =
            conf.app_text.as_ref().map_or(ptr::null(), ptr::from_ref::<ngx_str_t>).cast_mut();
        state
    }
}

/// nginx's clock in milliseconds, as it was when the event loop last woke.
fn now() -> ngx_msec_t {
    // SAFETY: a number that only the event loop's thread changes.
    unsafe { ptr::read_volatile(&raw const ngx_current_msec) }
}
