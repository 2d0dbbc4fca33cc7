//! Requests that run for longer than `wsgi_slow_request`: their stacks are logged.
//!
//! The timer that each request has anyway tells when. Whoever runs the request, this worker or
//! another one, has its watchdog look at the thread; the event loop never waits for Python.
//! Runs on: event loop.

use std::time::Instant;

use crate::nginx::balance::balance;
use crate::nginx::request::context::Context;
use crate::nginx::worker::worker;
use crate::wsgi::exchange::Progress;

/// Has the stack of a request logged if it is due.
///
/// # Safety
///
/// The context is not detached.
pub unsafe fn look(context: *mut Context, progress: Progress, now: Instant) {
    // SAFETY: the context is not detached, as the caller says; nothing here ends its request.
    unsafe {
        if progress == Progress::Ended {
            // The rest is between nginx and the client.
            (*context).stack_due = None;
        }
        let exchange = &(*context).exchange;
        let (Some(due), Some(taken)) = ((*context).stack_due, exchange.taken()) else { return };
        let Some(slow) = (*context).conf().slow_request() else { return };
        let ran = now.saturating_duration_since(taken.at);
        if ran < due {
            return;
        }
        (*context).stack_due = slow.next(due, ran);
        if exchange.handed_over().is_none() {
            if let Some(worker) = worker() {
                worker.watch.show(exchange, slow.depth);
            }
        } else if let Some(balance) = balance() {
            balance.show(exchange.id(), slow.depth);
        }
    }
}
