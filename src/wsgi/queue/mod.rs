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

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::job::Job;
use self::lanes::Lanes;
pub use self::policy::Timers;
use self::policy::{Conduct, Done, Moment, Policy, Taker, Verdict};
use self::roles::{Call, Role, Roles, Seat};
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
}

/// Too many requests wait already; the request is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

struct State {
    jobs: Lanes,
    roles: Roles,
    policy: Policy,
    stopping: bool,
}

impl State {
    /// Sees to it that somebody takes the next runnable job.
    fn summon(&mut self) -> Wakeup {
        if self.stopping || !self.jobs.has_next() {
            return Wakeup::Done;
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
            Taker::Nobody => Wakeup::Done,
        }
    }

    /// A runner is about to sleep: whether it finds a job instead, which may have come between its
    /// last `pop` and now, when nobody was asleep.
    fn goes_on(&mut self, seat: Seat) -> bool {
        let Role::Awake { since } = self.roles.get(seat) else {
            return false;
        };
        let goes_on = !self.stopping && self.roles.counts().coming() == 0 && self.jobs.has_next();
        let role = if goes_on {
            Role::Attaching { since, call: Call::Own }
        } else {
            Role::Asleep { since }
        };
        self.roles.set(seat, role);
        goes_on
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
        };
        Self {
            threads,
            state: Mutex::new(state),
            beds: std::iter::repeat_with(Condvar::new).take(threads).collect(),
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

    /// Queues a job. `limit`: how many requests may wait beside those that a free thread can take
    /// at once. The numbers of requests are those of an event loop, which grow.
    pub fn push(&self, job: Job, limit: usize) -> Result<Wakeup, Full> {
        let mut state = self.lock();
        let most = limit.saturating_add(state.roles.free());
        if state.stopping || state.jobs.requests() >= most {
            return Err(Full);
        }
        if matches!(job, Job::Tidy) && state.jobs.has_tidy() {
            return Ok(Wakeup::Done);
        }
        state.jobs.push(job);
        let now = self.now();
        if state.policy.is_expected(state.roles.counts(), now) {
            return Ok(Wakeup::LookLater);
        }
        Ok(state.summon())
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

    /// Takes a request out that no runner has taken yet; true if it was there.
    pub fn remove(&self, id: ExchangeId) -> bool {
        // Dropped without the lock.
        let job = self.lock().jobs.remove(id);
        job.is_some()
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
                state.roles.set(seat, Role::Asleep { since: now });
                return Next::Surplus;
            }
            Verdict::Yield => {
                state.roles.set(seat, Role::Attaching { since: now, call: Call::Yield });
                return Next::Yield;
            }
        }
        let Some(job) = state.jobs.pop() else {
            state.roles.set(seat, Role::Awake { since: now });
            return Next::Nothing;
        };
        let mut watch = false;
        if let Some(id) = job.id() {
            watch = state.policy.took(id, short, now);
            state.roles.set(seat, Role::Working { job: id, since: now });
        } else {
            state.roles.set(seat, Role::Awake { since: now });
        }
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
        while !state.stopping && matches!(state.roles.get(seat), Role::Asleep { .. }) {
            state = self.beds[seat.index()].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wakes(seat, self.now());
        !state.stopping
    }

    /// A runner leaves, or has panicked in the midst of what it is at. The caller has the
    /// event loop look after what it was called for, unless another can be called in its place.
    pub fn leave(&self, seat: Seat) {
        let mut state = self.lock();
        if let Role::Called(call) = state.roles.set(seat, Role::Vacant)
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
            std::mem::take(&mut state.jobs)
        };
        self.beds.iter().for_each(Condvar::notify_one);
        drop(jobs);
    }
}

#[cfg(test)]
mod tests;
