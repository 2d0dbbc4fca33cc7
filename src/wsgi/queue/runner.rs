//! A runner: one long-lived task on a thread of an nginx pool.
//!
//! It attaches to the interpreter once for its life (one thread state, so `threading.local` and
//! Django's database connections survive) and serves its pool's queue until the worker leaves.
//! `src/nginx/worker/pool.rs` starts it.
//! Runs on: pool thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::policy::Conduct;
use super::roles::Seat;
use super::slots::{RunnerSlot, RunnerSlots};
use super::thread_name::thread_name;
use super::{Job, Next, RequestQueue};
use crate::wsgi::exchange::Taken;
use crate::wsgi::interpreter::Interpreter;
use crate::wsgi::mailbox::{ExchangeId, Level, LogRecord, Mail, Mailbox};

/// While requests come one after the other, the event loop is woken for several responses at once,
/// but not later than this. One long request does not hold up the responses before it: they are
/// left to the event loop only when it will look within a moment (`Mailbox::post_soon`).
const LATE: Duration = Duration::from_millis(1);

/// For so long a runner that may be surplus leaves the GIL to those that wait for it.
const YIELD: Duration = Duration::from_micros(100);

/// How long the thread of a runner that has panicked rests, lest a runner that always panics fills
/// the log.
const REST: Duration = Duration::from_millis(100);

/// A runner's places in its pool: given back however it leaves.
struct Places<'a> {
    queue: &'a RequestQueue,
    seat: Seat,
    slots: &'a RunnerSlots,
    slot: Arc<RunnerSlot>,
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        self.slots.remove(&self.slot);
        self.queue.leave(self.seat);
    }
}

/// All runners of a worker.
pub struct Runners {
    interpreter: Arc<dyn Interpreter>,
    queues: Vec<Arc<RequestQueue>>,
    /// Of the pools.
    names: Vec<String>,
    /// What the runners of each queue are at.
    slots: Vec<RunnerSlots>,
    mailbox: Arc<Mailbox>,
    /// Started, and not left.
    alive: AtomicUsize,
}

impl Runners {
    pub fn new(
        interpreter: Arc<dyn Interpreter>,
        queues: Vec<Arc<RequestQueue>>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let slots = queues.iter().map(|_| RunnerSlots::default()).collect();
        let (names, alive) = (Vec::new(), AtomicUsize::new(0));
        Self { interpreter, queues, names, slots, mailbox, alive }
    }

    /// Threads are called after their pool.
    pub fn named(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }

    pub fn queues(&self) -> &[Arc<RequestQueue>] {
        &self.queues
    }

    pub fn interpreter(&self) -> &dyn Interpreter {
        &*self.interpreter
    }

    /// Event loop: whether a runner of this pool is at this exchange.
    pub fn is_at(&self, pool: usize, id: ExchangeId) -> bool {
        self.slots.get(pool).is_some_and(|slots| slots.is_at(id))
    }

    /// Event loop: whether that runner is stuck.
    pub fn is_stuck(&self, pool: usize, id: ExchangeId) -> bool {
        self.slots.get(pool).is_some_and(|slots| slots.is_stuck(id))
    }

    /// Event loop: the runner that is at this exchange is not expected back. False if none is.
    pub fn set_stuck(&self, pool: usize, id: ExchangeId) -> bool {
        self.slots.get(pool).is_some_and(|slots| slots.set_stuck(id))
    }

    /// Runners of this pool that are stuck at present.
    pub fn stuck(&self, pool: usize) -> usize {
        self.slots.get(pool).map_or(0, RunnerSlots::stuck)
    }

    /// All runners that are stuck at present.
    pub fn all_stuck(&self) -> usize {
        self.slots.iter().map(RunnerSlots::stuck).sum()
    }

    /// Event loop: one more runner is about to be started.
    pub fn starting(&self) {
        self.alive.fetch_add(1, Ordering::AcqRel);
    }

