//! Requests that take longer than `wsgi_request_timeout`, and the threads that they leave behind.
//!
//! The client has been answered when a request comes here, or it comes before its time is over,
//! because its client has gone, or has all of the response while the application goes on. A thread
//! of its own, the *watchdog*, started on first need, raises an exception in the request's thread
//! and logs its stack: the event loop never waits for Python. A thread that has not come back a
//! second later is *stuck* until it does. When half of a pool is stuck, or of the threads that
//! requests for a WebSocket may have, the worker is replaced. If not even the watchdog gets hold of
//! Python in that second, all stacks are dumped without it, and the worker is replaced too.
//!
//! The same thread logs the stacks of requests that are slow (`wsgi_slow_request`), and does nothing
//! else to them.
//! Runs on: event loop, but for the body of the watchdog.

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ngx::ffi::{ngx_exiting, ngx_log_t, ngx_msec_t};

use super::retire;
use super::stacks::StackDump;
use crate::nginx::sys::eventfd::Eventfd;
use crate::nginx::sys::timer::Timer;
use crate::nginx::sys::{log, process};
use crate::wsgi::exchange::{Exchange, Progress, Taken};
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::{ExchangeId, Level, LogRecord, Mail, Mailbox};
use crate::wsgi::main_thread::Exit;
use crate::wsgi::own_threads::{OwnThreads, Threads};
use crate::wsgi::queue::runner::Runners;
use crate::wsgi::status::counters::Cause;

/// How long a thread may take to come back after the exception.
const GRACE: Duration = Duration::from_secs(1);

/// A look that is so late finds nothing out: the process has not run, or its event loop has not.
const LATE: Duration = Duration::from_millis(500);

/// What is said of a request whose stack is not to be had.
const NO_STACK: &str = "the stack of this request is not to be had: the GIL has been held for longer \
    than a second";

/// What the watchdog is to do, and where it says that it was done.
enum Order {
    Interrupt(Arc<Exchange>, String, Arc<AtomicBool>),
    /// Logs the stack of a request, so many frames at most.
    Show(Arc<Exchange>, u32, Arc<AtomicBool>),
    /// Logs where Python's main thread is.
    Locate(String, Arc<AtomicBool>),
    /// Says where the threads at these exchanges are.
    Stacks(Vec<Arc<Exchange>>, Arc<Found>),
    /// Runs the application's exit functions: the main thread does not come to it.
    Exit(Arc<Exit>, Instant),
}

/// Stacks of exchanges, once they have been found.
pub type Found = Mutex<Option<Vec<(ExchangeId, String)>>>;

enum Stage {
    /// Its time is not over.
    Followed,
    /// The watchdog has been told.
    Interrupted(Arc<AtomicBool>),
    /// The thread is stuck, and the watchdog has not got hold of Python.
    Unreachable(Arc<AtomicBool>),
}

/// A request without a client whose thread may still be at it.
struct Entry {
    exchange: Arc<Exchange>,
    threads: Threads,
    title: String,
    /// When to look at it next.
    due: Instant,
    stage: Stage,
}

/// A request whose stack the watchdog has been told to log.
struct Shown {
    exchange: Arc<Exchange>,
    acted: Arc<AtomicBool>,
    /// When to see whether it has come to it; `None`: it has been said that it does not.
    due: Option<Instant>,
    /// The orders that it had followed by then.
    followed: usize,
}

impl Shown {
    /// Somebody still wants to know: neither has it ended nor has its client gone.
    fn is_running(&self) -> bool {
        self.exchange.progress() != Progress::Ended && !self.exchange.is_cancelled()
    }
}

/// The watch of one worker.
pub struct Watch {
    timer: Timer,
    entries: RefCell<Vec<Entry>>,
    shown: RefCell<Vec<Shown>>,
    /// How many orders the watchdog has followed.
    followed: Arc<AtomicUsize>,
    orders: OnceCell<mpsc::Sender<Order>>,
    /// The stacks have been dumped since the watchdog last got hold of Python.
    dumped: Cell<bool>,
    /// The names of the pools.
    pools: Vec<String>,
    runners: Arc<Runners>,
    own: Arc<OwnThreads>,
    mailbox: Arc<Mailbox>,
    eventfd: &'static Eventfd,
    stack_dump: Option<Arc<StackDump>>,
}

