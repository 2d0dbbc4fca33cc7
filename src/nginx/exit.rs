//! A worker never hangs on Python when it leaves.
//!
//! Called by a core module of our own (`hooks.rs`), ordered before ngx_thread_pool_module, whose
//! exit would busy-wait for every stuck thread. It waits for the runners with a deadline and, if
//! Python does not stop, logs all stacks and leaves with status 0.
//! Runs on: event loop, when the loop has ended.

use std::time::{Duration, Instant};

use ngx::ffi::{
    NGX_PROCESS_SINGLE, ngx_close_listening_sockets, ngx_cycle_t, ngx_delete_pidfile,
    ngx_open_file_t, ngx_process, ngx_terminate, ngx_time_update, ngx_uint_t,
};

use super::mail;
use super::request::context;
use super::sys::{list, log};
use super::worker::{Worker, clock, retry};
use crate::wsgi::mailbox::Level;

/// The master kills a worker about 3 seconds after it told it to terminate.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Stops the worker's threads, and runs the exit functions of its applications. Ends the process if
/// Python does not stop.
///
/// # Safety
///
/// Called when a process leaves, with its cycle; the event loop has ended.
pub unsafe fn stop(worker: &'static Worker, cycle: *mut ngx_cycle_t) {
    // SAFETY: a plain variable that nginx's signal handler sets.
    let terminate = unsafe { ngx_terminate != 0 };
    let timeout = if terminate {
        worker.shutdown_timeout.min(TERMINATE_TIMEOUT)
    } else {
        worker.shutdown_timeout
    };
    let mut ending = Ending::new(timeout);
    worker.mailbox.close();
    worker.runners.stop();
    worker.sockets.stop();
    // Nobody else terminates one worker: the import may have done it to itself.
    if !terminate {
        retry::leaves();
    }
    cancel_all();
    loop {
        let next = worker.watch.look();
        // SAFETY: the event loop has ended, this is its thread; `cycle` is live.
        unsafe { mail::drain_log(worker, cycle) };
        let now = Instant::now();
        let outcome = ending.look(worker, now);
        let text = match outcome {
            Outcome::Waits => {
                let due = next.map_or(ending.due(now), |next| next.min(ending.due(now)));
                worker.eventfd.wait(due.saturating_duration_since(now));
                continue;
            }
            Outcome::Ended => {
                // What the exit functions have said since.
                // SAFETY: the event loop has ended, this is its thread; `cycle` is live.
                unsafe { mail::drain_log(worker, cycle) };
                skip_exit_handlers();
                return;
            }
            Outcome::Stuck => {
                let alive = worker.runners.alive() + worker.sockets.alive();
                format!("python has {alive} stuck threads, leaving")
            }
            Outcome::Importing(name) => {
                format!("the import of \"{name}\" does not end, leaving")
            }
            Outcome::TimedOut(threads) => {
                format!("python did not stop within {timeout:?}, {threads} threads left, leaving")
            }
        };
        // SAFETY: the event loop has ended, this is its thread; `cycle` is live.
        unsafe { leave(worker, cycle, &text, outcome) };
    }
}

/// The requests that the worker does not finish: their applications stop at the next chunk.
fn cancel_all() {
    let table = context::table();
    for context in table.ids().into_iter().filter_map(|id| table.find(id)) {
        // SAFETY: contexts in the table are live.
        unsafe { (*context).cancel() };
    }
}

/// How far a leaving worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Waits,
    /// All threads have ended, and the exit functions have been run.
    Ended,
    /// The same but for threads that are not expected back.
    Stuck,
    /// The exit functions have been run, and Python's main thread is still at an import.
    Importing(&'static str),
    /// The deadline has passed; so many threads have not stopped.
    TimedOut(usize),
}

