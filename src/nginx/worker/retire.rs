//! A worker that asks to be replaced: stuck threads, `wsgi_max_requests`, `wsgi_max_rss`, an import
//! that is to be tried again.
//!
//! It leaves as on a quit from the master, which starts another in its place, since nobody told it
//! to leave. One worker at a time: who leaves holds a token in shared memory until its successor
//! has imported its applications. The token is the holder's pid and the time of its start, so that
//! a dead holder is known as such, and its successor can take the token over. Before it closes
//! anything a leaving worker serves on for a moment with `Connection: close`, so that clients end
//! their connections themselves: a request sent on one that is just being closed would be lost.
//! Nobody leaves while the master is busy with a check of the applications ([`super::zone::Hold`]).
//! Runs on: event loop.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ngx::ffi::{
    NGX_PROCESS_WORKER, ngx_connection_t, ngx_current_msec, ngx_exiting, ngx_log_t, ngx_msec_t,
    ngx_parent, ngx_process, ngx_quit, ngx_terminate, ngx_uint_t,
};

use super::identity::{identity, is_alive, own_pid};
use super::zone::{self, Shared};
use super::{display, generation, hold};
use crate::nginx::config::MainConf;
use crate::nginx::sys::timer::Timer;
use crate::nginx::sys::{bits, log, process};
use crate::wsgi::mailbox::Level;
use crate::wsgi::status::counters::Cause;

/// How long a worker that is to leave serves on with `Connection: close`.
const FAREWELL: ngx_msec_t = 1000;
/// The same when its code is out of date.
const BRIEF_FAREWELL: ngx_msec_t = 100;
/// After that, how long a connection may be open without a request.
const SILENCE: ngx_msec_t = 300;
/// How often it asks for the token, and how often the resident set is looked at.
const SECOND: ngx_msec_t = 1000;
/// How often the only worker looks whether anything is under way in it.
const GLANCE: ngx_msec_t = 50;
/// A successor is there long before.
const NEVER_CAME: Duration = Duration::from_secs(5);

/// Responses say `Connection: close`.
static DRAINING: AtomicBool = AtomicBool::new(false);

/// Whether this worker is about to leave on its own accord: connections are not kept.
pub fn is_draining() -> bool {
    DRAINING.load(Ordering::Relaxed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// Another worker is being replaced.
    Waiting,
    /// Has the token.
    Leaving,
    /// Its code is out of date.
    Outdated,
    /// It is the only one, and waits until nothing is under way in it.
    Alone,
    /// Nothing is to hold it up any more, and nginx has been told.
    Gone,
    /// Cannot be replaced, and has said so.
    Refused,
}

/// What one worker knows of its own replacement.
pub struct Retirement {
    shared: Option<&'static Shared>,
    state: Cell<State>,
    reason: RefCell<String>,
    cause: Cell<Cause>,
    /// This worker is the successor of the token's holder, and imports.
    is_settling: Cell<bool>,
    /// A holder that is dead, and since when that is known.
    dead: Cell<Option<(u64, Instant)>>,
    /// Requests left of `wsgi_max_requests`.
    left: Cell<u64>,
    served: u64,
    max_rss: Option<usize>,
    looked: Cell<ngx_msec_t>,
    /// Ends what would keep a worker whose code is out of date.
    cut: fn(),
    timer: Timer,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static RETIREMENT: Cell<Option<&'static Retirement>> = const { Cell::new(None) };
}

/// What this worker knows of its own replacement, once [`start`] has been called in it.
fn retirement() -> Option<&'static Retirement> {
    RETIREMENT.get()
}

/// The worker has started: if it follows one that has left, the token is its own until
/// [`settled`]. `cut` ends what would keep a worker whose code is out of date.
pub fn start(main: &MainConf, log: *mut ngx_log_t, cut: fn()) {
    let retirement: &'static _ = Box::leak(Box::new(Retirement::new(main, log, cut)));
    retirement.timer.calls(move || retirement.look());
    retirement.take_over();
    RETIREMENT.set(Some(retirement));
}

/// All imports of this worker have ended, or Python could not be started.
pub fn settled() {
    if let Some(retirement) = retirement() {
        retirement.settled();
    }
}

/// A request goes to the application.
pub fn count() {
    if let Some(retirement) = retirement() {
        retirement.count();
    }
}

/// A request that was counted goes to another worker.
pub fn uncount() {
    if let Some(retirement) = retirement() {
        retirement.left.set(retirement.left.get().wrapping_add(1));
    }
}

/// Whether the code of this worker is out of date.
pub fn is_outdated() -> bool {
    retirement().is_some_and(|retirement| retirement.state.get() == State::Outdated)
}

/// Whether nothing is to hold this worker up any more.
pub fn is_gone() -> bool {
    retirement().is_some_and(|retirement| retirement.state.get() == State::Gone)
}

