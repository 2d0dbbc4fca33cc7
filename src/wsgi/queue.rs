//! The requests that wait for a thread of one pool in one worker, and who is to take them.
//!
//! Runners pop while they hold the GIL, until nothing is left; only then do they detach and wait.
//! As long as they pop one request after the other nobody else is woken: CPU-bound work stays on
//! one thread. When requests wait and none has been popped for a moment, the runner is likely to
//! block in I/O: a waiting one is sent to the GIL (the *stand-by*, one at a time), so that blocking
//! work spreads over all threads.
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
    /// The event loop looks in a moment: it may hear of what becomes of this one then.
    pub watched: bool,
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

/// For so long after the last pop the runners are expected to come back by themselves.
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
    /// When the last job was popped, and how many have been.
    popped: Option<Instant>,
    pops: u64,
    /// `pops` when [`Summons::CheckLater`] was last said.
    checked: u64,
    /// [`RequestQueue::check`] will be called.
    watched: bool,
}

impl State {
    fn next(&self) -> Option<usize> {
        self.jobs.iter().position(Job::is_runnable)
    }

    fn waiting(&self) -> usize {
        self.jobs.iter().filter(|job| job.id().is_some()).count()
    }
}

/// The queue of one pool.
pub struct RequestQueue {
    threads: usize,
    state: Mutex<State>,
    work: Condvar,
}

impl RequestQueue {
    /// `threads`: how many runners it can have.
    pub fn new(threads: usize) -> Self {
        Self { threads, state: Mutex::default(), work: Condvar::new() }
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
        state.jobs.push_back(job);
        let awake = state.runners > state.idle;
        if awake && state.popped.is_some_and(|popped| popped.elapsed() < PATIENCE) {
            state.checked = state.pops;
            state.watched = true;
            return Ok(Summons::CheckLater);
        }
        Ok(self.summon(&mut state))
    }

    /// Looks again after a [`Summons::CheckLater`]: if nobody has come, somebody is called.
    pub fn check(&self) -> Summons {
        let mut state = self.lock();
        state.watched = false;
        if state.next().is_some() && state.pops != state.checked {
            state.checked = state.pops;
            state.watched = true;
            return Summons::CheckLater;
        }
        self.summon(&mut state)
    }

