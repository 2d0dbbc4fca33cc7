//! What pool threads and the threads of a worker tell the event loop, and who is told of it here.
//!
//! Runs on: event loop.

use ngx::ffi::ngx_cycle_t;

use super::balance::{Balance, balance};
use super::handler::{deadline, stream};
use super::request::context::{self, Context, Table};
use super::status::stacks;
use super::sys::log;
use super::sys::panic::protect;
use super::websocket;
use super::worker::pool::Pool;
use super::worker::{Worker, worker};
use crate::wsgi::mailbox::{ExchangeId, LogRecord, Mail};
use crate::wsgi::queue::Job;

/// Reads what has been posted so far.
pub fn read() {
    protect((), || {
        if let Some(worker) = worker() {
            // SAFETY: on the event loop's thread the current cycle is live.
            unsafe { read_mail(worker, ngx::ffi::ngx_cycle) };
        }
    });
}

/// # Safety
///
/// Only on the event loop of this worker; `cycle` is live.
unsafe fn read_mail(worker: &Worker, cycle: *mut ngx_cycle_t) {
    let table = context::table();
    let mut mails = worker.mailbox.collect(worker.mails.take());
    // First: with the mail of a chunk its response may be taken to the end, and the request be over
    // that is the context of lines said before that end.
    for mail in &mails {
        if let Mail::Log(record) = mail {
            // SAFETY: the cycle is live, as the caller says.
            unsafe { write_log(table, cycle, record) };
        }
    }
    for mail in mails.drain(..) {
        match mail {
            Mail::Response(id) => match table.find(id) {
                Some(_) => act(table, id, websocket::advance),
                None => balanced(|balance| balance.guests.tell_owner(id)),
            },
            Mail::BodyRoom(id) => act(table, id, stream::resume),
            Mail::Look(pool) => {
                if let Some(pool) = worker.pool(pool) {
                    pool.look();
                }
            }
            Mail::Refuse(index) => {
                // A thread may have come back meanwhile.
                let is_stuck = |pool: &Pool| pool.stuck() >= pool.threads();
                if worker.pool(index).is_some_and(is_stuck) || worker.watch.is_unreachable() {
                    deadline::refuse_waiting(index);
                }
            }
            Mail::Stacks => stacks::found(),
            Mail::Imported => {
                worker.imports.ended();
                worker.sockets.look();
                balanced(Balance::imported);
            }
            Mail::Tidy => {
                if let Some(pool) = worker.pool(0) {
                    drop(pool.push(Job::Tidy, usize::MAX));
                }
            }
            Mail::Compiled(good) => {
                if let Some(reload) = worker.reload {
                    reload.compiled(good);
                }
            }
            Mail::Relay(id) => balanced(|balance| balance.relay(id)),
            Mail::Log(_) | Mail::Left => (),
        }
    }
    worker.mails.set(mails);
}

/// Does something if requests are handed over.
fn balanced(act: impl FnOnce(&Balance)) {
    if let Some(balance) = balance() {
        act(balance);
    }
}

/// Does something for a request that may have gone.
fn act(table: &Table, id: ExchangeId, act: unsafe fn(*mut Context)) {
    if let Some(context) = table.find(id) {
        // SAFETY: contexts in the table belong to live requests.
        unsafe { Context::act(context, |context| act(context)) };
    }
}

/// # Safety
///
/// On the event loop's thread; `cycle` is live.
unsafe fn write_log(table: &Table, cycle: *mut ngx_cycle_t, record: &LogRecord) {
    // SAFETY: contexts in the table belong to live requests; the cycle is live.
    unsafe {
        match record.exchange.and_then(|id| table.find(id)) {
            Some(context) => {
                log::write_request_lines((*context).request, record.level, &record.text);
            }
            None if balance().is_some_and(|balance| balance.guests.log(record)) => (),
            None => log::write_lines((*cycle).log, record.level, &record.text),
        }
    }
}

/// Writes what the leaving runners have logged. Everything else is too late.
///
/// # Safety
///
/// On the event loop's thread when the loop has ended; `cycle` is live.
pub unsafe fn drain_log(worker: &Worker, cycle: *mut ngx_cycle_t) {
    for mail in worker.mailbox.collect(Vec::new()) {
        if let Mail::Log(record) = mail {
            // SAFETY: the cycle is live, as the caller says.
            unsafe { write_log(context::table(), cycle, &record) };
        }
    }
}
