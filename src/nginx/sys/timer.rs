//! What the event loop does for the worker itself, not for a request: at a time, or at the end of
//! its turn.
//!
//! Timers are cancelable, but for [`Timer::holding`]: a leaving worker does not wait for them.
//! Runs on: event loop.

use std::cell::{OnceCell, UnsafeCell};
use std::ptr;

use ngx::ffi::{ngx_current_msec, ngx_event_t, ngx_log_t, ngx_msec_t, ngx_posted_events};

use super::bits;
use super::event::{add_timer, del_timer, post_event};
use super::panic::protect;

/// An event of nginx's with what it calls. Never freed: nginx keeps a pointer to the event.
struct Callback {
    event: UnsafeCell<ngx_event_t>,
    act: OnceCell<Box<dyn Fn()>>,
}

impl Callback {
    /// `log` must be good for the life of the process.
    fn leak(log: *mut ngx_log_t, holds: Holds) -> &'static Self {
        // SAFETY: all-zero bytes are an event that is not in use.
        let event = UnsafeCell::new(unsafe { std::mem::zeroed::<ngx_event_t>() });
        let this: &'static Self = Box::leak(Box::new(Self { event, act: OnceCell::new() }));
        let event = this.event.get();
        // SAFETY: an event that nobody else has yet.
        unsafe {
            (*event).data = ptr::from_ref(this).cast_mut().cast();
            (*event).handler = Some(ngx_http_wsgi_callback);
            (*event).log = log;
            bits::event::set_cancelable(event, holds == Holds::Nobody);
        }
        this
    }
}

unsafe extern "C" fn ngx_http_wsgi_callback(ev: *mut ngx_event_t) {
    protect((), || {
        // SAFETY: `leak` has set the data to the callback that the event is part of.
        let callback = unsafe { &*(*ev).data.cast::<Callback>() };
        if let Some(act) = callback.act.get() {
            act();
        }
    });
}

/// Whom a timer that is set holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nobody,
    /// The worker, when it leaves.
    Worker,
}

/// A timer, not set at first.
pub struct Timer(&'static Callback);

impl Timer {
    /// `log` must be good for the life of the process.
    pub fn new(log: *mut ngx_log_t) -> Self {
        Self(Callback::leak(log, Holds::Nobody))
    }

    /// As [`Self::new`], but a worker does not leave while it is set.
    pub fn holding(log: *mut ngx_log_t) -> Self {
        Self(Callback::leak(log, Holds::Worker))
    }

    /// What is done when the time has come. Only the first call counts.
    pub fn calls(&self, act: impl Fn() + 'static) {
        let _ = self.0.act.set(Box::new(act));
    }

    /// In so many milliseconds, and not when it was to be before.
    pub fn set(&self, time: ngx_msec_t) {
        let event = self.0.event.get();
        // SAFETY: only the event loop's thread comes here; the event is never freed.
        unsafe {
            // ngx_add_timer ignores changes under 300 ms.
            if self.is_set() {
                del_timer(event);
            }
            add_timer(event, time);
        }
    }

    /// The same unless it is set for an earlier time.
    pub fn set_by(&self, time: ngx_msec_t) {
        // SAFETY: only the event loop's thread changes the event and nginx's clock, and this is it.
        let due = unsafe { (*self.0.event.get()).timer.key.wrapping_sub(ngx_current_msec) };
        // nginx's times wrap around.
        if !self.is_set() || due.cast_signed() > time.cast_signed() {
            self.set(time);
        }
    }

    /// Nothing is done any more.
    pub fn clear(&self) {
        if self.is_set() {
            // SAFETY: on the event loop's thread; a timer that is set is in nginx's tree.
            unsafe { del_timer(self.0.event.get()) };
        }
    }

    pub fn is_set(&self) -> bool {
        // SAFETY: only the event loop's thread changes the event, and this is it.
        unsafe { bits::event::timer_set(self.0.event.get()) }
    }
}

/// Something that is done when all events of this turn of the loop have been handled.
pub struct Posted(&'static Callback);

impl Posted {
    /// `log` must be good for the life of the process.
    pub fn new(log: *mut ngx_log_t) -> Self {
        Self(Callback::leak(log, Holds::Nobody))
    }

    /// What is done. Only the first call counts.
    pub fn calls(&self, act: impl Fn() + 'static) {
        let _ = self.0.act.set(Box::new(act));
    }

    /// Has it done, once however often this is called in a turn.
    pub fn post(&self) {
        // SAFETY: on the event loop's thread, whose queue this is; the event is never freed.
        unsafe { post_event(self.0.event.get(), &raw mut ngx_posted_events) };
    }
}
