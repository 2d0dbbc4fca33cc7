//! Imports that have failed, and a Python that could not be started: tried again by fresh workers.
//!
//! `wsgi/tries.rs` says when; this file has it done: by the replacement of this worker, or here,
//! where nothing has been tried yet or nobody would start another worker. A single worker is
//! missing while it is replaced, so that is done only while nothing is under way in it, and once a
//! minute at most. What a worker imports is noted in shared memory: if two in a row die
//! meanwhile, the next does not import the same at once, and serves what else there is.
//! Runs on: event loop.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ngx::ffi::{ngx_current_msec, ngx_cycle_t, ngx_worker};

use super::retire;
use super::zone;
use crate::nginx::config::{MainConf, core_of_cycle};
use crate::nginx::sys::log;
use crate::wsgi::application::Import;
use crate::wsgi::mailbox::Level;
use crate::wsgi::status::counters::Cause;
use crate::wsgi::tries::{Tries, Verdict};

/// Between two tries of a single worker.
const MINUTE: Duration = Duration::from_secs(60);

/// An import that has ended so many workers, one after the other, is put off by the next. At the
/// first time something else may have ended it.
const DEATHS: u32 = 2;

/// A note of what a worker imports: the index of the application, and 1, and how many workers have
/// ended meanwhile before.
fn note(app: usize, deaths: u32) -> u32 {
    u32::try_from(app + 1).map_or(0, |app| app << 8 | deaths)
}

/// What has become of one import in this worker.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    /// Workers right before this one that have ended during it.
    deaths: u32,
    /// It has failed here; another try belongs into a fresh interpreter.
    is_spoilt: bool,
    /// What [`Tries::failed`] has said.
    seen: u32,
}

struct Retry {
    tries: &'static [Tries],
    /// The [`note`] of what is being imported; 0 while nothing is.
    importing: &'static AtomicU32,
    own: Vec<Cell<Own>>,
    is_single: bool,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static RETRY: Cell<Option<&'static Retry>> = const { Cell::new(None) };
}

/// What becomes of a request for an application that has not been imported.
pub enum Answer {
    /// It waits for another try.
    Wait,
    /// It is refused; the next try is due after this time.
    Refuse(Duration),
}

/// The worker starts. Returns the application whose import has ended the workers before this one:
/// it is not to be imported now.
///
/// # Safety
///
/// `cycle` is the cycle of this worker.
pub unsafe fn start(cycle: *mut ngx_cycle_t, main: &MainConf) -> Option<usize> {
    let shared = zone::of(main)?;
    // SAFETY: the cycle is this worker's, as the caller says; a plain variable of nginx.
    let (single, number) = unsafe { (core_of_cycle(cycle).worker_processes <= 1, ngx_worker) };
    let tries = shared.tries();
    let importing = shared.importing(number)?;
    let own = tries.iter().map(|_| Cell::default()).collect();
    RETRY.set(Some(Box::leak(Box::new(Retry { tries, importing, own, is_single: single }))));
    let left = importing.swap(0, Ordering::AcqRel);
    let ended = (left >> 8).checked_sub(1)? as usize;
    let deaths = (left & 0xff) + 1;
    let (target, ..) = main.apps.get(ended)?;
    let is_put_off = deaths >= DEATHS;
    let what = if is_put_off { " again, which is put off" } else { "" };
    let text = format!("a worker has ended while it imported \"{target}\"{what}");
    // SAFETY: the cycle is this worker's, as the caller says, and has a log.
    unsafe { log::write((*cycle).log, Level::Error, format_args!("{text}")) };
    if is_put_off {
        put_off(ended);
    } else if let Some(own) = RETRY.get()?.own.get(ended) {
        own.set(Own { deaths, ..own.get() });
    }
    is_put_off.then_some(ended)
}

/// The import of an application begins.
pub fn begins(app: usize) {
    if let Some(retry) = RETRY.get() {
        let deaths = retry.own.get(app).map_or(0, |own| own.get().deaths);
        retry.importing.store(note(app, deaths), Ordering::Release);
    }
}

/// It has ended.
pub fn ended(app: usize, import: Import) {
    let Some(retry) = RETRY.get() else { return };
    retry.importing.store(0, Ordering::Release);
    match retry.tries.get(app) {
        Some(tries) if import == Import::Done => tries.succeeded(),
        _ => failed(app),
    }
}

/// The worker leaves, as it was told to: an import that it breaks off is not to blame.
pub fn leaves() {
    if let Some(retry) = RETRY.get() {
        retry.importing.store(0, Ordering::Release);
    }
}

/// Python could not be started.
pub fn python_failed() {
    if let Some(retry) = RETRY.get() {
        failed(retry.tries.len() - 1);
    }
}

/// Python has been started.
pub fn python_started() {
    if let Some(tries) = RETRY.get().and_then(|retry| retry.tries.last()) {
        tries.succeeded();
    }
}

/// The import has failed in this interpreter, which is spoilt for another try.
fn failed(index: usize) {
    note_failure(index, |seen| Own { deaths: 0, is_spoilt: true, seen });
}

/// The import is not made now, nor for some time. It is put off again as soon as it ends another
/// worker.
fn put_off(index: usize) {
    note_failure(index, |seen| Own { deaths: DEATHS - 1, is_spoilt: false, seen });
}

fn note_failure(index: usize, own: impl FnOnce(u32) -> Own) {
    let Some(retry) = RETRY.get() else { return };
    if let (Some(tries), Some(place)) = (retry.tries.get(index), retry.own.get(index)) {
        place.set(own(tries.failed(now())));
    }
}

/// nginx's clock: the system's monotonic one, in milliseconds.
fn now() -> u64 {
    // SAFETY: a plain variable of nginx.
    unsafe { ngx_current_msec as u64 }
}

/// Somebody asks for the application `name`, with this index, whose import has failed or was put
/// off. If the answer is to wait, the caller orders another try here.
pub fn ask(app: usize, name: &str) -> Answer {
    let Some((verdict, own)) = verdict(app) else { return Answer::Refuse(Duration::ZERO) };
    if let Verdict::Wait(time) = verdict {
        return Answer::Refuse(time);
    }
    if own.is_spoilt && retire::is_replaceable() {
        replace(verdict, &format!("\"{name}\""));
        return Answer::Refuse(Duration::ZERO);
    }
    Answer::Wait
}

/// Somebody asks for an application where Python could not be started.
pub fn ask_for_python() {
    let Some(retry) = RETRY.get() else { return };
    if let Some((verdict @ (Verdict::Try | Verdict::Follow), _)) = verdict(retry.tries.len() - 1)
        && retire::is_replaceable()
    {
        replace(verdict, "Python");
    }
}

fn verdict(index: usize) -> Option<(Verdict, Own)> {
    let retry = RETRY.get()?;
    let own = retry.own.get(index)?.get();
    let least = if retry.is_single && own.is_spoilt { MINUTE } else { Duration::ZERO };
    Some((retry.tries.get(index)?.ask(own.seen, now(), least), own))
}

/// Has this worker replaced, to try again `what`.
fn replace(verdict: Verdict, what: &str) {
    let reason = match verdict {
        Verdict::Follow => format!("{what} can be loaded by now"),
        _ => format!("{what} is tried again"),
    };
    match RETRY.get() {
        Some(retry) if retry.is_single => retire::retire_alone(Cause::Import, &reason),
        _ => retire::retire(Cause::Import, &reason),
    }
}
