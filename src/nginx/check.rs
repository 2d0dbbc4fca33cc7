//! The timer that looks whether waiting requests need another thread.
//!
//! `dispatch` arms it when the queue expects a runner to come back soon
//! (`wsgi::queue::Summons::CheckLater`); there is none while nothing waits. It does not hold up a
//! leaving worker: the requests' own timers do.
//! Runs on: event loop.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use ngx::ffi::{ngx_add_timer, ngx_event_t, ngx_log_t};

use super::dispatch;
use super::guard::protect;

/// nginx counts in milliseconds: no timer is shorter.
const MOMENT: usize = 1;

/// The timer of one pool. Lives as long as the process: nginx keeps a pointer to it.
pub struct CheckTimer {
    event: UnsafeCell<ngx_event_t>,
    pool: usize,
}

impl CheckTimer {
    pub fn leak(pool: usize, log: *mut ngx_log_t) -> &'static Self {
        // SAFETY: all-zero bytes are an event that is not in use.
        let event = UnsafeCell::new(unsafe { std::mem::zeroed() });
        let timer: &'static mut Self = Box::leak(Box::new(Self { event, pool }));
        let data: *mut c_void = std::ptr::from_mut(timer).cast();
        let event = timer.event.get_mut();
        event.data = data;
        event.handler = Some(ngx_http_wsgi_check);
        event.log = log;
        event.set_cancelable(1);
        timer
    }

    /// Looks in a moment. Calling it again before that changes nothing.
    pub fn arm(&self) {
        // SAFETY: only the event loop's thread comes here; the event is never freed.
        unsafe {
            let event = self.event.get();
            if (*event).timer_set() == 0 {
                ngx_add_timer(event, MOMENT);
            }
        }
    }
}

unsafe extern "C" fn ngx_http_wsgi_check(ev: *mut ngx_event_t) {
    protect((), || {
        // SAFETY: the event's data is its timer, which is never freed.
        let pool = unsafe { (*(*ev).data.cast::<CheckTimer>()).pool };
        if let Some(worker) = dispatch::worker() {
            worker.check(pool);
            // SAFETY: nginx's event loop calls this; its cycle is the current one.
            unsafe { worker.read_mail(ngx::ffi::ngx_cycle) };
        }
    });
}
