//! The requests that wait for a thread of one pool in one worker, and the runners that take them.
//!
//! Runners pop while they hold the GIL, until nothing is left; only then do they detach and wait.
//! [`roles`] knows what each of them is at, [`policy`] says who is to take what waits. Each call
//! here takes the lock once, tells both what has happened, and does what follows.
//! Runs on: event loop (push, look, wake, remove), pool thread (the rest).

mod alone;
mod job;
mod lanes;
mod policy;
mod roles;
pub mod runner;
mod slots;
mod thread_name;

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::job::Job;
use self::lanes::Lanes;
pub use self::lanes::Place;
pub use self::policy::Claim;
pub use self::policy::Timers;
use self::policy::{Conduct, Done, Moment, Policy, Taker, Verdict};
use self::roles::{Call, Role, Roles, Seat};
use super::board::{Board, Clock, Writer};
use super::lock::lock;
use super::mailbox::ExchangeId;

/// What a runner does next.
pub enum Next {
    Work {
        job: Job,
        at: Instant,
        /// The caller says whether the thread sleeps in it.
        watch: bool,
        /// More wait and all runners seem to block: the caller has the event loop
        /// [`RequestQueue::look`], which may start one more.
        lacks_runner: bool,
    },
    /// It waits, or leaves.
    Nothing,
    /// Others take what waits: it waits too, and the caller has the event loop look.
    Surplus,
    /// The runner lets others have the GIL for a moment, calls [`RequestQueue::yielded`], and pops
    /// again when it has got the GIL back. The caller has the event loop look, for what is left
    /// then.
    Yield,
}

/// Who sees to it that what waits is taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Nothing waits, or the runners at work will come for it.
    Done,
    /// A sleeping runner has been called: the caller calls [`RequestQueue::wake`] before long.
    Wake,
    /// As `Wake`, and as `LookLater` for what else waits.
    WakeAndLook,
    /// The caller starts one more runner, or calls [`RequestQueue::not_started`], and
    /// [`RequestQueue::look`] a little later.
    StartRunner,
    /// A runner is expected to come soon: the caller calls [`RequestQueue::look`] a little later.
    LookLater,
    /// Nobody is called: all runners are at work, or an import is awaited. Another worker may be
    /// better off.
    Nobody,
}

/// A request that waits, and what it could be given away for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    pub id: ExchangeId,
    pub claim: Claim,
}

/// Whether requests that wait may claim another worker, see [`Claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Overflow {
    Nothing,
    /// Some runner has the GIL: in a moment, if they still wait.
    Soon,
    /// More wait than there are free threads, and would wait for long.
    Now,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Runners that are at a request.
    pub busy: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that could be taken at once.
    pub room: usize,
}

/// Too many requests wait already: the job comes back.
pub struct Full(pub Box<Job>);

impl fmt::Debug for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full")
    }
}

struct State {
    jobs: Lanes,
    roles: Roles,
    policy: Policy,
    stopping: bool,
    /// What other workers see.
    board: Option<Writer>,
}

impl State {
    /// Sees to it that somebody takes the next runnable job.
    fn summon(&mut self) -> Wakeup {
        if self.stopping || !self.jobs.has_next() {
            let waits = !self.stopping && self.jobs.requests() > 0;
            return if waits { Wakeup::Nobody } else { Wakeup::Done };
        }
        match policy::taker(self.roles.counts()) {
            Taker::Coming => Wakeup::LookLater,
            Taker::Sleeper => {
                self.roles.call(Call::Timed);
                if self.jobs.len() == 1 { Wakeup::Wake } else { Wakeup::WakeAndLook }
            }
            Taker::New => {
                self.roles.start();
                Wakeup::StartRunner
            }
            Taker::Nobody if self.jobs.requests() == 0 => Wakeup::Done,
            Taker::Nobody => Wakeup::Nobody,
        }
    }

