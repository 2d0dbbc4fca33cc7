//! Shows what is in flight, for `wsgi_status`: written now and then as long as something is.
//!
//! Runs on: event loop.

use super::context::{self, Context};
use crate::nginx::worker::display::{Display, Left, display};
use crate::nginx::worker::{Worker, worker};
use crate::wsgi::status::records::{Phase, Pool};

/// Writes how things stand.
pub fn show() {
    let Some(display) = display() else { return };
    let mut hidden = 0;
    let contexts = context::table().all();
    for context in &contexts {
        // SAFETY: contexts that the table knows are live, and none of this frees one.
        hidden += u64::from(!unsafe { show_request(display, &mut **context) });
    }
    // What an application's own connections do is not looked at all the time.
    let is_shown = |context: &*mut Context| {
        // SAFETY: contexts that the table knows are live.
        let context = unsafe { &**context };
        context.row.is_some() && context.is_websocket()
    };
    let mut is_busy = !contexts.iter().all(is_shown);
    let mut own = (0, 0);
    if let Some(worker) = worker() {
        own = (worker.sockets.alive(), worker.sockets.busy());
        let mut left = display.left.borrow_mut();
        left.retain_mut(|left| goes_on(display, worker, left));
        is_busy |= !left.is_empty();
        for (index, pool) in worker.pools().iter().enumerate() {
            let load = pool.queue().load();
            is_busy |= load.busy > 0;
            let pool = Pool {
                threads: pool.threads() as u64,
                busy: load.busy as u64,
                stuck: pool.stuck() as u64,
                waiting: load.waiting as u64,
                room: load.room as u64,
            };
            display.show_pool(index, pool);
        }
    }
    if is_busy {
        display.is_under_way();
    }
    display.show_worker(hidden, own);
}

/// False if there is no row for it.
fn show_request(display: &Display, context: &mut Context) -> bool {
    match context.row {
        Some(row) => display.update_row(row, &context.seen().shown().front()),
        None => {
            let Some(row) = display.take_row() else { return false };
            context.row = Some(row);
            display.write_row(row, &context.seen().described(display));
        }
    }
    true
}

/// Whether a thread without a client is still at its request.
fn goes_on(display: &Display, worker: &Worker, left: &mut Left) -> bool {
    let Left { exchange, threads, row, front } = left;
    let goes_on = worker.watch.is_at(*threads, exchange.id());
    if !goes_on {
        display.free_row(*row);
    } else if worker.watch.is_stuck(*threads, exchange.id()) {
        front[1] = Phase::Stuck as u64;
        display.update_row(*row, front);
    }
    goes_on
}
