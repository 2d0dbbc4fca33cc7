//! The requests that wait for a thread of one pool in one worker, and who is to take them.
//!
//! Runners pop while they hold the GIL, until nothing is left; only then do they detach and wait.
//! At most one waiting runner is on its way to the GIL at a time (the *stand-by*): when the
//! running one blocks in I/O and lets the GIL go, the stand-by takes the next request and wakes
//! the next stand-by. CPU-bound work so stays on one thread and blocking work spreads over all.
//! Runs on: event loop (push, remove), pool thread (the rest).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::application::Hosted;
use super::exchange::ResponseSender;
use super::mailbox::{ExchangeId, Mail, Mailbox};
use super::request::Request;

/// Something for a runner to do.
pub enum Job {
    Load(Arc<Hosted>),
    Call { app: Arc<Hosted>, request: Request, response: ResponseSender },
}

impl Job {
    fn is_runnable(&self) -> bool {
        match self {
            Self::Load(_) => true,
            Self::Call { app, .. } => app.is_settled(),
        }
    }

    fn id(&self) -> Option<ExchangeId> {
        match self {
            Self::Load(_) => None,
            Self::Call { response, .. } => Some(response.id()),
        }
    }
}

/// What [`RequestQueue::push`] has done.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    Queued,
    /// Queued; the caller posts one more runner, or calls [`RequestQueue::not_posted`].
    PostRunner,
    /// Too many requests wait already; the request is dropped.
    Full,
}

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
    index: usize,
    threads: usize,
    mailbox: Arc<Mailbox>,
    state: Mutex<State>,
    work: Condvar,
}

