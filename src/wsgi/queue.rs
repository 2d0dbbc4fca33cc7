//! The requests that wait for a thread of one pool in one worker, and who is to take them.
//!
//! Runners pop while they hold the GIL, until nothing is left; only then do they detach and wait. A
//! request that comes right after another has been taken is left to them. When requests wait for
//! longer the runners may block in I/O: a waiting one is sent to the GIL (the *stand-by*, one at a
//! time), and when it has taken a request it calls the next, so that blocking work spreads over all
//! threads. Where requests are short it does not: they are done before the next runner is there.
//!
//! A stand-by that gets the GIL soon is needed: those at work have let go of it. One that had to
//! take it away, after the switch interval, from runners that go on answering is *spare*: together
//! they answer no more, and each request that loses the GIL halfway is late. It goes back to sleep.
//! So about as many runners are at work as can get on, which is tried again after [`TRIAL`] with
//! one more that sleeps, and after [`NEEDED`] with one that comes back from a request that was long
//! enough to have lost the GIL.
//! Runs on: event loop (push, check, remove), pool thread (the rest).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::application::Hosted;
use super::exchange::ResponseSender;
use super::mailbox::ExchangeId;
use super::request::Request;

/// Something for a runner to do.
pub enum Job {
    Load(&'static Hosted),
    /// [`super::host::Host::tidy`], which a runner calls after each job.
    Tidy,
    Call {
        /// Without a count of references: every thread would write to it for every request.
        app: &'static Hosted,
        request: Request,
        response: ResponseSender,
    },
}

impl Job {
    fn is_runnable(&self) -> bool {
        match self {
            Self::Load(_) | Self::Tidy => true,
            Self::Call { app, .. } => app.is_settled(),
        }
    }

    fn id(&self) -> Option<ExchangeId> {
        match self {
            Self::Load(_) | Self::Tidy => None,
            Self::Call { response, .. } => Some(response.id()),
        }
    }
}

/// What a runner was at before it pops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// `begin`, `wait`, or [`Next::Yield`].
    Waiting,
    /// A request taken at this time.
    Request(Instant),
    Other,
}

/// What a runner does next.
pub enum Next {
    Work {
        job: Job,
        at: Instant,
        /// More wait and all runners seem to block: the caller has the event loop
        /// [`RequestQueue::check`], which may post one more.
        lacks_runner: bool,
    },
    /// It waits, or leaves.
    Nothing,
    /// Others take what waits: it waits too, and the caller has the event loop check.
    Spare,
    /// It lets others have the GIL for a moment, and pops again when it has got it back. The caller
    /// has the event loop check, which looks after what is left then.
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

/// For so long it is believed that one more runner is spare.
const TRIAL: Duration = Duration::from_millis(20);
/// For so long it is believed that those at work are needed: runners that block all come back from
/// long requests, and to try one costs it a moment.
const NEEDED: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Runners that have begun and not left.
    runners: usize,
    /// Runners posted that have not begun.
    posted: usize,
    /// Runners asleep in `wait`.
    idle: usize,
    /// When those requests were taken that runners are at. An import is not among them: it does not
    /// make requests wait for a thread, but for itself.
    begun: Vec<Instant>,
    /// One runner is on its way from `wait` to `pop`.
    standby: bool,
    /// The stand-by has been chosen among the sleepers and has not woken yet.
    called: bool,
    stopping: bool,
    /// When the last job was popped.
    popped: Option<Instant>,
    /// When a runner last came back for one job after another, and how often they have.
    returned: Option<Instant>,
    returns: u64,
    /// Requests are short: the last one was, and no look has found since that others wait for a
    /// runner that is at one for long. Then a stand-by calls nobody: if that is a mistake the next
    /// look finds it.
    quick: bool,
    /// `returns` when [`Summons::CheckLater`] was last said.
    checked: u64,
    /// The stand-by has called itself, or has been called by one that had: nobody looks after what
    /// it leaves.
    unlooked: bool,
    /// Since when the stand-by has been after the GIL, if that is to be judged.
    attaching: Option<Instant>,
    /// When a stand-by was last found to be spare.
    spared: Option<Instant>,
    /// When one was last found not to be.
    needed: Option<Instant>,
}

