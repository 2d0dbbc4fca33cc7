//! Two guards: panics never cross into C, and a worker never hangs on Python when it leaves.
//!
//! The exit guard is a core module of its own, ordered before ngx_thread_pool_module, whose exit
//! would busy-wait for every stuck thread. It waits for the runners with a deadline and, if Python
//! does not stop, logs all stacks and leaves with status 0.
//! Runs on: event loop.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ngx::ffi::{
    NGX_OK, NGX_PROCESS_SINGLE, ngx_close_listening_sockets, ngx_cycle_t, ngx_delete_pidfile,
    ngx_int_t, ngx_list_part_t, ngx_open_file_t, ngx_process, ngx_terminate, ngx_time_update,
    ngx_uint_t,
};

use super::children;
use super::clock;
use super::dispatch::{self, Worker};
use super::{log, process, refuse, retry};
use crate::wsgi::mailbox::Level;

/// The master kills a worker about 3 seconds after it told it to terminate.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// The stacks are written in milliseconds.
const DUMP_TIMEOUT: Duration = Duration::from_secs(1);

/// Calls `body`; a panic becomes an `[alert]` and `otherwise`.
pub fn protect<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            // SAFETY: nginx has a cycle and a log before it calls any module.
            unsafe {
                let log = (*ngx::ffi::ngx_cycle).log;
                log::write(log, Level::Alert, format_args!("wsgi module panicked: {text}"));
            }
            otherwise
        }
    }
}

/// Before nginx makes its pool threads.
///
/// # Safety
///
/// Called by nginx in each process that it starts.
pub unsafe extern "C" fn ngx_http_wsgi_guard_init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    protect((), || {
        process::ensure_stack_size();
        // SAFETY: the cycle is that of the process that starts.
        unsafe { refuse::hide_pools(cycle) };
    });
    NGX_OK as ngx_int_t
}

/// Before nginx waits for its pool threads.
///
/// # Safety
///
/// Called by nginx when a process leaves.
pub unsafe extern "C" fn ngx_http_wsgi_guard_exit_process(cycle: *mut ngx_cycle_t) {
    protect((), || {
        if let Some(worker) = dispatch::take() {
            // SAFETY: the cycle is the leaving worker's.
            unsafe { stop(worker, cycle) };
        }
    });
}

unsafe fn stop(worker: &'static Worker, cycle: *mut ngx_cycle_t) {
    // SAFETY: a plain variable that nginx's signal handler sets.
    let terminate = unsafe { ngx_terminate != 0 };
    let timeout = match terminate {
        true => worker.shutdown_timeout.min(TERMINATE_TIMEOUT),
        false => worker.shutdown_timeout,
    };
    let mut ending = Ending::new(timeout);
    worker.mailbox.close();
    worker.runners.stop();
    // Nobody else terminates one worker: the import may have done it to itself.
    if !terminate {
        retry::leaves();
    }
    worker.cancel_all();
    loop {
        let next = worker.watch.look(worker);
        // SAFETY: the event loop has ended, this is its thread; `cycle` is live.
        unsafe { worker.drain_log(cycle) };
        let now = Instant::now();
        let outcome = ending.look(worker, now);
        let text = match outcome {
            Outcome::Waits => {
                let due = next.map_or(ending.due(now), |next| next.min(ending.due(now)));
                worker.wakeup.wait(due.saturating_duration_since(now));
                continue;
            }
            Outcome::Ended => {
                // What the exit functions have said since.
                // SAFETY: as above.
                unsafe { worker.drain_log(cycle) };
                skip_exit_handlers();
                return;
            }
            Outcome::Lost => {
                format!("python has {} lost threads, leaving", worker.runners.alive())
            }
            Outcome::Importing(name) => {
                format!("the import of \"{name}\" does not end, leaving")
            }
            Outcome::TimedOut(threads) => {
                format!("python did not stop within {timeout:?}, {threads} threads left, leaving")
            }
        };
        // SAFETY: as above. The stacks of lost threads have been logged.
        unsafe { leave(worker, cycle, &text, outcome != Outcome::Lost) };
    }
}

/// How far a leaving worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Waits,
    /// All threads have ended, and the exit functions have been run.
    Ended,
    /// The same but for threads that are not expected back.
    Lost,
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
    patience: Option<Instant>,
    /// That time is over.
    is_late: bool,
}

impl Ending {
    fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, patience: None, is_late: false }
    }

    fn half(&self, now: Instant) -> Instant {
        now + self.deadline.saturating_duration_since(now) / 2
    }

    /// When to look again at the latest.
    fn due(&self, now: Instant) -> Instant {
        self.patience.filter(|patience| *patience > now).unwrap_or(self.deadline)
    }

    fn look(&mut self, worker: &Worker, now: Instant) -> Outcome {
        let (alive, lost) = (worker.runners.alive(), worker.runners.all_lost());
        let (main, exit) = (worker.imports.main(), worker.imports.main().exit_functions());
        if worker.watch.is_unreachable() {
            return Outcome::Lost;
        }
        if alive <= lost {
            match self.patience {
                None => {
                    let patience = self.half(now);
                    main.exit(patience);
                    self.patience = Some(patience);
                }
                Some(patience) if now >= patience && !self.is_late => {
                    self.is_late = true;
                    if !exit.is_begun() {
                        worker.watch.exit(worker, self.half(now));
                    }
                }
                Some(_) => (),
            }
            if exit.is_done() {
                return match worker.imports.current().filter(|_| exit.was_elsewhere()) {
                    Some(name) => Outcome::Importing(name),
                    None if alive == 0 => Outcome::Ended,
                    None => Outcome::Lost,
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
unsafe fn leave(worker: &Worker, cycle: *mut ngx_cycle_t, text: &str, with_stacks: bool) -> ! {
    // SAFETY: the cycle of this process is live until the end of it; after `_exit` nothing runs.
    unsafe {
        // The event loop, which keeps nginx's clock, has ended.
        ngx_time_update();
        clock::correct();
        let log = (*cycle).log;
        log::write(log, Level::Error, format_args!("{text}"));
        if let Some((signal, file)) = worker.stack_dump.as_ref().filter(|_| with_stacks) {
            for line in stacks(*signal, file) {
                log::write(log, Level::Error, format_args!("{line}"));
            }
        }
        worker.drain_log(cycle);
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
        let mut part: *mut ngx_list_part_t = &raw mut (*cycle).open_files.part;
        while !part.is_null() {
            let files: *mut ngx_open_file_t = (*part).elts.cast();
            for n in 0..(*part).nelts {
                let file = files.add(n);
                if let Some(flush) = (*file).flush {
                    flush(file, (*cycle).log);
                }
            }
            part = (*part).next;
        }
    }
}

/// The stacks of all Python threads, a line each: `signal` writes them into `file`.
/// Runs on: any thread.
pub fn stacks(signal: i32, file: &OwnedFd) -> Vec<String> {
    let file = file.try_clone().map(File::from);
    let emptied = file.and_then(|mut file| {
        file.set_len(0)?;
        file.rewind()?;
        Ok(file)
    });
    // The handler, Python's faulthandler, needs no GIL, but it walks frames that running threads
    // would change under it.
    children::raise_in_child(signal, DUMP_TIMEOUT);
    let mut text = Vec::new();
    let read = emptied.and_then(|mut file| {
        file.rewind()?;
        file.read_to_end(&mut text)
    });
    match read {
        Ok(_) => {
            let text = String::from_utf8_lossy(&text);
            text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        Err(err) => vec![format!("the stacks cannot be read: {err}")],
    }
}