impl RequestQueue {
    /// `index`: which pool of the worker this is; `threads`: how many runners it can have.
    pub fn new(index: usize, threads: usize, mailbox: Arc<Mailbox>) -> Self {
        Self { index, threads, mailbox, state: Mutex::default(), work: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Queues a job. `limit`: how many requests may wait beside those that a free thread can take
    /// at once.
    pub fn push(&self, job: Job, limit: usize) -> Pushed {
        let mut state = self.lock();
        let most = limit.saturating_add(self.threads.saturating_sub(state.busy));
        // Imports are few, so the length says enough most of the time.
        if state.stopping || (state.jobs.len() >= most && state.waiting() >= most) {
            return Pushed::Full;
        }
        state.jobs.push_back(job);
        if self.summon(&mut state) { Pushed::PostRunner } else { Pushed::Queued }
    }

    /// Sees to it that somebody takes the next runnable job; true if a runner must be posted.
    fn summon(&self, state: &mut State) -> bool {
        if state.standby || state.stopping || state.next().is_none() {
            return false;
        }
        if state.idle > 0 {
            state.standby = true;
            state.called = true;
            self.work.notify_one();
            return false;
        }
        if state.posted == 0 && state.runners < self.threads {
            state.posted = 1;
            return true;
        }
        false
    }

    /// As [`Self::summon`], on a pool thread: the event loop is asked to post the runner.
    fn summon_by_mail(&self, state: &mut State) {
        if self.summon(state) {
            self.mailbox.post(Mail::PostRunner(self.index));
        }
    }

    /// The runner that [`Pushed::PostRunner`] asked for could not be posted.
    pub fn not_posted(&self) {
        self.lock().posted = 0;
    }

    /// The import that some jobs waited for is over.
    pub fn settle(&self) {
        let mut state = self.lock();
        self.summon_by_mail(&mut state);
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

    /// The next job, for an attached runner; `arrived`: it comes from `begin` or `wait`.
    pub fn pop(&self, arrived: bool) -> Option<Job> {
        let mut state = self.lock();
        if arrived {
            state.standby = false;
        }
        if state.stopping {
            return None;
        }
        let job = state.next().and_then(|at| state.jobs.remove(at));
        if let Some(job) = &job {
            state.busy += usize::from(job.id().is_some());
            self.summon_by_mail(&mut state);
        }
        job
    }

    /// The request of the last [`Self::pop`] is done.
    pub fn done(&self) {
        self.lock().busy -= 1;
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
            let queue = RequestQueue::new(3, threads, Arc::clone(&mailbox));
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

        fn push(&mut self, limit: usize) -> Pushed {
            let (_, job) = self.job();
            self.queue.push(job, limit)
        }
    }

    #[test]
    fn a_runner_is_posted_only_when_the_last_one_has_begun() {
        let mut f = Fixture::new(2);
        assert_eq!(f.push(9), Pushed::PostRunner);
        assert_eq!(f.push(9), Pushed::Queued);
        assert!(f.queue.begin());
        // One is on its way and takes a job first.
        assert_eq!(f.push(9), Pushed::Queued);
        f.mailbox.collect(Vec::new());
        let job = f.queue.pop(true);
        assert!(job.is_some());
        assert_eq!(f.mailbox.collect(Vec::new()), [Mail::PostRunner(3)]);
        assert!(f.queue.begin());
        assert!(f.queue.pop(true).is_some());
        // Never more than threads.
        assert_eq!(f.push(9), Pushed::Queued);
        assert!(f.mailbox.collect(Vec::new()).iter().all(|m| *m != Mail::PostRunner(3)));
    }

    #[test]
    fn a_runner_that_could_not_be_posted_is_asked_for_again() {
        let mut f = Fixture::new(1);
        assert_eq!(f.push(9), Pushed::PostRunner);
        f.queue.not_posted();
        assert_eq!(f.push(9), Pushed::PostRunner);
    }

    #[test]
    fn the_limit_counts_those_that_wait_and_not_those_that_a_thread_can_take() {
        let mut f = Fixture::new(2);
        assert_ne!(f.push(1), Pushed::Full);
        assert_ne!(f.push(1), Pushed::Full);
        assert_ne!(f.push(1), Pushed::Full);
        assert_eq!(f.push(1), Pushed::Full);
        f.queue.begin();
        let _running = f.queue.pop(true);
        assert_eq!(f.push(1), Pushed::Full);
        f.queue.done();
        assert_ne!(f.push(1), Pushed::Full);
    }

    #[test]
    fn an_import_takes_no_place_in_the_queue() {
        let mut f = Fixture::new(1);
        let import = Job::Load(Arc::clone(&f.app));
        assert_eq!(f.queue.push(import, usize::MAX), Pushed::PostRunner);
        let import = Job::Load(Arc::clone(&f.app));
        f.queue.push(import, usize::MAX);
        f.queue.begin();
        assert!(matches!(f.queue.pop(true), Some(Job::Load(_))));
        assert_ne!(f.push(0), Pushed::Full);
        assert_eq!(f.push(0), Pushed::Full);
    }

    #[test]
    fn a_removed_request_is_never_popped() {
        let mut f = Fixture::new(1);
        let (exchange, job) = f.job();
        f.queue.push(job, 9);
        assert!(f.queue.remove(exchange.id()));
        assert!(!f.queue.remove(exchange.id()));
        assert_eq!(exchange.progress(), Progress::Ended);
        f.queue.begin();
        assert!(f.queue.pop(true).is_none());
    }

    #[test]
    fn requests_of_an_application_being_imported_let_others_pass() {
        let mut f = Fixture::new(1);
        let other = Arc::new(Hosted::new("y".to_owned(), Box::new(Ok200)));
        let ready = std::mem::replace(&mut f.app, other);
        let (waiting, job) = f.job();
        f.queue.push(job, 9);
        let other = std::mem::replace(&mut f.app, ready);
        let (_, job) = f.job();
        f.queue.push(job, 9);
        f.queue.begin();
        let popped = f.queue.pop(true).unwrap();
        assert_ne!(popped.id(), Some(waiting.id()));
        f.queue.done();
        assert!(f.queue.pop(false).is_none());
        other.load();
        f.queue.settle();
        assert_eq!(f.queue.pop(false).unwrap().id(), Some(waiting.id()));
    }

    #[test]
    fn stopping_drops_what_waits_and_sends_runners_home() {
        let mut f = Fixture::new(2);
        let (exchange, job) = f.job();
        f.queue.push(job, 9);
        assert!(f.queue.begin());
        f.queue.stop();
        assert_eq!(exchange.progress(), Progress::Ended);
        assert!(f.queue.pop(true).is_none());
        assert!(!f.queue.wait());
        assert!(!f.queue.begin());
        assert_eq!(f.push(9), Pushed::Full);
    }
}
