//! `?stacks`: where the threads of all workers are, asked of each by the one that is asked.
//!
//! A worker's *watchdog* finds the stacks of its own, as soon as it gets hold of Python; if it does
//! not, the GIL is held, and they are found without it. Other workers ask and answer over the links
//! of `nginx/balance`. Who has said nothing when [`PATIENCE`] is over does not answer. A dump is
//! shown to all who ask within a second, so that asking costs little.
//! Runs on: event loop.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ngx::ffi::{
    ngx_http_cleanup_add, ngx_http_finalize_request, ngx_http_read_client_request_body,
    ngx_http_request_t, ngx_http_run_posted_requests, ngx_int_t, ngx_log_t, ngx_msec_t, ngx_worker,
};

use super::answer::finish;
use crate::nginx::balance::{StacksSaid, balance};
use crate::nginx::request::client::watch_client;
use crate::nginx::request::context;
use crate::nginx::sys::code;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::timer::Timer;
use crate::nginx::worker::display::display;
use crate::nginx::worker::watch::Found;
use crate::nginx::worker::worker;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::ExchangeId;
use crate::wsgi::status::snapshot::{Snapshot, Stacks as Outcome};
use crate::wsgi::status::stack::{Dump, frames, threads};

/// How long a worker may take to say anything.
const PATIENCE: ngx_msec_t = 500;
/// And then, if it has said that the GIL is held, until it has found the stacks without it.
const MORE_PATIENCE: ngx_msec_t = 2000;
/// How long the watchdog may take to get hold of Python.
const GIL: ngx_msec_t = 250;
/// How long a dump is shown.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of the threads of a worker.
enum Known {
    Dump(Dump),
    Silent,
    Unreachable,
}

/// The dump of this worker, while it is made.
struct Making {
    /// By slot and number of the request in the worker that has the client.
    exchanges: Vec<(usize, ExchangeId, Arc<Exchange>)>,
    found: Arc<Found>,
    /// The GIL is held.
    without_gil: Option<Arc<Mutex<Option<Vec<String>>>>>,
}

/// Who wants the dump of this worker.
#[derive(Clone, Copy)]
enum Asker {
    Own,
    /// Link and number of the question.
    Other(u64, u64),
}

/// What has come of a slot that is asked.
struct Asked {
    slot: usize,
    text: String,
}

/// The questions of this worker, and its answers.
pub struct Stacks {
    own: usize,
    /// The number of the last question.
    question: Cell<u64>,
    asked: RefCell<Vec<Asked>>,
    /// By slot, and since when.
    known: RefCell<Vec<(usize, Instant, Known)>>,
    /// Requests that wait for the answer.
    waiting: RefCell<Vec<*mut ngx_http_request_t>>,
    is_extended: Cell<bool>,
    /// The end of a question, which a leaving worker waits for.
    end: Timer,
    making: RefCell<Option<Making>>,
    askers: RefCell<Vec<Asker>>,
    last: RefCell<Option<(Instant, Dump)>>,
    gil: Timer,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static STACKS: Cell<Option<&'static Stacks>> = const { Cell::new(None) };
}

/// The worker has started, and knows the others.
pub fn start(log: *mut ngx_log_t) {
    if display().is_none() {
        return;
    }
    let this: &'static Stacks = Box::leak(Box::new(Stacks {
        // SAFETY: a plain variable of nginx.
        own: unsafe { ngx_worker },
        question: Cell::new(0),
        asked: RefCell::default(),
        known: RefCell::default(),
        waiting: RefCell::default(),
        is_extended: Cell::new(false),
        end: Timer::holding(log),
        making: RefCell::default(),
        askers: RefCell::default(),
        last: RefCell::default(),
        gil: Timer::new(log),
    }));
    this.end.calls(|| this.time_is_over());
    this.gil.calls(|| this.is_late());
    if let Some(balance) = balance() {
        balance.says_stacks_to(|said| match said {
            StacksSaid::Asked(link, number) => this.make(Asker::Other(link, number)),
            StacksSaid::Told(slot, number, text, more) => this.told(slot, number, &text, more),
        });
    }
    STACKS.set(Some(this));
}

/// The watchdog, or the system, has found stacks.
pub fn found() {
    if let Some(stacks) = STACKS.get() {
        stacks.found();
    }
}

/// Answers a request when all stacks are there.
///
/// # Safety
///
/// `r` is a live main request in the content phase.
pub unsafe fn ask(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the request is live, as the caller says; nginx gives it a reference for the handler.
    let rc = unsafe { ngx_http_read_client_request_body(r, Some(ngx_http_wsgi_ask)) };
    if rc >= code::SPECIAL_RESPONSE { rc } else { code::DONE }
}