impl Retirement {
    fn new(main: &MainConf, log: *mut ngx_log_t, cut: fn()) -> Self {
        let served = main.max_requests.map_or(u64::MAX, |(number, jitter)| {
            // SAFETY: nginx has seeded it in each worker: with glibc it is random().
            let random = u64::from(unsafe { libc::rand() }.unsigned_abs());
            number.saturating_add(random.checked_rem(jitter.saturating_add(1)).unwrap_or(0))
        });
        Self {
            shared: zone::of(main),
            state: Cell::new(State::Serving),
            reason: RefCell::default(),
            cause: Cell::new(Cause::MaxRequests),
            is_settling: Cell::new(false),
            dead: Cell::new(None),
            left: Cell::new(served),
            served,
            max_rss: main.max_rss,
            looked: Cell::new(0),
            cut,
            timer: Timer::new(log),
        }
    }

    fn take_over(&self) {
        let Some(Shared { token, .. }) = self.shared else { return };
        let holder = token.load(Ordering::Acquire);
        if holder != 0 && !is_alive(holder) {
            let mine = identity(own_pid());
            let taken = token.compare_exchange(holder, mine, Ordering::AcqRel, Ordering::Relaxed);
            self.is_settling.set(taken.is_ok());
        }
    }

    fn settled(&self) {
        if self.is_settling.take()
            && let Some(Shared { token, .. }) = self.shared
        {
            token.store(0, Ordering::Release);
        }
    }

    fn count(&self) {
        let left = self.left.get().wrapping_sub(1);
        self.left.set(left);
        if left == 0 {
            retire(Cause::MaxRequests, &format!("{} requests served", self.served));
        }
        if let Some(max) = self.max_rss {
            self.look_at_rss(max);
        }
    }

    /// At most once a second.
    fn look_at_rss(&self, max: usize) {
        // SAFETY: nginx's clock, a plain variable.
        let now = unsafe { ngx_current_msec };
        if now.wrapping_sub(self.looked.get()) < SECOND {
            return;
        }
        self.looked.set(now);
        match process::resident_set(own_pid()) {
            Some(rss) if rss > max as u64 => {
                retire(
                    Cause::MaxRss,
                    &format!("{} MiB resident, wsgi_max_rss is {}", rss >> 20, max),
                );
            }
            _ => (),
        }
    }

    /// Leaves, if it is this worker's turn.
    fn try_to_leave(&self) {
        if self.is_held() || !self.claim() {
            if self.state.replace(State::Waiting) == State::Serving {
                let reason = self.reason.borrow();
                log::write_worker(
                    Level::Notice,
                    &format!("waits for its turn to be replaced: {reason}"),
                );
            }
            return self.timer.set(SECOND);
        }
        self.state.set(State::Leaving);
        DRAINING.store(true, Ordering::Relaxed);
        display::replaced(self.cause.get());
        log::write_worker(Level::Notice, &format!("is to be replaced: {}", self.reason.borrow()));
        self.timer.set(FAREWELL);
    }

    /// Whether this worker could be replaced; says it if not, once.
    fn can_leave(&self, reason: &str) -> bool {
        // SAFETY: a plain variable of nginx.
        let is_worker = unsafe { ngx_process == NGX_PROCESS_WORKER as ngx_uint_t };
        let refused = match (is_worker, has_master()) {
            _ if leaves() => return false,
            (true, true) => return true,
            (false, _) => "\"master_process\" is off",
            (_, false) => "the master process has gone",
        };
        self.state.set(State::Refused);
        log::write_worker(Level::Error, &format!("cannot be replaced, {refused}: {reason}"));
        false
    }

    /// Whether the master could not start another worker now, or is not there any more.
    fn is_held(&self) -> bool {
        // SAFETY: always succeeds.
        let parent = unsafe { libc::getppid() };
        !has_master() || self.shared.is_some_and(|s| s.busy.load(Ordering::Acquire) == parent)
    }

    /// The timer: once more for the token, or the end of the farewell.
    fn look(&self) {
        let held = self.is_held();
        match self.state.get() {
            State::Gone => close_silent(),
            _ if leaves() => (),
            State::Waiting => self.try_to_leave(),
            State::Leaving if held => self.timer.set(FAREWELL),
            State::Outdated if held => self.timer.set(BRIEF_FAREWELL),
            State::Alone if held || is_busy() => self.timer.set(GLANCE),
            State::Leaving => hold::quit(),
            state @ (State::Outdated | State::Alone) => {
                if state == State::Alone {
                    display::replaced(self.cause.get());
                    let reason = self.reason.borrow();
                    log::write_worker(Level::Notice, &format!("is to be replaced: {reason}"));
                } else {
                    (self.cut)();
                }
                self.state.set(State::Gone);
                hold::quit();
                self.timer.set(SILENCE);
            }
            State::Serving | State::Refused => (),
        }
    }

