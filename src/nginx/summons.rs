//! How the event loop calls the threads of one pool.
//!
//! A sleeping runner is woken when all events of this turn of the loop have been handled, so that
//! it finds all their requests at once; at each of them it would be up and asleep again before the
//! next. A timer looks whether waiting requests need another thread: `dispatch` arms it when the
//! queue expects a runner to come back soon (`wsgi::queue::Summons::CheckLater`) or nginx has refused
//! to take one, and there is none while nothing waits. It does not hold up a leaving worker: the requests' own timers do.
//! Runs on: event loop.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use ngx::ffi::{ngx_current_msec, ngx_event_handler_pt, ngx_event_t, ngx_log_t, ngx_posted_events};

use super::dispatch;
use super::guard::protect;
use super::sys::bits;
use super::sys::event::{add_timer, del_timer, post_event};

/// nginx counts in milliseconds: no timer is shorter.
const MOMENT: usize = 1;

/// How long until nginx is asked once more for a thread that it has refused; it logs each refusal.
const RETRY: usize = 1000;

/// The two events of one pool. Lives as long as the process: nginx keeps pointers to it.
pub struct PoolEvents {
    check: UnsafeCell<ngx_event_t>,
    wake: UnsafeCell<ngx_event_t>,
    pool: usize,
}

impl PoolEvents {
    pub fn leak(pool: usize, log: *mut ngx_log_t) -> &'static Self {
        // SAFETY: all-zero bytes are an event that is not in use.
        let unused = || UnsafeCell::new(unsafe { std::mem::zeroed() });
        let this: &'static mut Self =
            Box::leak(Box::new(Self { check: unused(), wake: unused(), pool }));
        let data: *mut c_void = std::ptr::from_mut(this).cast();
        let handlers: [(_, ngx_event_handler_pt); 2] = [
            (&mut this.check, Some(ngx_http_wsgi_check)),
            (&mut this.wake, Some(ngx_http_wsgi_wake)),
        ];
        for (event, handler) in handlers {
            let event = event.get_mut();
            event.data = data;
            event.handler = handler;
            event.log = log;
            // SAFETY: an event that nobody else has yet.
            unsafe { bits::event::set_cancelable(event, true) };
        }
        this
    }

    /// Looks in a moment. Calling it again before that changes nothing.
    pub fn check_later(&self) {
        self.check_in(MOMENT);
    }

    /// Looks after a while though no request may come that would.
    pub fn retry(&self) {
        self.check_in(RETRY);
    }

    fn check_in(&self, time: usize) {
        // SAFETY: only the event loop's thread comes here; the event is never freed.
        unsafe {
            let event = self.check.get();
            if bits::event::timer_set(event) {
                // nginx's times wrap around.
                let sooner = (*event).timer.key.wrapping_sub(ngx_current_msec.wrapping_add(time));
                if sooner as isize <= 0 {
                    return;
                }
                // nginx leaves a timer as it is that is to be set a little sooner.
                del_timer(event);
            }
            add_timer(event, time);
        }
    }

    /// Wakes the runner that the queue has called, at the end of this turn of the loop.
    pub fn wake_soon(&self) {
        // SAFETY: as above; nginx's queue of posted events is its loop's too.
        unsafe { post_event(self.wake.get(), &raw mut ngx_posted_events) };
    }
}

/// The pool that an event is of.
///
/// # Safety
///
/// The event is one of a [`PoolEvents`].
unsafe fn pool(ev: *mut ngx_event_t) -> usize {
    // SAFETY: its data is what it is part of, which is never freed.
    unsafe { (*(*ev).data.cast::<PoolEvents>()).pool }
}

unsafe extern "C" fn ngx_http_wsgi_check(ev: *mut ngx_event_t) {
    protect((), || {
        if let Some(worker) = dispatch::worker() {
            // SAFETY: the event of a pool; nginx's event loop calls this, its cycle is the current
            // one.
            unsafe {
                // What pool threads post from now on is not for this look any more.
                worker.mailbox.expect(false);
                worker.check(pool(ev));
                worker.read_mail(ngx::ffi::ngx_cycle);
            }
        }
    });
}

unsafe extern "C" fn ngx_http_wsgi_wake(ev: *mut ngx_event_t) {
    protect((), || {
        if let Some(worker) = dispatch::worker() {
            // SAFETY: the event of a pool.
            worker.wake(unsafe { pool(ev) });
        }
    });
}
