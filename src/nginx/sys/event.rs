//! nginx's inline functions for events, which no binding has: timers and posted events.
//!
//! nginx-sys writes them in Rust too, but upon its own bit-fields (see `bits`).
//! Runs on: event loop.

use ngx::ffi::{
    NGX_TIMER_LAZY_DELAY, ngx_current_msec, ngx_event_t, ngx_event_timer_rbtree, ngx_msec_t,
    ngx_queue_insert_before, ngx_queue_t, ngx_rbtree_delete, ngx_rbtree_insert,
};

use super::bits;

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