    /// A runner is about to sleep: whether it finds a job instead, which may have come between its
    /// last `pop` and now, when nobody was asleep.
    fn goes_on(&mut self, seat: Seat) -> bool {
        let Role::Awake { since } = self.roles.get(seat) else {
            return false;
        };
        let goes_on = !self.stopping && self.roles.counts().coming() == 0 && self.jobs.has_next();
        let role = if goes_on { Role::Attaching { since, call: Call::Own } } else { Role::Asleep };
        self.roles.set(seat, role);
        self.show(since);
        goes_on
    }

    /// Requests that could be taken at once.
    fn room(&self) -> usize {
        if self.stopping { 0 } else { self.roles.free().saturating_sub(self.jobs.requests()) }
    }

    fn show_room(&mut self) {
        let room = self.room();
        if let Some(board) = &mut self.board {
            board.show_room(room);
        }
    }

    /// Shows other workers how things stand since `now`.
    fn show(&mut self, now: Instant) {
        self.show_room();
        let Some(board) = &mut self.board else { return };
        let counts = self.roles.counts();
        let is_idle = !counts.is_up() && counts.coming() == 0 && counts.starting == 0;
        board.show_idle(is_idle.then_some(now));
    }

    /// A runner has been called, and comes for the GIL.
    fn wakes(&mut self, seat: Seat, since: Instant) {
        if let Role::Called(call) = self.roles.get(seat) {
            self.roles.set(seat, Role::Attaching { since, call });
        }
    }
}

/// The queue of one pool.
pub struct RequestQueue {
    threads: usize,
    state: Mutex<State>,
    /// Where each runner sleeps.
    beds: Vec<Condvar>,
    /// See [`Self::overflow`].
    overflow: AtomicU8,
    #[cfg(test)]
    clock: Mutex<Option<Instant>>,
}

impl RequestQueue {
    /// `threads`: how many runners it can have; `timers`: when [`Self::look`] comes; after
    /// `switch_interval` the holder of the GIL is made to let go of it.
    pub fn new(threads: usize, timers: Timers, switch_interval: Duration) -> Self {
        let state = State {
            jobs: Lanes::default(),
            roles: Roles::new(threads),
            policy: Policy::new(timers, switch_interval),
            stopping: false,
            board: None,
        };
        Self {
            threads,
            state: Mutex::new(state),
            beds: std::iter::repeat_with(Condvar::new).take(threads).collect(),
            overflow: AtomicU8::new(Overflow::Nothing as u8),
            #[cfg(test)]
            clock: Mutex::default(),
        }
    }

    #[cfg(not(test))]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// From now on other workers see how things stand here.
    pub fn show_on(&self, board: &'static Board, clock: Clock) {
        let now = self.now();
        let mut state = self.lock();
        state.board = Some(Writer::new(board, clock));
        state.show(now);
    }

    /// A place behind all that wait, for a request that is not queued.
    pub fn place(&self) -> Place {
        let now = self.now();
        self.lock().jobs.place(now)
    }

    pub fn load(&self) -> Load {
        let state = self.lock();
        let (busy, waiting) = (state.roles.counts().working, state.jobs.requests());
        Load { busy, waiting, room: state.room() }
    }

    /// Whether one more request could be taken at once.
    pub fn has_room(&self) -> bool {
        self.lock().room() > 0
    }

    /// Of the requests that `may_go` those that have waited for longest, at most so many, and what
    /// each claims.
    pub fn claimants(&self, most: usize, may_go: impl Fn(ExchangeId) -> bool) -> Vec<Claimant> {
        let now = self.now();
        let state = self.lock();
        if state.stopping || state.jobs.requests() == 0 {
            return Vec::new();
        }
        let free = state.roles.free();
        let claimants = state.jobs.waiting(most, may_go).into_iter().map(|waiting| {
            let waited = now.saturating_duration_since(waiting.place.since);
            let claim = match waiting.is_runnable {
                true => state.policy.claim(waiting.nth < free, waited),
                // It will not be run here for long.
                false => Claim::Room,
            };
            Claimant { id: waiting.id, claim }
        });
        claimants.collect()
    }

