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

    /// Looks again after a [`Summons::CheckLater`]: if nobody has come, somebody is called.
    pub fn check(&self) -> Summons {
        let mut state = self.lock();
        if state.next().is_some() && state.returns != state.checked {
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
        if state.idle > 0 {
            state.standby = true;
            state.called = true;
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
        let at = Instant::now();
        let mut state = self.lock();
        let unlooked = std::mem::take(&mut state.unlooked) && from == From::Waiting;
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
        state.popped = Some(at);
        if from != From::Waiting {
            state.returned = Some(at);
            state.returns += 1;
            return Some(Popped { job, at, lacks_runner: false });
        }
        let expected = state.returned.is_some_and(|returned| at - returned < self.patience);
        let chain = (unlooked || !expected) && !state.standby && state.next().is_some();
        let wake = chain && state.idle > 0;
        if wake {
            state.standby = true;
            state.called = true;
        }
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
            let queue = RequestQueue::new(threads, true);
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
            f.queue.lock().returns += 1;
            assert_eq!(f.queue.check(), Summons::CheckLater);
        }
        // Nothing has been popped since: it seems to block.
        assert_eq!(f.queue.check(), Summons::PostRunner);
        assert_eq!(f.queue.check(), Summons::CheckLater);
    }

    /// A runner asleep in `wait`, which returns when the queue is stopped or it is woken.
    fn sleeper(queue: &Arc<RequestQueue>, idle: usize) -> std::thread::JoinHandle<bool> {
        assert!(queue.begin() && queue.pop(From::Waiting).is_none());
        let waiting = Arc::clone(queue);
        let thread = std::thread::spawn(move || waiting.wait());
        while queue.lock().idle < idle {
            std::thread::yield_now();
        }
        thread
    }

    #[test]
    fn a_standby_that_has_taken_a_job_calls_the_next_runner() {
        let mut f = Fixture::new(1);
        let queue = Arc::new(RequestQueue::new(3, true));
        let sleepers = [sleeper(&queue, 1), sleeper(&queue, 2)];
        for summons in [Summons::Wake, Summons::CheckLater, Summons::CheckLater] {
            let (_, job) = f.job();
            assert_eq!(queue.push(job, 9), Ok(summons));
        }
        queue.wake();
        while queue.lock().idle > 1 {
            std::thread::yield_now();
        }
        assert!(!queue.pop(From::Waiting).unwrap().lacks_runner);
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap());
        }
        // Nobody sleeps any more, but there may be one more.
        let (_, job) = f.job();
        queue.push(job, 9).unwrap();
        assert!(queue.pop(From::Waiting).unwrap().lacks_runner);
    }

    #[test]
    fn no_job_is_left_to_a_sleeper_when_two_runners_go_to_sleep_at_once() {
        let mut f = Fixture::new(1);
        let queue = Arc::new(RequestQueue::new(2, true));
        for _ in 0..2 {
            assert!(queue.begin() && queue.pop(From::Waiting).is_none());
        }
        for _ in 0..2 {
            let (_, job) = f.job();
            assert_eq!(queue.push(job, 9), Ok(Summons::Done));
        }
        assert!(queue.wait());
        let waiting = Arc::clone(&queue);
        let second = std::thread::spawn(move || waiting.wait());
        while queue.lock().idle == 0 {
            std::thread::yield_now();
        }
        // Even if somebody has come back just now.
        queue.lock().returned = Some(Instant::now());
        assert!(queue.pop(From::Waiting).is_some());
        assert!(second.join().unwrap());
        assert!(queue.pop(From::Waiting).is_some());
    }

    #[test]
    fn nothing_is_left_to_a_check_that_may_come_late() {
        let mut f = Fixture::new(1);
        let queue = RequestQueue::new(2, false);
        let mut push = || queue.push(f.job().1, 9);
        assert_eq!(push(), Ok(Summons::PostRunner));
        queue.begin();
        assert!(queue.pop(From::Waiting).is_some());
        assert_eq!(push(), Ok(Summons::PostRunner));
    }

    #[test]
    fn one_tidying_is_enough() {
        let f = Fixture::new(1);
        f.queue.push(Job::Tidy, 9).unwrap();
        f.queue.push(Job::Tidy, 9).unwrap();
        f.queue.begin();
        assert!(f.queue.pop(From::Waiting).is_some() && f.queue.pop(From::Other).is_none());
    }

    #[test]
    fn a_sleeping_runner_is_woken_for_what_waits() {
        let f = Arc::new(Mutex::new(Fixture::new(1)));
        let queue = Arc::new(RequestQueue::new(1, true));
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
