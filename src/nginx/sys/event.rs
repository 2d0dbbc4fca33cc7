//! nginx's inline functions and macros for events, which no binding has: timers, posted events, and
//! what is watched for being readable.
//!
//! nginx-sys writes them in Rust too, but upon its own bit-fields (see `bits`).
//! Runs on: event loop.

use ngx::ffi::{
    NGX_DISABLE_EVENT, NGX_TIMER_LAZY_DELAY, ngx_current_msec, ngx_event_actions, ngx_event_t,
    ngx_event_timer_rbtree, ngx_int_t, ngx_msec_t, ngx_queue_insert_before, ngx_queue_t,
    ngx_rbtree_delete, ngx_rbtree_insert, ngx_uint_t,
};

use super::{bits, code, raw};

/// Has the event's handler called in so many milliseconds. As nginx does, it leaves a timer that is
/// set for nearly the same time.
///
/// # Safety
///
/// Called on the event loop, which the event outlives, or else `del_timer` is called before.
pub unsafe fn add_timer(event: *mut ngx_event_t, time: ngx_msec_t) {
    // SAFETY: the event is live; nginx's clock and its tree are plain variables of this thread.
    unsafe {
        let due = ngx_current_msec.wrapping_add(time);
        if bits::event::timer_set(event) {
            // The distance is signed in nginx too: its times wrap around.
            let distance = due.wrapping_sub((*event).timer.key).cast_signed();
            if distance.unsigned_abs() < NGX_TIMER_LAZY_DELAY as ngx_msec_t {
                return;
            }
            del_timer(event);
        }
        (*event).timer.key = due;
        ngx_rbtree_insert(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        bits::event::set_timer_set(event, true);
    }
}

/// The handler is not called any more.
///
/// # Safety
///
/// Called on the event loop; the timer is set.
pub unsafe fn del_timer(event: *mut ngx_event_t) {
    // SAFETY: the event is live, and in nginx's tree.
    unsafe {
        ngx_rbtree_delete(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        bits::event::set_timer_set(event, false);
    }
}

/// Has the event's handler called once in this turn of the event loop.
///
/// # Safety
///
/// Called on the event loop; `queue` is one of nginx's queues of posted events, and the event lives
/// until it has been called.
pub unsafe fn post_event(event: *mut ngx_event_t, queue: *mut ngx_queue_t) {
    // SAFETY: the event is live; one that is not posted is in no queue.
    unsafe {
        if !bits::event::posted(event) {
            bits::event::set_posted(event, true);
            ngx_queue_insert_before(queue, &raw mut (*event).queue);
        }
    }
}

/// Which of the workers that watch a descriptor are woken when it becomes readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    All,
    /// EPOLLEXCLUSIVE, where the system has it.
    One,
}

/// Watches for being readable, level-triggered. False if that fails, which nginx has logged.
///
/// # Safety
///
/// Called in a worker; the event is the reading one of a live connection, and not active.
pub unsafe fn add_read_event(event: *mut ngx_event_t, woken: Woken) -> bool {
    let exclusive = raw::ngx_http_wsgi_event_e_NGX_HTTP_WSGI_EXCLUSIVE_EVENT as ngx_uint_t;
    let flags = if woken == Woken::One { exclusive } else { 0 };
    // SAFETY: the event method's table is complete in a worker.
    unsafe { ngx_event_actions.add.is_some_and(|add| add(event, READ_EVENT, flags) == code::OK) }
}

/// Stops to watch for being readable. False if that fails, which nginx has logged.
///
/// # Safety
///
/// As of [`add_read_event`], but that the event is active.
pub unsafe fn del_read_event(event: *mut ngx_event_t) -> bool {
    // SAFETY: the event method's table is complete in a worker.
    unsafe {
        ngx_event_actions
            .del
            .is_some_and(|del| del(event, READ_EVENT, NGX_DISABLE_EVENT as ngx_uint_t) == code::OK)
    }
}

const READ_EVENT: ngx_int_t = raw::ngx_http_wsgi_event_e_NGX_HTTP_WSGI_READ_EVENT as ngx_int_t;