    /// Queues a job. `limit`: how many requests may wait beside those that a free thread can take
    /// at once. The numbers of requests are those of an event loop, which grow.
    pub fn push(&self, job: Job, limit: usize) -> Result<Wakeup, Full> {
        let mut state = self.lock();
        let most = limit.saturating_add(state.roles.free());
        if state.stopping || state.jobs.requests() >= most {
            return Err(Full(Box::new(job)));
        }
        if matches!(job, Job::Tidy) && state.jobs.has_tidy() {
            return Ok(Wakeup::Done);
        }
        let now = self.now();
        state.jobs.push(job, now);
        let is_up = state.roles.counts().is_up();
        let is_expected = state.policy.is_expected(state.roles.counts(), now);
        let wakeup = if is_expected { Wakeup::LookLater } else { state.summon() };
        state.show(now);
        let overflow = if state.jobs.requests() > state.roles.free() && state.policy.takes_long() {
            Overflow::Now
        } else if is_up {
            Overflow::Soon
        } else {
            Overflow::Nothing
        };
        self.overflow.store(overflow as u8, Ordering::Relaxed);
        Ok(wakeup)
    }

    /// Event loop: whether what the last [`Self::push`] has left may claim another worker.
    pub fn overflow(&self) -> Overflow {
        match self.overflow.load(Ordering::Relaxed) {
            now if now == Overflow::Now as u8 => Overflow::Now,
            soon if soon == Overflow::Soon as u8 => Overflow::Soon,
            _ => Overflow::Nothing,
        }
    }

    /// Looks again after a [`Wakeup::LookLater`], or because a runner is lacking or surplus: if
    /// nobody has come for what waits, or it is time for a trial, somebody is called.
    pub fn look(&self) -> Wakeup {
        let mut state = self.lock();
        if state.jobs.has_next() && state.policy.is_crowded(self.now()) {
            return Wakeup::LookLater;
        }
        state.summon()
    }

    /// Wakes the runner that has been called.
    pub fn wake(&self) {
        let called = self.lock().roles.called();
        if let Some(seat) = called {
            self.rouse(seat);
        }
    }

    fn rouse(&self, seat: Seat) {
        self.beds[seat.index()].notify_one();
    }

    /// The runner that [`Wakeup::StartRunner`] asked for could not be started.
    pub fn not_started(&self) {
        self.lock().roles.not_started();
    }

    /// Drops a request that no runner has taken yet; true if it was there.
    pub fn remove(&self, id: ExchangeId) -> bool {
        self.take_out(id).is_some()
    }

    /// Takes a request out that no runner has taken yet, if it is there.
    pub fn take_out(&self, id: ExchangeId) -> Option<(Job, Place)> {
        let mut state = self.lock();
        let removed = state.jobs.remove(id)?;
        state.show_room();
        Some(removed)
    }

    /// A request that was taken out comes back to its place, whatever the limit.
    pub fn put_back(&self, job: Job, place: Place) -> Wakeup {
        let mut state = self.lock();
        if state.stopping {
            // Dropped without the lock, which ends the exchange.
            drop(state);
            drop(job);
            return Wakeup::Done;
        }
        state.jobs.put_back(job, place);
        state.show_room();
        state.summon()
    }

    /// A runner begins, and is to [`Self::leave`]. `None` if it should leave at once.
    pub fn begin(&self) -> Option<Seat> {
        let mut state = self.lock();
        if state.stopping {
            state.roles.not_started();
            return None;
        }
        state.roles.begin(self.now())
    }

