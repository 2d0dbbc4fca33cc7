//! The requests that wait for a thread of one pool in one worker, and who is to take them.
//!
//! Runners pop while they hold the GIL, until nothing is left; only then do they detach and wait.
//! As long as they come back for one request after the other nobody else is woken: CPU-bound work
//! stays on one thread. When requests wait and nobody has come back for a moment, the runners are
//! likely to block in I/O: a waiting one is sent to the GIL (the *stand-by*, one at a time), and
//! when it has taken a request it calls the next, so that blocking work spreads over all threads.
//! Runs on: event loop (push, check, remove), pool thread (the rest).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::application::Hosted;
use super::exchange::ResponseSender;
use super::mailbox::ExchangeId;
use super::request::Request;

/// Something for a runner to do.
pub enum Job {
    Load(Arc<Hosted>),
    /// [`super::host::Host::tidy`], which a runner calls after each job.
    Tidy,
    Call {
        app: Arc<Hosted>,
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
    /// `begin` or `wait`.
    Waiting,
    Request,
    Other,
}

/// What [`RequestQueue::pop`] has taken.
pub struct Popped {
    pub job: Job,
    pub at: Instant,
    /// More wait and all runners seem to block: the caller has the event loop
    /// [`RequestQueue::check`], which may post one more.
    pub lacks_runner: bool,
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

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Runners that have begun and not left.
    runners: usize,
    /// Runners posted that have not begun.
    posted: usize,
    /// Runners asleep in `wait`.
    idle: usize,
    /// Runners busy with a request. An import is not counted: it does not make requests wait for
    /// a thread, but for itself.
    busy: usize,
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
    /// `returns` when [`Summons::CheckLater`] was last said.
    checked: u64,
    /// The stand-by has called itself: nobody looks after what it leaves.
    unlooked: bool,
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

/// The queue of one pool.
pub struct RequestQueue {
    threads: usize,
    patience: Duration,
    state: Mutex<State>,
    work: Condvar,
}

impl RequestQueue {
    /// `threads`: how many runners it can have; `patient`: [`Self::check`] comes a millisecond
    /// after it is asked for. If it may come much later nothing is left to it.
    pub fn new(threads: usize, patient: bool) -> Self {
        let patience = if patient { PATIENCE } else { Duration::ZERO };
        Self { threads, patience, state: Mutex::default(), work: Condvar::new() }
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
        let most = limit.saturating_add(self.threads.saturating_sub(state.busy));
        // Imports are few, so the length says enough most of the time.
        if state.stopping || (state.jobs.len() >= most && state.waiting() >= most) {
            return Err(Full);
        }
        if matches!(job, Job::Tidy) && state.jobs.iter().any(|job| matches!(job, Job::Tidy)) {
            return Ok(Summons::Done);
        }
        state.jobs.push_back(job);
        let awake = state.runners > state.idle;
        if awake && state.popped.is_some_and(|popped| popped.elapsed() < self.patience) {
            state.checked = state.returns;
            return Ok(Summons::CheckLater);
        }
        Ok(self.summon(&mut state))
    }

    /// Looks again after a [`Summons::CheckLater`], or because of [`Popped::lacks_runner`]: if nobody
    /// has come, somebody is called.
    pub fn check(&self) -> Summons {
        let mut state = self.lock();
        let is_patient = !self.patience.is_zero();
        if is_patient && state.next().is_some() && state.returns != state.checked {
            state.checked = state.returns;
            return Summons::CheckLater;
        }
        self.summon(&mut state)
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
        Some(state.runners)
    }

    /// A runner leaves.
    pub fn leave(&self) {
        self.lock().runners -= 1;
    }

    /// The next job, for an attached runner, and what it comes from.
    pub fn pop(&self, from: From) -> Option<Popped> {
        let at = Instant::now();
        let mut state = self.lock();
        let mut unlooked = false;
        match from {
            From::Waiting => {
                state.standby = false;
                unlooked = std::mem::take(&mut state.unlooked);
            }
            From::Request => state.busy -= 1,
            From::Other => (),
        }
        if state.stopping {
            return None;
        }
        let job = state.next().and_then(|at| state.jobs.remove(at))?;
        state.busy += usize::from(job.id().is_some());
        state.popped = Some(at);
        if from != From::Waiting {
            state.returned = Some(at);
            state.returns += 1;
            return Some(Popped { job, at, lacks_runner: false });
        }
        let expected = state.returned.is_some_and(|returned| at - returned < self.patience);
        let chain = (unlooked || !expected) && !state.standby && state.next().is_some();
        let wake = chain && state.call();
        let lacks_runner = chain && !wake && state.runners < self.threads && state.posted == 0;
        drop(state);
        if wake {
            self.wake();
        }
        Some(Popped { job, at, lacks_runner })
    }

    /// Blocks, detached, until this runner is to take a job; false when it is to leave.
    pub fn wait(&self) -> bool {
        let mut state = self.lock();
        // A job may have come between the last `pop` and now, when nobody was idle.
        if !state.stopping && !state.standby && state.next().is_some() {
            state.standby = true;
            state.unlooked = true;
            return true;
        }
        state.idle += 1;
        while !state.stopping && !state.called {
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle -= 1;
        state.called = false;
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