/// The end of a worker, step by step: the runners leave, then the exit functions run on Python's
/// main thread. If that is at an import they run on the watchdog when half of the time is over.
struct Ending {
    deadline: Instant,
    /// The main thread has been told to run the exit functions, and has so long to begin.
    grace: Option<Instant>,
    /// That time is over.
    is_late: bool,
}

impl Ending {
    fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, grace: None, is_late: false }
    }

    fn half(&self, now: Instant) -> Instant {
        now + self.deadline.saturating_duration_since(now) / 2
    }

    /// When to look again at the latest.
    fn due(&self, now: Instant) -> Instant {
        self.grace.filter(|grace| *grace > now).unwrap_or(self.deadline)
    }

    fn look(&mut self, worker: &Worker, now: Instant) -> Outcome {
        let alive = worker.runners.alive() + worker.sockets.alive();
        let stuck = worker.runners.all_stuck() + worker.sockets.threads().stuck();
        let exit = worker.imports.exit_functions();
        if worker.watch.is_unreachable() {
            return Outcome::Stuck;
        }
        if alive <= stuck {
            match self.grace {
                None => {
                    let grace = self.half(now);
                    worker.imports.exit(grace);
                    self.grace = Some(grace);
                }
                Some(grace) if now >= grace && !self.is_late => {
                    self.is_late = true;
                    if !exit.is_begun() {
                        worker.watch.exit(exit, self.half(now));
                    }
                }
                Some(_) => (),
            }
            if exit.is_done() {
                return match worker.imports.current().filter(|_| exit.was_elsewhere()) {
                    Some(name) => Outcome::Importing(name),
                    None if alive == 0 => Outcome::Ended,
                    None => Outcome::Stuck,
                };
            }
        }
        if now >= self.deadline {
            return Outcome::TimedOut(alive + usize::from(!exit.is_done()));
        }
        Outcome::Waits
    }
}

/// nginx ends a process with exit(), whose handlers take down what daemon threads of the
/// application may still use (OpenSSL's among them). The handler registered last runs first.
fn skip_exit_handlers() {
    // SAFETY: the handler is a function of this image, which is pinned.
    unsafe { libc::atexit(ngx_http_wsgi_exit) };
}

/// nginx has done all it does at exit. A worker, and a single process, end with 0.
extern "C" fn ngx_http_wsgi_exit() {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// The worker's last words when Python does not stop.
unsafe fn leave(worker: &Worker, cycle: *mut ngx_cycle_t, text: &str, outcome: Outcome) -> ! {
    // SAFETY: the cycle of this process is live until the end of it; after `_exit` nothing runs.
    unsafe {
        // The event loop, which keeps nginx's clock, has ended.
        ngx_time_update();
        clock::correct();
        let log = (*cycle).log;
        log::write(log, Level::Error, format_args!("{text}"));
        // The stacks of stuck threads have been logged.
        let dump = worker.stack_dump.as_ref().filter(|_| outcome != Outcome::Stuck);
        for line in dump.map(|dump| dump.lines()).unwrap_or_default() {
            log::write(log, Level::Error, format_args!("{line}"));
        }
        mail::drain_log(worker, cycle);
        flush_files(cycle);
        if ngx_process == NGX_PROCESS_SINGLE as ngx_uint_t {
            ngx_close_listening_sockets(cycle);
            ngx_delete_pidfile(cycle);
        }
        // Status 0: with 2 the master would never start a worker again.
        libc::_exit(0)
    }
}

/// What nginx has buffered for its logs, which it writes when its memory is given back.
///
/// # Safety
///
/// `cycle` is live, and the event loop has ended.
unsafe fn flush_files(cycle: *mut ngx_cycle_t) {
    // SAFETY: the cycle's list of open files; a file's flush is called as in ngx_reopen_files().
    unsafe {
        for file in list::elements::<ngx_open_file_t>(&raw const (*cycle).open_files) {
            if let Some(flush) = (*file).flush {
                flush(file, (*cycle).log);
            }
        }
    }
}