    /// Sees to it that somebody takes the next runnable job.
    fn summon(&self, state: &mut State) -> Summons {
        if state.stopping || state.next().is_none() {
            return Summons::Done;
        }
        state.checked = state.pops;
        if state.standby || state.posted > 0 {
            state.watched = true;
            return Summons::CheckLater;
        }
        if state.idle > 0 {
            state.standby = true;
            state.called = true;
            if state.jobs.len() == 1 {
                return Summons::Wake;
            }
            state.watched = true;
            return Summons::WakeAndCheck;
        }
        if state.runners < self.threads {
            state.posted = 1;
            state.watched = true;
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

    /// A runner begins; false if it should leave at once.
    pub fn begin(&self) -> bool {
        let mut state = self.lock();
        state.posted = 0;
        if !state.stopping {
            state.runners += 1;
            // Until its first `pop` it is the one on the way.
            state.standby = true;
        }
        !state.stopping
    }

    /// A runner leaves.
    pub fn leave(&self) {
        self.lock().runners -= 1;
    }

    /// The next job, for an attached runner, and what it comes from.
    pub fn pop(&self, from: From) -> Option<Popped> {
        let mut state = self.lock();
        match from {
            From::Waiting => state.standby = false,
            From::Request => state.busy -= 1,
            From::Other => (),
        }
        if state.stopping {
            return None;
        }
        let job = state.next().and_then(|at| state.jobs.remove(at))?;
        state.busy += usize::from(job.id().is_some());
        state.pops += 1;
        let at = Instant::now();
        state.popped = Some(at);
        Some(Popped { job, at, watched: state.watched })
    }

    /// Blocks, detached, until this runner is to take a job; false when it is to leave.
    pub fn wait(&self) -> bool {
        let mut state = self.lock();
        // A job may have come between the last `pop` and now, when nobody was idle.
        if !state.stopping && !state.standby && state.next().is_some() {
            state.standby = true;
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
mod tests {
    use super::*;
    use crate::wsgi::application::Application;
    use crate::wsgi::exchange::{Exchange, Progress};
    use crate::wsgi::mailbox::Mailbox;

    struct Ok200;

    impl Application for Ok200 {
        fn load(&self) -> bool {
            true
        }
        fn call(&self, _: Request, mut response: ResponseSender) {
            response.finish(Ok(()));
        }
    }

    struct Fixture {
        mailbox: Arc<Mailbox>,
        queue: RequestQueue,
        app: Arc<Hosted>,
        next_id: ExchangeId,
    }

    impl Fixture {
        fn new(threads: usize) -> Self {
            let mailbox = Arc::new(Mailbox::new(|| ()));
            let queue = RequestQueue::new(threads);
            let app = Arc::new(Hosted::new("x".to_owned(), Box::new(Ok200)));
            app.load();
            Self { mailbox, queue, app, next_id: 0 }
        }

        fn job(&mut self) -> (Arc<Exchange>, Job) {
            self.next_id += 1;
            let (exchange, response) = Exchange::open(self.next_id, 1, Arc::clone(&self.mailbox));
            let app = Arc::clone(&self.app);
            (exchange, Job::Call { app, request: Request::default(), response })
        }

        fn push(&mut self, limit: usize) -> Result<Summons, Full> {
            let (_, job) = self.job();
            self.queue.push(job, limit)
        }

        /// The last pop is so long ago that nobody is expected back.
        fn lose_patience(&self) {
            self.queue.lock().popped = Some(Instant::now() - PATIENCE);
        }
    }

    #[test]
    fn a_runner_is_posted_only_when_the_last_one_has_begun() {
        let mut f = Fixture::new(2);
        assert_eq!(f.push(9), Ok(Summons::PostRunner));
        assert_eq!(f.push(9), Ok(Summons::CheckLater));
        assert!(f.queue.begin());
        // One is on its way and takes a job first.
        assert_eq!(f.push(9), Ok(Summons::CheckLater));
        assert!(f.queue.pop(From::Waiting).is_some());
        f.lose_patience();
        assert_eq!(f.push(9), Ok(Summons::PostRunner));
        assert!(f.queue.begin());
        assert!(f.queue.pop(From::Waiting).is_some());
        // Never more than threads.
        f.lose_patience();
        assert_eq!(f.push(9), Ok(Summons::Done));
    }

    #[test]
    fn a_runner_that_could_not_be_posted_is_asked_for_again() {
        let mut f = Fixture::new(1);
        assert_eq!(f.push(9), Ok(Summons::PostRunner));
        f.queue.not_posted();
        assert_eq!(f.push(9), Ok(Summons::PostRunner));
    }

    #[test]
    fn a_runner_that_pops_one_job_after_the_other_gets_no_company() {
        let mut f = Fixture::new(2);
        f.push(9).unwrap();
        f.queue.begin();
        let mut from = From::Waiting;
        for _ in 0..3 {
            assert!(f.queue.pop(from).is_some());
            from = From::Request;
            f.queue.lock().popped = Some(Instant::now());
            assert_eq!(f.push(9), Ok(Summons::CheckLater));
            f.queue.lock().pops += 1;
            assert_eq!(f.queue.check(), Summons::CheckLater);
        }
        // Nothing has been popped since: it seems to block.
        assert_eq!(f.queue.check(), Summons::PostRunner);
        assert_eq!(f.queue.check(), Summons::CheckLater);
    }

    #[test]
    fn a_job_is_watched_as_long_as_the_event_loop_will_look() {
        let mut f = Fixture::new(1);
        f.push(9).unwrap();
        f.push(9).unwrap();
        f.queue.begin();
        assert!(f.queue.pop(From::Waiting).unwrap().watched);
        assert!(f.queue.pop(From::Request).unwrap().watched);
        // All threads are busy: nobody looks.
        assert_eq!(f.queue.check(), Summons::Done);
        f.lose_patience();
        assert_eq!((f.push(9), f.push(9)), (Ok(Summons::Done), Ok(Summons::Done)));
        assert!(!f.queue.pop(From::Request).unwrap().watched);
    }

    #[test]
    fn a_sleeping_runner_is_woken_for_what_waits() {
        let f = Arc::new(Mutex::new(Fixture::new(1)));
        let queue = Arc::new(RequestQueue::new(1));
        assert!(queue.begin() && queue.pop(From::Waiting).is_none());
        let waiting = Arc::clone(&queue);
        let thread = std::thread::spawn(move || waiting.wait());
        while queue.lock().idle == 0 {
            std::thread::yield_now();
        }
        let (_first, job) = f.lock().unwrap().job();
        assert_eq!(queue.push(job, 9), Ok(Summons::Wake));
        let (_second, job) = f.lock().unwrap().job();
        // It comes for the first one.
        assert_eq!(queue.push(job, 9), Ok(Summons::CheckLater));
        queue.wake();
        assert!(thread.join().unwrap());
    }

    #[test]
    fn the_limit_counts_those_that_wait_and_not_those_that_a_thread_can_take() {
        let mut f = Fixture::new(2);
        assert_ne!(f.push(1), Err(Full));
        assert_ne!(f.push(1), Err(Full));
        assert_ne!(f.push(1), Err(Full));
        assert_eq!(f.push(1), Err(Full));
        f.queue.begin();
        let _running = f.queue.pop(From::Waiting);
        assert_eq!(f.push(1), Err(Full));
        assert!(f.queue.pop(From::Request).is_some());
        assert!(f.queue.pop(From::Request).is_some());
        assert_ne!(f.push(1), Err(Full));
    }

    #[test]
    fn an_import_takes_no_place_in_the_queue() {
        let mut f = Fixture::new(1);
        let import = Job::Load(Arc::clone(&f.app));
        assert_eq!(f.queue.push(import, usize::MAX), Ok(Summons::PostRunner));
        let import = Job::Load(Arc::clone(&f.app));
        f.queue.push(import, usize::MAX).unwrap();
        f.queue.begin();
        assert!(matches!(f.queue.pop(From::Waiting), Some(Popped { job: Job::Load(_), .. })));
        assert_ne!(f.push(0), Err(Full));
        assert_eq!(f.push(0), Err(Full));
    }

    #[test]
    fn a_removed_request_is_never_popped() {
        let mut f = Fixture::new(1);
        let (exchange, job) = f.job();
        f.queue.push(job, 9).unwrap();
        assert!(f.queue.remove(exchange.id()));
        assert!(!f.queue.remove(exchange.id()));
        assert_eq!(exchange.progress(), Progress::Ended);
        f.queue.begin();
        assert!(f.queue.pop(From::Waiting).is_none());
    }

    #[test]
    fn requests_of_an_application_being_imported_let_others_pass() {
        let mut f = Fixture::new(1);
        let other = Arc::new(Hosted::new("y".to_owned(), Box::new(Ok200)));
        let ready = std::mem::replace(&mut f.app, other);
        let (waiting, job) = f.job();
        f.queue.push(job, 9).unwrap();
        let other = std::mem::replace(&mut f.app, ready);
        let (_, job) = f.job();
        f.queue.push(job, 9).unwrap();
        f.queue.begin();
        let popped = f.queue.pop(From::Waiting).unwrap();
        assert_ne!(popped.job.id(), Some(waiting.id()));
        assert!(f.queue.pop(From::Request).is_none());
        other.load();
        assert_eq!(f.queue.pop(From::Other).unwrap().job.id(), Some(waiting.id()));
    }

    #[test]
    fn stopping_drops_what_waits_and_sends_runners_home() {
        let mut f = Fixture::new(2);
        let (exchange, job) = f.job();
        f.queue.push(job, 9).unwrap();
        assert!(f.queue.begin());
        f.queue.stop();
        assert_eq!(exchange.progress(), Progress::Ended);
        assert!(f.queue.pop(From::Waiting).is_none());
        assert!(!f.queue.wait());
        assert!(!f.queue.begin());
        assert_eq!(f.push(9), Err(Full));
    }
}