    /// Takes the token, if it is free or its holder has died and left no successor.
    fn claim(&self) -> bool {
        let Some(Shared { token, .. }) = self.shared else { return true };
        let mine = identity(own_pid());
        let holder = token.load(Ordering::Acquire);
        if holder == mine {
            // It is still importing.
            return false;
        }
        if holder != 0 {
            let since = match self.dead.get() {
                _ if is_alive(holder) => None,
                Some((pid, since)) if pid == holder => Some(since),
                _ => Some(Instant::now()),
            };
            self.dead.set(since.map(|since| (holder, since)));
            if since.is_none_or(|since| since.elapsed() < NEVER_CAME) {
                return false;
            }
        }
        token.compare_exchange(holder, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// This worker is to be replaced by a fresh one, for `reason`, as soon as no other is. It serves
/// all its requests first. Calling it again changes nothing.
pub fn retire(cause: Cause, reason: &str) {
    let Some(retirement) = retirement() else { return };
    let is_here = matches!(retirement.state.get(), State::Serving | State::Alone);
    if is_here && retirement.can_leave(reason) {
        retirement.reason.replace(reason.to_owned());
        retirement.cause.set(cause);
        retirement.try_to_leave();
    }
}

/// The code of this worker is out of date: it is replaced at once, whatever other workers do.
/// Theirs is too, and nobody wants to see the old code and the new one in turn.
pub fn reload(reason: &str) {
    let Some(retirement) = retirement() else { return };
    if matches!(
        retirement.state.get(),
        State::Serving | State::Waiting | State::Leaving | State::Alone
    ) && retirement.can_leave(reason)
    {
        retirement.state.set(State::Outdated);
        DRAINING.store(true, Ordering::Relaxed);
        display::replaced(Cause::Changed);
        log::write_worker(Level::Notice, &format!("is to be replaced: {reason}"));
        // Its successors wait for nobody who serves old code.
        generation::leaves();
        retirement.timer.set(BRIEF_FAREWELL);
    }
}

/// This worker is the only one, and is to be replaced for `reason` as soon as nothing is under way
/// in it: nobody serves until its successor is there.
pub fn retire_alone(cause: Cause, reason: &str) {
    let Some(retirement) = retirement() else { return };
    if retirement.state.get() == State::Serving && retirement.can_leave(reason) {
        retirement.state.set(State::Alone);
        retirement.reason.replace(reason.to_owned());
        retirement.cause.set(cause);
        DRAINING.store(true, Ordering::Relaxed);
        retirement.timer.set(GLANCE);
    }
}

/// Whether another worker would follow if this one left.
pub fn is_replaceable() -> bool {
    // SAFETY: a plain variable of nginx.
    unsafe { ngx_process == NGX_PROCESS_WORKER as ngx_uint_t && has_master() }
}

/// Whether a client of this worker waits for something.
fn is_busy() -> bool {
    // SAFETY: the current cycle is live, and its connections are an array. Those of clients name
    // the listening socket they came by, as does the one of that socket itself; nginx calls those
    // reusable that wait for a request.
    unsafe {
        let cycle = ngx::ffi::ngx_cycle;
        (0..(*cycle).connection_n).any(|n| {
            let c: *const ngx_connection_t = (*cycle).connections.add(n);
            (*c).fd != -1
                && !(*c).listening.is_null()
                && !bits::event::accept((*c).read)
                && !bits::connection::reusable(c)
        })
    }
}

/// Closes connections whose clients have said nothing: browsers open some in advance, and nobody
/// starts another worker as long as they are there.
fn close_silent() {
    // SAFETY: the current cycle is live. Its connections are an array that stays as it is; those
    // that nginx calls reusable expect to be closed in this way at any time.
    unsafe {
        let cycle = ngx::ffi::ngx_cycle;
        for n in 0..(*cycle).connection_n {
            let c = (*cycle).connections.add(n);
            let mut byte = 0u8;
            if (*c).fd == -1 || !bits::connection::reusable(c) {
                continue;
            }
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            // A request that has just arrived is served.
            if libc::recv((*c).fd, (&raw mut byte).cast(), 1, flags) == -1
                && let Some(handler) = (*(*c).read).handler
            {
                bits::connection::set_close(c, true);
                handler((*c).read);
            }
        }
    }
}

fn has_master() -> bool {
    // SAFETY: a plain variable of nginx.
    unsafe { libc::getppid() == ngx_parent }
}

/// Whether this process has been told to leave.
fn leaves() -> bool {
    // SAFETY: plain variables of nginx.
    unsafe { ngx_exiting != 0 || ngx_quit != 0 || ngx_terminate != 0 || hold::is_held() }
}
