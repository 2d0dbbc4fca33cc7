//! The requests that wait for a thread of one pool in one worker, and who is to take them.
//!
//! Runners pop while they hold the GIL, until nothing is left; only then do they detach and wait. A
//! request that comes right after another has been taken is left to them. When requests wait for
//! longer a waiting runner is sent to the GIL (the *stand-by*, one at a time), and when it has taken
//! a request it calls the next, so that blocking work spreads over all threads.
//!
//! Where nothing blocks one runner is enough ([`alone`]), beside those at long requests. Then a
//! stand-by is *surplus* if somebody has come back for more within the switch interval, and goes back
//! to sleep; so does a runner that comes back while another is at work. That is believed for
//! [`TRIAL`], or [`FIRST_TRIAL`], unless nobody comes back; then a stand-by looks again.
//! Runs on: event loop (push, check, remove), pool thread (the rest).

mod alone;
mod at;
mod job;
mod lanes;
pub mod runner;
mod slots;
mod thread_name;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::alone::Alone;
pub use self::job::Job;
use self::lanes::Lanes;
use super::lock::lock;
use super::mailbox::ExchangeId;

/// What a runner was at before it pops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// `begin`, `wait`, or [`Next::Yield`].
    Waiting,
    Request {
        /// When it was taken.
        since: Instant,
        /// Whether the thread slept meanwhile, if that was to be watched.
        slept: Option<bool>,
    },
    Other,
}

/// What a runner does next.
pub enum Next {
    Work {
        job: Job,
        at: Instant,
        /// The caller says whether the thread sleeps in it.
        watch: bool,
        /// More wait and all runners seem to block: the caller has the event loop
        /// [`RequestQueue::check`], which may post one more.
        lacks_runner: bool,
    },
    /// It waits, or leaves.
    Nothing,
    /// Others take what waits: it waits too, and the caller has the event loop check.
    Surplus,
    /// It lets others have the GIL for a moment, calls [`RequestQueue::yielded`], and pops again when
    /// it has got it back. The caller has the event loop check, which looks after what is left then.
    Yield,
}

/// Who sees to it that what waits is taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Summons {
    /// Nothing waits, or the busy runners will come for it.
    Done,
    /// A sleeping runner has been called: the caller calls [`RequestQueue::wake`] before long.
    Wake,
    /// As `Wake`, and as `CheckLater` for what else waits.
    WakeAndCheck,
    /// The caller posts one more runner, or calls [`RequestQueue::not_posted`], and
    /// [`RequestQueue::check`] a little later.
    PostRunner,
    /// A runner is expected to come soon: the caller calls [`RequestQueue::check`] a little later.
    CheckLater,
}

/// Too many requests wait already; the request is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// For so long after a request has been taken its runner is expected to come back by itself.
const PATIENCE: Duration = Duration::from_micros(500);

/// For so long it is believed that one more runner is surplus.
const TRIAL: Duration = Duration::from_millis(20);
/// The same while that has not been proven.
const FIRST_TRIAL: Duration = Duration::from_millis(1);
/// A stand-by that has the GIL after so long found it free.
const SOON: Duration = Duration::from_micros(50);

/// A stand-by on its way to the GIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attaching {
    since: Instant,
    /// It was at work and yields.
    yields: bool,
}

#[derive(Default)]
struct State {
    jobs: Lanes,
    /// Runners that have begun and not left.
    runners: usize,
    /// How many have begun: each has a number of its own.
    numbers: usize,
    /// Runners posted that have not begun.
    posted: usize,
    /// Runners asleep in `wait`.
    idle: usize,
    /// When those requests were taken that runners are at.
    begun: Vec<Instant>,
    /// One runner is on its way from `wait` to `pop`.
    standby: bool,
    /// The stand-by has been chosen among the sleepers and has not woken yet.
    called: bool,
    stopping: bool,
    /// When the last job was popped.
    popped: Option<Instant>,
    /// When a runner last came back for one job after another.
    returned: Option<Instant>,
    /// The stand-by has called itself, or has been called by one that had: nobody looks after what
    /// it leaves.
    unlooked: bool,
    /// The stand-by, if it is to be judged.
    attaching: Option<Attaching>,
    /// Whether one runner is enough.
    alone: Alone,
    /// When the request was taken that has had none but long ones beside it.
    lone: Option<Instant>,
    /// A surplus stand-by has come since.
    disturbed: bool,
    /// When a request was last taken to be watched.
    watched: Option<Instant>,
    /// When a runner was last found to be surplus.
    surplus_at: Option<Instant>,
    /// When a stand-by last came and was not surplus.
    needed: Option<Instant>,
}

impl State {
    /// Makes a sleeping runner the stand-by, if there is one: it is then to be woken.
    fn call(&mut self) -> bool {
        let sleeps = self.idle > 0;
        if sleeps {
            self.standby = true;
            self.called = true;
        }
        sleeps
    }

    /// Whether it is still believed that one more runner is surplus.
    fn is_trusted(&self, now: Instant) -> bool {
        let trial = if self.alone.is_proven(now) { TRIAL } else { FIRST_TRIAL };
        is_within(now, self.surplus_at, trial)
    }