/// The request has no body any more.
unsafe extern "C" fn ngx_http_wsgi_ask(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx's request, with a reference for us that one finalize gives back. Its cleanup
        // runs before it is freed.
        unsafe {
            let cleanup = ngx_http_cleanup_add(r, 0);
            let (Some(stacks), false) = (STACKS.get(), cleanup.is_null()) else {
                let rc = finish(r, |_| ());
                return ngx_http_finalize_request(r, rc);
            };
            (*cleanup).data = r.cast();
            (*cleanup).handler = Some(ngx_http_wsgi_forget_asker);
            stacks.waiting.borrow_mut().push(r);
            stacks.ask();
            watch_client(r);
        }
    });
}

/// The request ends, or is terminated.
unsafe extern "C" fn ngx_http_wsgi_forget_asker(data: *mut c_void) {
    protect((), || {
        if let Some(stacks) = STACKS.get() {
            stacks.waiting.borrow_mut().retain(|r| !std::ptr::eq(*r, data.cast()));
        }
    });
}

impl Stacks {
    fn is_asking(&self) -> bool {
        self.end.is_set()
    }

    /// Somebody waits for the stacks of all workers.
    fn ask(&'static self) {
        if self.is_asking() {
            return;
        }
        self.question.set(self.question.get() + 1);
        self.is_extended.set(false);
        let now = Instant::now();
        self.known.borrow_mut().retain(|(_, since, _)| now.duration_since(*since) < FRESH);
        let slots = display().map_or(0, |display| display.slots());
        for slot in 0..slots {
            if self.known.borrow().iter().any(|(known, ..)| *known == slot) {
                continue;
            }
            let is_own = slot == self.own;
            let can_be_asked = is_own
                || balance()
                    .is_some_and(|balance| balance.ask_for_stacks(slot, self.question.get()));
            if can_be_asked {
                self.asked.borrow_mut().push(Asked { slot, text: String::new() });
            } else {
                self.known.borrow_mut().push((slot, now, Known::Unreachable));
            }
        }
        let is_done = self.asked.borrow().is_empty();
        // Never at once: the request does not wait yet.
        self.end.set(if is_done { 1 } else { PATIENCE });
        self.make(Asker::Own);
    }

    /// A worker has answered.
    fn told(&self, slot: usize, number: u64, text: &str, more: bool) {
        if number != self.question.get() {
            return;
        }
        let mut asked = self.asked.borrow_mut();
        let Some(index) = asked.iter().position(|asked| asked.slot == slot) else { return };
        asked[index].text.push_str(text);
        if more {
            return;
        }
        let Asked { text, .. } = asked.swap_remove(index);
        let is_done = asked.is_empty();
        drop(asked);
        let dump = Known::Dump(Dump::read(&text));
        self.known.borrow_mut().push((slot, Instant::now(), dump));
        if is_done && self.is_asking() {
            self.end.set(1);
        }
    }

    /// The timer of a question: all have answered, or others need not be waited for.
    fn time_is_over(&self) {
        let is_held = self.asked.borrow().iter().any(|asked| !asked.text.is_empty());
        if is_held && !self.is_extended.replace(true) {
            return self.end.set(MORE_PATIENCE);
        }
        let now = Instant::now();
        for Asked { slot, text } in self.asked.take() {
            let known =
                if text.is_empty() { Known::Silent } else { Known::Dump(Dump::read(&text)) };
            self.known.borrow_mut().push((slot, now, known));
        }
        for r in self.waiting.take() {
            // SAFETY: requests that wait are live, and hold a reference that is given back here. The
            // connection's memory outlives them: nginx marks a closed one as destroyed.
            unsafe {
                let c = (*r).connection;
                let rc = finish(r, |snapshot| self.fill(snapshot));
                ngx_http_finalize_request(r, rc);
                ngx_http_run_posted_requests(c);
            }
        }
    }

    /// Adds what is known to a snapshot.
    fn fill(&self, snapshot: &mut Snapshot) {
        snapshot.has_stacks = true;
        for (slot, _, known) in &*self.known.borrow() {
            let worker = snapshot.workers.iter_mut().find(|worker| worker.slot == *slot);
            let Some(worker) = worker else { continue };
            let dump = match known {
                Known::Dump(dump) => dump,
                Known::Silent => {
                    worker.stacks = Outcome::Silent;
                    continue;
                }
                Known::Unreachable => {
                    worker.stacks = Outcome::Unreachable;
                    continue;
                }
            };
            let stacks = dump.requests.iter().map(|(.., stack)| stack);
            let all = stacks.chain(&dump.threads).filter(|stack| !stack.is_empty());
            worker.stacks =
                if dump.is_held { Outcome::Held(all.cloned().collect()) } else { Outcome::Shown };
            for (owner, id, stack) in &dump.requests {
                let mut requests = snapshot.requests.iter_mut();
                let request =
                    requests.find(|request| request.slot as u64 == *owner && request.row.id == *id);
                if let Some(request) = request {
                    request.stack.clone_from(stack);
                }
            }
        }
    }
}