    /// Event loop: the runner could not be started after all.
    pub fn not_started(&self) {
        self.alive.fetch_sub(1, Ordering::AcqRel);
    }

    /// Runners that have not left yet. [`Mail::Left`] tells of each change.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }

    /// Event loop: tells all runners to leave.
    pub fn stop(&self) {
        for queue in &self.queues {
            queue.stop();
        }
    }

    /// The life of one runner of the pool with this index.
    pub fn run(&self, index: usize) {
        if self.panics("a runner panicked outside of a request", || self.serve(index)) {
            thread::sleep(REST);
            // Another may be started in its place.
            self.mailbox.post(Mail::Look(index));
        }
        self.alive.fetch_sub(1, Ordering::AcqRel);
        self.mailbox.post(Mail::Left);
    }

    /// Whether `run` panics, which is logged.
    fn panics(&self, what: &str, run: impl FnOnce()) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(run));
        if outcome.is_err() {
            self.alert(what);
        }
        outcome.is_err()
    }

    fn serve(&self, index: usize) {
        let (Some(queue), Some(slots)) = (self.queues.get(index), self.slots.get(index)) else {
            return;
        };
        let Some(seat) = queue.begin() else {
            return;
        };
        let places = Places { queue, seat, slots, slot: slots.add() };
        self.interpreter.attach(&mut || {
            if let Some(pool) = self.names.get(index) {
                self.interpreter.name_thread(&thread_name(pool, index, seat.number()));
            }
            let mut arrived = true;
            while arrived {
                self.serve_all(index, &places);
                self.mailbox.wake_if_late();
                self.interpreter.detach(&mut || arrived = queue.wait(seat));
            }
        });
    }

    /// Serves until nothing waits that is this runner's.
    fn serve_all(&self, index: usize, places: &Places) {
        let (queue, seat) = (places.queue, places.seat);
        let mut conduct = None;
        // When the event loop may last have been woken for a response.
        let mut since = None;
        loop {
            let (job, at, watch, lacks_runner) = match queue.pop(seat, conduct.take()) {
                Next::Work { job, at, watch, lacks_runner } => (job, at, watch, lacks_runner),
                Next::Nothing => return,
                Next::Surplus => return self.mailbox.post(Mail::Look(index)),
                Next::Yield => {
                    self.mailbox.post(Mail::Look(index));
                    // Whoever waits for the GIL has it when `YIELD` is over, and keeps it.
                    self.mailbox.wake_if_late();
                    since = None;
                    self.interpreter.detach(&mut || {
                        thread::sleep(YIELD);
                        queue.yielded(seat);
                    });
                    continue;
                }
            };
            if lacks_runner {
                self.mailbox.post(Mail::Look(index));
            }
            if at - *since.get_or_insert(at) > LATE {
                since = Some(at);
                self.mailbox.wake_if_late();
            }
            let before = watch.then(|| self.interpreter.sleeps());
            self.work(job, Taken { at, runner: seat.number() }, places);
            conduct = before.map(|before| {
                if self.interpreter.sleeps() == before { Conduct::Ran } else { Conduct::Slept }
            });
            self.interpreter.tidy();
        }
    }

    fn work(&self, job: Job, taken: Taken, places: &Places) {
        self.panics("a runner panicked", || match job {
            Job::Call { app, request, response } => {
                // First: whoever sees that the request is taken finds a runner at it.
                places.slot.enter(response.id());
                if response.begin(taken).is_ok() {
                    app.call(request, response);
                }
            }
            Job::Tidy => (),
        });
        if places.slot.leave() {
            places.slots.recovered();
            let line = String::from("a stuck thread is back");
            self.mailbox.log(LogRecord { exchange: None, level: Level::Info, text: line });
        }
    }

    /// Logs a defect of this module.
    pub fn alert(&self, line: &str) {
        let line = line.to_owned();
        self.mailbox.log(LogRecord { exchange: None, level: Level::Alert, text: line });
    }
}

#[cfg(test)]
pub mod tests;