    /// A runner goes back to sleep though jobs wait.
    fn surplus(&mut self, at: Instant) -> Next {
        self.surplus_at = Some(at);
        // From now on it can be called.
        self.idle += 1;
        Next::Surplus
    }
}

/// Whether that was less than `time` before `now`.
fn is_within(now: Instant, at: Option<Instant>, time: Duration) -> bool {
    at.is_some_and(|at| now - at < time)
}

/// The queue of one pool.
pub struct RequestQueue {
    threads: usize,
    patience: Duration,
    switch_interval: Duration,
    state: Mutex<State>,
    work: Condvar,
    #[cfg(test)]
    clock: Mutex<Option<Instant>>,
}

impl RequestQueue {
    /// `threads`: how many runners it can have; `patient`: [`Self::check`] comes a millisecond
    /// after it is asked for. If it may come much later nothing is left to it. `switch_interval`:
    /// after so long the holder of the GIL is made to let go of it.
    pub fn new(threads: usize, patient: bool, switch_interval: Duration) -> Self {
        let patience = if patient { PATIENCE } else { Duration::ZERO };
        Self {
            threads,
            patience,
            switch_interval,
            state: Mutex::default(),
            work: Condvar::new(),
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

    #[cfg(test)]
    pub fn one_is_enough(&self) -> bool {
        self.lock().alone.is_enough(self.now())
    }

    /// Whether nothing is counted on any runner.
    #[cfg(test)]
    pub fn is_at_rest(&self) -> bool {
        let state = self.lock();
        state.runners == 0 && state.idle == 0 && state.begun.is_empty()
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Queues a job. `limit`: how many requests may wait beside those that a free thread can take
    /// at once. The numbers of requests are those of an event loop, which grow.
    pub fn push(&self, job: Job, limit: usize) -> Result<Summons, Full> {
        let mut state = self.lock();
        let most = limit.saturating_add(self.threads.saturating_sub(state.begun.len()));
        if state.stopping || state.jobs.requests() >= most {
            return Err(Full);
        }
        if matches!(job, Job::Tidy) && state.jobs.has_tidy() {
            return Ok(Summons::Done);
        }
        state.jobs.push(job);
        let awake = state.runners > state.idle;
        let now = self.now();
        if awake && (is_within(now, state.popped, self.patience) || self.is_crowded(&state, now)) {
            return Ok(Summons::CheckLater);
        }
        Ok(self.summon(&mut state))
    }

    /// Looks again after a [`Summons::CheckLater`], or because a runner is lacking or surplus: if
    /// nobody has come for what waits, or it is time for a trial, somebody is called.
    pub fn check(&self) -> Summons {
        let mut state = self.lock();
        if state.jobs.has_next() && self.is_crowded(&state, self.now()) {
            return Summons::CheckLater;
        }
        self.summon(&mut state)
    }

    /// Whether runners that compute have just shown that one more is of no use. They need not come
    /// back as soon as others do: whoever loses the GIL has to wait for it.
    fn is_crowded(&self, state: &State, now: Instant) -> bool {
        let last = state.surplus_at.max(state.returned);
        state.is_trusted(now) && is_within(now, last, self.switch_interval)
    }

    /// Sees to it that somebody takes the next runnable job.
    fn summon(&self, state: &mut State) -> Summons {
        if state.stopping || !state.jobs.has_next() {
            return Summons::Done;
        }
        if state.standby || state.posted > 0 {
            return Summons::CheckLater;
        }
        if state.call() {
            return if state.jobs.len() == 1 { Summons::Wake } else { Summons::WakeAndCheck };
        }
        if state.runners < self.threads {
            state.posted = 1;
            return Summons::PostRunner;
        }
        Summons::Done
    }

    /// Wakes the runner that has been called.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// The runner that [`Summons::PostRunner`] asked for could not be posted.
    pub fn not_posted(&self) {
        self.lock().posted = 0;
    }

    /// Takes a request out that no runner has taken yet; true if it was there.
    pub fn remove(&self, id: ExchangeId) -> bool {
        // Dropped without the lock.
        let job = self.lock().jobs.remove(id);
        job.is_some()
    }

    /// A runner begins. Returns its number, from 1 on; `None` if it should leave at once.
    pub fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        state.posted = 0;
        if state.stopping {
            return None;
        }
        state.runners += 1;
        state.numbers += 1;
        // Until its first `pop` it is the one on the way.
        state.standby = true;
        state.attaching = Some(Attaching { since: self.now(), yields: false });
        Some(state.numbers)
    }

    /// The next job, for an attached runner, and what it comes from.
    pub fn pop(&self, after: After) -> Next {
        let at = self.now();
        let mut state = self.lock();
        let mut unlooked = false;
        match after {
            After::Waiting => {
                state.standby = false;
                unlooked = std::mem::take(&mut state.unlooked);
                let attaching = state.attaching.take();
                if attaching.is_some_and(|attaching| self.is_surplus(&mut state, attaching, at)) {
                    state.disturbed = true;
                    return state.surplus(at);
                }
                state.lone = None;
                state.needed = Some(at);
            }
            After::Request { since, slept } => {
                let taken = state.begun.iter().position(|begun| *begun == since);
                taken.map(|taken| state.begun.swap_remove(taken));
                let lone = state.lone.take() == Some(since);
                if let Some(slept) = slept {
                    self.judge(&mut state, since, slept, lone, at);
                }
                if let Some(next) = self.give_way(&mut state, at) {
                    return next;
                }
            }
            After::Other => (),
        }
        if state.stopping {
            return Next::Nothing;
        }
        let Some(job) = state.jobs.pop() else {
            return Next::Nothing;
        };
        let mut watch = false;
        if job.id().is_some() {
            state.lone = (self.short(&state, at) == 0).then_some(at);
            state.disturbed = false;
            watch = self.is_patient() && !is_within(at, state.watched, PATIENCE);
            state.watched = if watch { Some(at) } else { state.watched };
            state.begun.push(at);
        }
        state.popped = Some(at);
        if after != After::Waiting {
            state.returned = Some(at);
            return Next::Work { job, at, watch, lacks_runner: false };
        }
        let chain =
            (unlooked || !state.alone.is_enough(at)) && !state.standby && state.jobs.has_next();
        let wake = chain && state.call();
        state.unlooked |= wake && unlooked;
        let lacks_runner = chain && !wake && state.runners < self.threads && state.posted == 0;
        drop(state);
        if wake {
            self.wake();
        }
        Next::Work { job, at, watch, lacks_runner }
    }

    /// What is made of a request that was watched.
    fn judge(&self, state: &mut State, since: Instant, slept: bool, lone: bool, at: Instant) {
        let long = at - since >= self.switch_interval;
        let disturbed = state.standby || state.disturbed;
        // For a moment others may have made it wait for the GIL: those beside it, or a stand-by that
        // was surplus. If it was long it has blocked, or somebody else has the GIL.
        if (lone && !(slept && disturbed)) || (slept && long && state.alone.is_tried(since)) {
            state.alone.answered(slept, at);
        }
    }

    /// Whether the stand-by, which has the GIL now, is of no use.
    fn is_surplus(&self, state: &mut State, attaching: Attaching, at: Instant) -> bool {
        if !self.is_patient() || state.begun.is_empty() {
            return false;
        }
        let free = at - attaching.since < SOON;
        if free || self.short(state, at) <= 1 {
            state.alone.looked(free);
        }
        if attaching.yields && free {
            state.alone.put_off();
        } else if attaching.yields {
            state.alone.assume(at);
        }
        state.alone.is_enough(at) && is_within(at, state.returned, self.switch_interval)
    }

    /// What a runner that comes back for more does instead if others are at work: if one is enough
    /// it leaves what waits to them; if not, it looks from time to time whether that has changed.
    fn give_way(&self, state: &mut State, at: Instant) -> Option<Next> {
        let called = state.standby || state.posted > 0;
        if !self.is_patient() || called || self.short(state, at) == 0 || !state.jobs.has_next() {
            return None;
        }
        if state.alone.is_enough(at) {
            return Some(state.surplus(at));
        }
        if is_within(at, state.needed, state.alone.pause()) {
            return None;
        }
        state.standby = true;
        state.attaching = Some(Attaching { since: at, yields: true });
        Some(Next::Yield)
    }

    /// How many runners are at requests that are not long yet: long ones may block, and leave the
    /// GIL to others, or compute, and are not to keep it from them.
    fn short(&self, state: &State, at: Instant) -> usize {
        state.begun.iter().filter(|begun| at - **begun < self.switch_interval).count()
    }

    /// The runner that [`Next::Yield`] was said to has left the GIL to others, and comes for it.
    pub fn yielded(&self) {
        let now = self.now();
        if let Some(attaching) = &mut self.lock().attaching {
            attaching.since = now;
        }
    }

    /// Whether anything may be left to a later look.
    fn is_patient(&self) -> bool {
        !self.patience.is_zero()
    }

    /// Blocks, detached, until this runner is to take a job; false when it is to leave. `surplus`:
    /// after [`Next::Surplus`], what waits is left to others.
    pub fn wait(&self, surplus: bool) -> bool {
        let mut state = self.lock();
        // A job may have come between the last `pop` and now, when nobody was idle.
        if !surplus && !state.stopping && !state.standby && state.jobs.has_next() {
            state.standby = true;
            state.unlooked = true;
            return true;
        }
        state.idle += usize::from(!surplus);
        while !state.stopping && !state.called {
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle -= 1;
        state.called = false;
        state.attaching = Some(Attaching { since: self.now(), yields: false });
        !state.stopping
    }

    /// Nothing is taken any more; the runners leave. Jobs that wait are dropped, which ends their
    /// exchanges.
    pub fn stop(&self) {
        let jobs = {
            let mut state = self.lock();
            state.stopping = true;
            std::mem::take(&mut state.jobs)
        };
        self.work.notify_all();
        drop(jobs);
    }
}

#[cfg(test)]
mod tests;