impl Stacks {
    /// Somebody wants the stacks of this worker.
    fn make(&self, asker: Asker) {
        let last = self.last.borrow().as_ref().map(|(since, dump)| (*since, dump.write()));
        if let Some((_, text)) = last.filter(|(since, _)| since.elapsed() < FRESH) {
            return self.tell(asker, &text, false);
        }
        self.askers.borrow_mut().push(asker);
        if self.making.borrow().is_some() {
            return;
        }
        let Some(worker) = worker() else { return self.made(Dump::default()) };
        let exchanges = self.at_work();
        let found = worker.watch.stacks(exchanges.iter().map(|at| Arc::clone(&at.2)).collect());
        self.making.replace(Some(Making { exchanges, found, without_gil: None }));
        self.gil.set(GIL);
    }

    /// What threads of this worker are at.
    fn at_work(&self) -> Vec<(usize, ExchangeId, Arc<Exchange>)> {
        let own = |exchange: &Arc<Exchange>| (self.own, exchange.id(), Arc::clone(exchange));
        let mut all: Vec<_> = context::table()
            .all()
            .into_iter()
            // SAFETY: contexts that the table knows are live.
            .map(|context| unsafe { own(&(*context).exchange) })
            .filter(|(.., exchange)| exchange.taken().is_some() && exchange.handed_over().is_none())
            .collect();
        if let Some(display) = display() {
            all.extend(display.left.borrow().iter().map(|left| own(&left.exchange)));
        }
        if let Some(balance) = balance() {
            all.extend(balance.guests.exchanges());
        }
        all
    }

    fn found(&self) {
        let mut making = self.making.borrow_mut();
        let Some(Making { exchanges, found, without_gil }) = making.as_ref() else { return };
        let dump = if let Some(stacks) = lock(found).take() {
            let of = |(id, text): (ExchangeId, String)| {
                let at = exchanges.iter().find(|(.., exchange)| exchange.id() == id)?;
                Some((at.0 as u64, at.1, frames(&text)))
            };
            Dump { requests: stacks.into_iter().filter_map(of).collect(), ..Dump::default() }
        } else if let Some(lines) = without_gil.as_ref().and_then(|lines| lock(lines).take()) {
            let mut dump = Dump { is_held: true, ..Dump::default() };
            for (thread, frames) in threads(&lines) {
                let is_its = |exchange: &Exchange| exchange.interruption().thread() == Some(thread);
                match exchanges.iter().find(|(.., exchange)| is_its(exchange)) {
                    Some((slot, id, _)) => dump.requests.push((*slot as u64, *id, frames)),
                    None if frames.is_empty() => (),
                    None => dump.threads.push(frames),
                }
            }
            dump
        } else {
            return;
        };
        *making = None;
        drop(making);
        self.made(dump);
    }

    fn made(&self, dump: Dump) {
        self.gil.clear();
        self.making.replace(None);
        let text = dump.write();
        self.last.replace(Some((Instant::now(), dump)));
        for asker in self.askers.take() {
            self.tell(asker, &text, false);
        }
    }

    fn tell(&self, asker: Asker, text: &str, more: bool) {
        match asker {
            Asker::Own => self.told(self.own, self.question.get(), text, more),
            Asker::Other(link, number) => {
                if let Some(balance) = balance() {
                    balance.tell_stacks(link, number, text, more);
                }
            }
        }
    }

    /// The watchdog does not get hold of Python, or no stacks are found without it either.
    fn is_late(&self) {
        let held = Dump { is_held: true, ..Dump::default() };
        let mut making = self.making.borrow_mut();
        let Some(Making { without_gil, .. }) = making.as_mut() else { return };
        let is_second = without_gil.is_some();
        if !is_second {
            *without_gil = worker().and_then(|worker| worker.watch.stacks_without_gil());
        }
        let is_last = is_second || without_gil.is_none();
        drop(making);
        if is_last {
            return self.made(held);
        }
        self.gil.set(MORE_PATIENCE - PATIENCE);
        let askers = mem::take(&mut *self.askers.borrow_mut());
        for asker in &askers {
            self.tell(*asker, &held.write(), true);
        }
        self.askers.borrow_mut().extend(askers);
    }
}
