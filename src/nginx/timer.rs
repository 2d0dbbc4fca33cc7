//! A timer of the worker itself, not of a request: `watch`, `retire` and `reload` have one each.
//!
//! It is cancelable: a leaving worker does not wait for it.
//! Runs on: event loop.

use std::cell::UnsafeCell;

use ngx::ffi::{ngx_current_msec, ngx_event_handler_pt, ngx_event_t, ngx_log_t, ngx_msec_t};

use super::sys::bits;
use super::sys::event::{add_timer, del_timer};

/// Lives as long as the process: nginx keeps a pointer to its event.
pub struct Timer(&'static UnsafeCell<ngx_event_t>);

impl Timer {
    /// One that is not set. `handler` must be good for the life of the process, and `log` too.
    pub fn new(handler: ngx_event_handler_pt, log: *mut ngx_log_t) -> Self {
        // SAFETY: all-zero bytes are an event that is not in use.
        let timer = Box::leak(Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() })));
        let event: &mut ngx_event_t = timer.get_mut();
        event.handler = handler;
        event.log = log;
        // SAFETY: an event that nobody else has yet.
        unsafe { bits::event::set_cancelable(event, true) };
        Self(timer)
    }

    /// Calls the handler in so many milliseconds, and not when it was to be called before.
    pub fn set(&self, time: ngx_msec_t) {
        let event = self.0.get();
        // SAFETY: only the event loop's thread comes here; the event is never freed.
        unsafe {
            // nginx would leave it almost as it is.
            if self.is_set() {
                del_timer(event);
            }
            add_timer(event, time);
        }
    }

    /// The same unless it is set for an earlier time.
    pub fn set_by(&self, time: ngx_msec_t) {
        // SAFETY: as above; nginx's clock is a plain variable of this thread.
        let due = unsafe { (*self.0.get()).timer.key.wrapping_sub(ngx_current_msec) };
        if !self.is_set() || due.cast_signed() > time.cast_signed() {
            self.set(time);
        }
    }

    /// The handler is not called any more.
    pub fn clear(&self) {
        if self.is_set() {
            // SAFETY: as above; the event is in nginx's tree.
            unsafe { del_timer(self.0.get()) };
        }
    }

    pub fn is_set(&self) -> bool {
        // SAFETY: as above.
        unsafe { bits::event::timer_set(self.0.get()) }
    }
}
