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

use super::dispatch::{self, Worker};
use super::log;
use super::process;
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
pub unsafe extern "C" fn ngx_http_wsgi_guard_init_process(_cycle: *mut ngx_cycle_t) -> ngx_int_t {
    protect((), process::ensure_stack_size);
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
    let deadline = Instant::now() + timeout;
    worker.mailbox.close();
    worker.runners.stop();
    worker.cancel_all();
    loop {
        let next = worker.watch.look(worker);
        // SAFETY: the event loop has ended, this is its thread; `cycle` is live.
        unsafe { worker.drain_log(cycle) };
        if worker.runners.alive() == 0 {
            skip_exit_handlers();
            return;
        }
        if worker.watch.has_only_lost(worker) {
            let lost = worker.runners.alive();
            let text = format!("python has {lost} lost threads, leaving");
            // SAFETY: as above. Their stacks have been logged.
            unsafe { leave(worker, cycle, &text, false) };
        }
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            let alive = worker.runners.alive();
            let text =
                format!("python did not stop within {timeout:?}, {alive} threads left, leaving");
            // SAFETY: as above.
            unsafe { leave(worker, cycle, &text, true) };
        }
        let next = next.map_or(left, |next| next.saturating_duration_since(now));
        worker.wakeup.wait(left.min(next));
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
    process::raise_in_child(signal, DUMP_TIMEOUT);
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