impl Watch {
    /// `pools`: their names.
    pub fn leak(
        runners: Arc<Runners>,
        own: Arc<OwnThreads>,
        mailbox: Arc<Mailbox>,
        eventfd: &'static Eventfd,
        stack_dump: Option<Arc<StackDump>>,
        pools: Vec<String>,
        log: *mut ngx_log_t,
    ) -> &'static Self {
        let this: &'static Self = Box::leak(Box::new(Self {
            timer: Timer::new(log),
            entries: RefCell::default(),
            shown: RefCell::default(),
            followed: Arc::default(),
            orders: OnceCell::new(),
            dumped: Cell::new(false),
            pools,
            runners,
            own,
            mailbox,
            eventfd,
            stack_dump,
        }));
        this.timer.calls(move || this.arm(this.look()));
        this
    }

    /// Whether one of these threads is at this exchange.
    pub fn is_at(&self, threads: Threads, id: ExchangeId) -> bool {
        match threads {
            Threads::Pool(pool) => self.runners.is_at(pool, id),
            Threads::Own(_) => self.own.is_at(id),
        }
    }

    /// Whether that thread is stuck.
    pub fn is_stuck(&self, threads: Threads, id: ExchangeId) -> bool {
        match threads {
            Threads::Pool(pool) => self.runners.is_stuck(pool, id),
            Threads::Own(_) => self.own.is_stuck(id),
        }
    }

    /// A request has no client any more. If a thread is at it, one of these, it is interrupted
    /// `timeout` after it has begun. `title` is what the log calls it.
    pub fn follow(
        &self,
        exchange: &Arc<Exchange>,
        threads: Threads,
        timeout: Duration,
        title: impl FnOnce() -> String,
    ) {
        let Some(Taken { at: begun, .. }) = exchange.taken() else { return };
        if exchange.has_returned() {
            return;
        }
        let is_running = |entry: &Entry| self.is_at(entry.threads, entry.exchange.id());
        let mut entries = self.entries.borrow_mut();
        entries.retain(is_running);
        entries.push(Entry {
            exchange: Arc::clone(exchange),
            threads,
            title: title(),
            due: begun + timeout,
            stage: Stage::Followed,
        });
        let next = entries.iter().map(|entry| entry.due).min();
        drop(entries);
        // Never at once: the request is just being taken apart.
        self.arm(next);
    }

    /// A request runs for long: its stack is logged, `depth` frames at most, and if Python is not to
    /// be got hold of that is. Nothing is done if it is still waited for at this request.
    pub fn show(&self, exchange: &Arc<Exchange>, depth: u32) {
        self.forget_shown();
        let mut shown = self.shown.borrow_mut();
        if shown.iter().any(|shown| Arc::ptr_eq(&shown.exchange, exchange)) {
            return;
        }
        let due = Instant::now() + GRACE;
        let (exchange, acted) = (Arc::clone(exchange), Arc::new(AtomicBool::new(false)));
        let followed = self.followed.load(Ordering::Acquire);
        self.order(Order::Show(Arc::clone(&exchange), depth, Arc::clone(&acted)));
        shown.push(Shown { exchange, acted, due: Some(due), followed });
        self.arm(Some(due));
    }

    /// Forgets the stacks that the watchdog has come to.
    fn forget_shown(&self) {
        self.shown.borrow_mut().retain(|shown| {
            let acted = shown.acted.load(Ordering::Acquire);
            if acted && shown.due.is_none() {
                self.reached();
            }
            !acted
        });
    }

    /// Looks whether the watchdog has come to the stacks that it was to log.
    fn look_at_shown(&self, now: Instant) -> Option<Instant> {
        let followed = self.followed.load(Ordering::Acquire);
        self.forget_shown();
        for shown in &mut *self.shown.borrow_mut() {
            if let Some(due) = shown.due
                && due <= now
            {
                // If it has followed others it will come to this one.
                let comes = shown.followed != followed || now - due >= LATE;
                shown.due = comes.then_some(now + GRACE);
                shown.followed = followed;
                if shown.due.is_none() {
                    if shown.is_running() {
                        let (exchange, level) = (Some(shown.exchange.id()), Level::Warn);
                        self.mailbox.log(LogRecord { exchange, level, text: NO_STACK.to_owned() });
                    }
                    self.dump();
                }
            }
        }
        self.shown.borrow().iter().filter_map(|shown| shown.due).min()
    }

    /// Looks at the requests whose time has come; returns when to look again.
    pub fn look(&self) -> Option<Instant> {
        let now = Instant::now();
        let next = self.look_at_shown(now);
        let (due, later): (Vec<_>, Vec<_>) =
            self.entries.take().into_iter().partition(|entry| entry.due <= now);
        self.entries.replace(later);
        for entry in due {
            if self.is_at(entry.threads, entry.exchange.id())
                && let Some(entry) = self.step(entry, now)
            {
                self.entries.borrow_mut().push(entry);
            }
        }
        self.entries.borrow().iter().map(|entry| entry.due).chain(next).min()
    }

    /// One request's thread is still at it, and its time is over.
    fn step(&self, mut entry: Entry, now: Instant) -> Option<Entry> {
        let is_late = now - entry.due >= LATE;
        entry.due = now + GRACE;
        if is_late && matches!(entry.stage, Stage::Interrupted(_)) {
            return Some(entry);
        }
        entry.stage = match std::mem::replace(&mut entry.stage, Stage::Followed) {
            Stage::Followed => {
                // The thread may be in close(), which is not interrupted.
                if entry.exchange.has_returned() {
                    return None;
                }
                let acted = Arc::new(AtomicBool::new(false));
                let exchange = Arc::clone(&entry.exchange);
                let title = std::mem::take(&mut entry.title);
                self.order(Order::Interrupt(exchange, title, Arc::clone(&acted)));
                Stage::Interrupted(acted)
            }
            Stage::Interrupted(acted) => {
                self.give_up(&entry);
                if acted.load(Ordering::Acquire) {
                    self.reached();
                    return None;
                }
                self.dump();
                retire::retire(Cause::Stuck, "python does not respond");
                Stage::Unreachable(acted)
            }
            Stage::Unreachable(acted) => {
                if acted.load(Ordering::Acquire) {
                    self.reached();
                    return None;
                }
                // SAFETY: a plain variable of nginx. The worker's end is due, and no thread of
                // this process can serve what waits.
                if unsafe { ngx_exiting != 0 } {
                    (0..self.pools.len()).for_each(|pool| self.mailbox.post(Mail::Refuse(pool)));
                }
                Stage::Unreachable(acted)
            }
        };
        Some(entry)
    }

    fn give_up(&self, entry: &Entry) {
        let id = entry.exchange.id();
        let (stuck, all, text) = match entry.threads {
            Threads::Pool(pool) => {
                let queue = self.runners.queues().get(pool);
                let (Some(queue), Some(name)) = (queue, self.pools.get(pool)) else { return };
                if !self.runners.set_stuck(pool, id) {
                    return;
                }
                let (stuck, all) = (self.runners.stuck(pool), queue.threads());
                (stuck, all, format!("{stuck} of {all} threads of the pool \"{name}\" are stuck"))
            }
            Threads::Own(all) => {
                if !self.own.set_stuck(id) {
                    return;
                }
                let stuck = self.own.stuck();
                // Another location may have more than the one of this request.
                let all = all.max(self.own.alive());
                (stuck, all, format!("{stuck} of {all} websocket threads are stuck"))
            }
        };
        log::write_here(Level::Error, format_args!("{text}"));
        if stuck * 2 >= all {
            retire::retire(Cause::Stuck, &text);
        }
        if let Threads::Pool(pool) = entry.threads
            && stuck >= all
        {
            self.mailbox.post(Mail::Refuse(pool));
        }
    }

    /// Logs all stacks without Python's help, from a thread of its own: it forks.
    pub fn dump(&self) {
        let Some(stacks) = self.stack_dump.as_ref().map(Arc::clone) else { return };
        if self.dumped.replace(true) {
            return;
        }
        let mailbox = Arc::clone(&self.mailbox);
        let line = String::from("python does not respond, the stacks of its threads:");
        mailbox.log(LogRecord { exchange: None, level: Level::Error, text: line });
        // Without a thread there is nothing to be done but to go on.
        let _ = process::spawn("wsgi-stacks", move || {
            for line in stacks.lines() {
                mailbox.log(LogRecord { exchange: None, level: Level::Error, text: line });
            }
        });
    }

    fn order(&self, order: Order) {
        let orders = self.orders.get_or_init(|| {
            let (sender, receiver) = mpsc::channel();
            let runners = Arc::clone(&self.runners);
            let (followed, mailbox) = (Arc::clone(&self.followed), Arc::clone(&self.mailbox));
            let wake = self.eventfd.waker();
            let follow = move || watchdog(&runners, &receiver, &followed, &mailbox, wake);
            // Without the thread nobody acts: what comes of that is what the watch is for.
            let _ = process::spawn("wsgi-watchdog", follow);
            sender
        });
        let _ = orders.send(order);
    }

    /// Python has been got hold of: if it does not respond again, that is new.
    pub fn reached(&self) {
        self.dumped.set(false);
    }

    /// Has the watchdog log where Python's main thread is; true when it has.
    pub fn locate_main(&self, title: String) -> Arc<AtomicBool> {
        let acted = Arc::new(AtomicBool::new(false));
        self.order(Order::Locate(title, Arc::clone(&acted)));
        acted
    }

    /// Has the watchdog find out where the threads at these exchanges are. [`Mail::Stacks`] tells that
    /// it has.
    pub fn stacks(&self, exchanges: Vec<Arc<Exchange>>) -> Arc<Found> {
        let found = Arc::new(Found::default());
        self.order(Order::Stacks(exchanges, Arc::clone(&found)));
        found
    }

    /// The stacks of all threads, found without Python's help. [`Mail::Stacks`] tells that they are
    /// there. `None`: the system does not let us.
    pub fn stacks_without_gil(&self) -> Option<Arc<Mutex<Option<Vec<String>>>>> {
        let stacks = Arc::clone(self.stack_dump.as_ref()?);
        let (found, mailbox) = (Arc::new(Mutex::new(None)), Arc::clone(&self.mailbox));
        let lines = Arc::clone(&found);
        process::spawn("wsgi-stacks", move || {
            *lock(&lines) = Some(stacks.lines());
            mailbox.post(Mail::Stacks);
        })
        .ok()?;
        Some(found)
    }

    /// Has the watchdog run the exit functions.
    pub fn exit(&self, exit: &Arc<Exit>, grace: Instant) {
        self.order(Order::Exit(Arc::clone(exit), grace));
    }

    /// Whether a thread is stuck and the watchdog does not get hold of Python.
    pub fn is_unreachable(&self) -> bool {
        self.entries.borrow().iter().any(|entry| match &entry.stage {
            Stage::Unreachable(acted) => !acted.load(Ordering::Acquire),
            _ => false,
        })
    }

    fn arm(&self, next: Option<Instant>) {
        let Some(next) = next else { return };
        let left = next.saturating_duration_since(Instant::now()).as_millis();
        // Rounded up, so that it is due then.
        let left = ngx_msec_t::try_from(left + 1).unwrap_or(ngx_msec_t::MAX / 2);
        self.timer.set_by(left);
    }
}

/// Does what it is told, one after the other. Runs on: the watchdog's thread.
fn watchdog(
    runners: &Runners,
    orders: &mpsc::Receiver<Order>,
    followed: &AtomicUsize,
    mailbox: &Mailbox,
    wake: impl Fn(),
) {
    for order in orders {
        let outcome = catch_unwind(AssertUnwindSafe(|| match &order {
            Order::Interrupt(exchange, title, _) => {
                runners.interpreter().interrupt(exchange, title)
            }
            Order::Show(exchange, depth, _) => runners.interpreter().show(exchange, *depth),
            Order::Locate(title, _) => runners.interpreter().locate_main(title),
            Order::Stacks(exchanges, found) => {
                *lock(found) = Some(runners.interpreter().stacks(exchanges));
                mailbox.post(Mail::Stacks);
            }
            Order::Exit(exit, grace) => exit.run_elsewhere(runners.interpreter(), *grace),
        }));
        if outcome.is_err() {
            runners.alert("the watchdog panicked");
        }
        if let Order::Interrupt(_, _, done) | Order::Show(_, _, done) | Order::Locate(_, done) =
            order
        {
            done.store(true, Ordering::Release);
        }
        followed.fetch_add(1, Ordering::AcqRel);
        wake();
    }
}