    /// The next job, for an attached runner. `conduct`: of its thread in the last one, if that was
    /// to be watched.
    pub fn pop(&self, seat: Seat, conduct: Option<Conduct>) -> Next {
        let now = self.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let short = state.roles.short_beside(seat, now, state.policy.switch_interval());
        let moment = Moment { counts: state.roles.counts(), short, now };
        let mut standby = None;
        let verdict = match state.roles.get(seat) {
            Role::Attaching { since, call } => {
                standby = Some(call);
                state.policy.came(since, call, &moment)
            }
            Role::Working { job, since } => {
                let verdict = state.policy.came_back(Done { job, since, conduct }, &moment);
                // Where nothing waits there is nothing to be left to others.
                let waits = verdict == Verdict::Take || state.jobs.has_next();
                if waits { verdict } else { Verdict::Take }
            }
            _ => Verdict::Take,
        };
        match verdict {
            Verdict::Take => (),
            Verdict::Sleep => {
                state.policy.left(now);
                // From now on it can be called.
                state.roles.set(seat, Role::Asleep);
                state.show(now);
                return Next::Surplus;
            }
            Verdict::Yield => {
                state.roles.set(seat, Role::Attaching { since: now, call: Call::Yield });
                state.show_room();
                return Next::Yield;
            }
        }
        let Some(job) = state.jobs.pop() else {
            state.roles.set(seat, Role::Awake { since: now });
            state.show_room();
            return Next::Nothing;
        };
        let mut watch = false;
        if let Some(id) = job.id() {
            watch = state.policy.took(id, short, now);
            state.roles.set(seat, Role::Working { job: id, since: now });
        } else {
            state.roles.set(seat, Role::Awake { since: now });
        }
        state.show(now);
        state.policy.popped(standby, now);
        let counts = state.roles.counts();
        let calls = standby
            .filter(|call| state.policy.calls_next(*call, counts, now) && state.jobs.has_next());
        let Some(call) = calls else {
            return Next::Work { job, at: now, watch, lacks_runner: false };
        };
        let lacks_runner = policy::lacks_runner(counts);
        let next = state.roles.call(if call.is_timed() { Call::Timed } else { Call::Untimed });
        drop(guard);
        if let Some(next) = next {
            self.rouse(next);
        }
        Next::Work { job, at: now, watch, lacks_runner }
    }

    /// The runner that [`Next::Yield`] was said to has left the GIL to others, and comes for it.
    pub fn yielded(&self, seat: Seat) {
        let since = self.now();
        let mut state = self.lock();
        if let Role::Attaching { call, .. } = state.roles.get(seat) {
            state.roles.set(seat, Role::Attaching { since, call });
        }
    }

    /// Blocks, detached, until this runner is to take a job; false when it is to leave. What waits
    /// is left to others after [`Next::Surplus`].
    pub fn wait(&self, seat: Seat) -> bool {
        let mut state = self.lock();
        if state.goes_on(seat) {
            return true;
        }
        while !state.stopping && matches!(state.roles.get(seat), Role::Asleep) {
            state = self.beds[seat.index()].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wakes(seat, self.now());
        !state.stopping
    }

    /// A runner leaves, or has panicked in the midst of what it is at. The caller has the
    /// event loop look after what it was called for, unless another can be called in its place.
    pub fn leave(&self, seat: Seat) {
        let mut state = self.lock();
        let before = state.roles.set(seat, Role::Vacant);
        state.show_room();
        if let Role::Called(call) = before
            && let Some(next) = state.roles.call(call)
        {
            drop(state);
            self.rouse(next);
        }
    }

    /// Nothing is taken any more; the runners leave. Jobs that wait are dropped, which ends their
    /// exchanges.
    pub fn stop(&self) {
        let jobs = {
            let mut state = self.lock();
            state.stopping = true;
            state.show_room();
            std::mem::take(&mut state.jobs)
        };
        self.beds.iter().for_each(Condvar::notify_one);
        drop(jobs);
    }
}

#[cfg(test)]
mod tests;