impl State {
    fn next(&self) -> Option<usize> {
        self.jobs.iter().position(Job::is_runnable)
    }

    /// Makes a sleeping runner the stand-by, if there is one: it is then to be woken.
    fn call(&mut self) -> bool {
        let sleeps = self.idle > 0;
        if sleeps {
            self.standby = true;
            self.called = true;
        }
        sleeps
    }

    fn waiting(&self) -> usize {
        self.jobs.iter().filter(|job| job.id().is_some()).count()
    }
}

fn is_within(at: Option<Instant>, time: Duration) -> bool {
    at.is_some_and(|at| at.elapsed() < time)
}

/// The queue of one pool.
pub struct RequestQueue {
    threads: usize,
    patience: Duration,
    switch_interval: Duration,
    state: Mutex<State>,
    work: Condvar,
}

impl RequestQueue {
    /// `threads`: how many runners it can have; `patient`: [`Self::check`] comes a millisecond
    /// after it is asked for. If it may come much later nothing is left to it. `switch_interval`:
    /// after so long the holder of the GIL is made to let go of it.
    pub fn new(threads: usize, patient: bool, switch_interval: Duration) -> Self {
        let patience = if patient { PATIENCE } else { Duration::ZERO };
        Self { threads, patience, switch_interval, state: Mutex::default(), work: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Queues a job. `limit`: how many requests may wait beside those that a free thread can take
    /// at once.
    pub fn push(&self, job: Job, limit: usize) -> Result<Summons, Full> {
        let mut state = self.lock();
        let most = limit.saturating_add(self.threads.saturating_sub(state.begun.len()));
        // Imports are few, so the length says enough most of the time.
        if state.stopping || (state.jobs.len() >= most && state.waiting() >= most) {
            return Err(Full);
        }
        if matches!(job, Job::Tidy) && state.jobs.iter().any(|job| matches!(job, Job::Tidy)) {
            return Ok(Summons::Done);
        }
        state.jobs.push_back(job);
        let awake = state.runners > state.idle;
        if awake && (is_within(state.popped, self.patience) || self.is_crowded(&state)) {
            state.checked = state.returns;
            return Ok(Summons::CheckLater);
        }
        Ok(self.summon(&mut state))
    }

    /// Looks again after a [`Summons::CheckLater`], or because a runner is lacking or spare: if
    /// nobody has come for what waits, or it is time for a trial, somebody is called.
    pub fn check(&self) -> Summons {
        let mut state = self.lock();
        let is_stuck = !state.standby && !is_within(state.popped, self.patience);
        state.quick &= !is_stuck || state.next().is_none();
        let is_served = state.returns != state.checked && is_within(state.spared, TRIAL);
        if state.next().is_some() && (is_served || self.is_crowded(&state)) {
            state.checked = state.returns;
            return Summons::CheckLater;
        }
        self.summon(&mut state)
    }

    /// Whether runners that compute have just shown that one more is of no use. They need not come
    /// back as soon as others do: whoever loses the GIL has to wait for it.
    fn is_crowded(&self, state: &State) -> bool {
        is_within(state.spared, TRIAL)
            && is_within(state.spared.max(state.returned), self.switch_interval)
    }

    /// Sees to it that somebody takes the next runnable job.
    fn summon(&self, state: &mut State) -> Summons {
        if state.stopping || state.next().is_none() {
            return Summons::Done;
        }
        state.checked = state.returns;
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
        let job = {
            let mut state = self.lock();
            let at = state.jobs.iter().position(|job| job.id() == Some(id));
            at.and_then(|at| state.jobs.remove(at))
        };
        job.is_some()
    }

    /// A runner begins. Returns its number, from 1 on; `None` if it should leave at once.
    pub fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        state.posted = 0;
        if state.stopping {
            return None;
        }
        // None leaves before the stop, so the numbers are used once.
        state.runners += 1;
        // Until its first `pop` it is the one on the way.
        state.standby = true;
        state.attaching = Some(Instant::now());
        Some(state.runners)
    }

    /// A runner leaves.
    pub fn leave(&self) {
        self.lock().runners -= 1;
    }

    /// The next job, for an attached runner, and what it comes from.
    pub fn pop(&self, from: From) -> Next {
        let at = Instant::now();
        let mut state = self.lock();
        let mut unlooked = false;
        match from {
            From::Waiting => {
                state.standby = false;
                unlooked = std::mem::take(&mut state.unlooked);
                let since = state.attaching.take();
                if since.is_some_and(|since| self.is_spare(&state, since, at)) {
                    state.spared = Some(at);
                    // From now on it can be called.
                    state.idle += 1;
                    return Next::Spare;
                }
                state.needed = Some(at);
            }
            From::Request(since) => {
                let taken = state.begun.iter().position(|begun| *begun == since);
                taken.map(|taken| state.begun.swap_remove(taken));
                let took = at - since;
                state.quick = took < self.patience;
                if self.is_doubtful(&state, took) {
                    state.standby = true;
                    state.attaching = Some(at);
                    return Next::Yield;
                }
            }
            From::Other => (),
        }
        if state.stopping {
            return Next::Nothing;
        }
        let Some(job) = state.next().and_then(|at| state.jobs.remove(at)) else {
            return Next::Nothing;
        };
        if job.id().is_some() {
            state.begun.push(at);
        }
        state.popped = Some(at);
        if from != From::Waiting {
            state.returned = Some(at);
            state.returns += 1;
            return Next::Work { job, at, lacks_runner: false };
        }
        let chain = (unlooked || !state.quick) && !state.standby && state.next().is_some();
        let wake = chain && state.call();
        state.unlooked |= wake && unlooked;
        let lacks_runner = chain && !wake && state.runners < self.threads && state.posted == 0;
        drop(state);
        if wake {
            self.wake();
        }
        Next::Work { job, at, lacks_runner }
    }

    /// Whether the stand-by, after the GIL since then, is of no use: it had to take it away, and most
    /// of the runners at work have come back for more meanwhile. The others may block, and long
    /// computations are not to keep the GIL from all but one runner.
    fn is_spare(&self, state: &State, since: Instant, at: Instant) -> bool {
        let long = state.begun.iter().filter(|begun| **begun <= since).count();
        self.is_patient() && at - since >= self.switch_interval && long * 2 < state.begun.len()
    }

    /// Whether a runner that comes back for more, from a request that took so long, may be spare.
    /// Then it is tried like one that was called.
    fn is_doubtful(&self, state: &State, took: Duration) -> bool {
        self.is_patient()
            && took >= self.switch_interval
            && !state.begun.is_empty()
            && !state.standby
            && state.posted == 0
            && !is_within(state.needed, NEEDED)
            && state.next().is_some()
    }

    /// Whether anything may be left to a later look.
    fn is_patient(&self) -> bool {
        !self.patience.is_zero()
    }

    /// Blocks, detached, until this runner is to take a job; false when it is to leave. `spare`:
    /// after [`Next::Spare`], what waits is left to others.
    pub fn wait(&self, spare: bool) -> bool {
        let mut state = self.lock();
        // A job may have come between the last `pop` and now, when nobody was idle.
        if !spare && !state.stopping && !state.standby && state.next().is_some() {
            state.standby = true;
            state.unlooked = true;
            return true;
        }
        state.idle += usize::from(!spare);
        while !state.stopping && !state.called {
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle -= 1;
        state.called = false;
        state.attaching = Some(Instant::now());
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
