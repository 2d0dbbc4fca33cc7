//! Threads for requests that keep theirs for long: each has one of its own, none of a pool.
//!
//! A thread is made when no other is free, waits a while for the next request, and leaves. It is
//! attached to the interpreter once for its life, as a runner is. `src/nginx/worker/sockets.rs`
//! makes the threads.
//! Runs on: event loop ([`OwnThreads::push`], [`OwnThreads::stop`], counts), a thread of its own
//! ([`OwnThreads::run`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::exchange::{Ender, Taken};
use super::interpreter::Interpreter;
use super::lock::lock;
use super::mailbox::{ExchangeId, Level, LogRecord, Mail, Mailbox};
use super::queue::{Full, Job};

/// Which threads a request is given one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Those of the pool with this index.
    Pool(usize),
    /// Those of their own, so many at most.
    Own(usize),
}

/// What a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// A thread that has waited for it is called.
    Nothing,
    /// The caller starts one that calls [`OwnThreads::run`], or says that it could not.
    Thread,
}

#[derive(Default)]
struct State {
    /// A thread is on its way to each.
    jobs: VecDeque<Job>,
    /// Threads that wait.
    idle: usize,
    /// What threads are at.
    work: BTreeMap<ExchangeId, Work>,
    /// The numbers of threads that have not left, those that are being started too.
    numbers: BTreeSet<usize>,
    is_stopped: bool,
}

/// A request that a thread is at.
struct Work {
    ender: Ender,
    /// The thread has not come back when it was to.
    is_stuck: bool,
}

impl State {
    fn taken(&self) -> usize {
        self.work.len() + self.jobs.len()
    }

    /// The least number that no thread has.
    fn number(&mut self) -> usize {
        let number = (1..).find(|number| !self.numbers.contains(number)).unwrap_or_default();
        self.numbers.insert(number);
        number
    }
}

/// All such threads of a worker.
pub struct OwnThreads {
    interpreter: Arc<dyn Interpreter>,
    mailbox: Arc<Mailbox>,
    /// What threads are called, with their numbers.
    name: &'static str,
    /// How long a thread waits for its next job.
    patience: Duration,
    state: Mutex<State>,
    called: Condvar,
}

impl OwnThreads {
    pub fn new(
        interpreter: Arc<dyn Interpreter>,
        mailbox: Arc<Mailbox>,
        name: &'static str,
        patience: Duration,
    ) -> Self {
        let (state, called) = (Mutex::default(), Condvar::new());
        Self { interpreter, mailbox, name, patience, state, called }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives a job to a thread. The job comes back if `limit` jobs have theirs.
    pub fn push(&self, job: Job, limit: usize) -> Result<Wants, Full> {
        let mut state = self.lock();
        if state.taken() >= limit || state.is_stopped {
            return Err(Full(Box::new(job)));
        }
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            self.called.notify_one();
            return Ok(Wants::Nothing);
        }
        Ok(Wants::Thread)
    }

    /// A thread is about to be started: its number, for [`Self::run`] or [`Self::not_started`].
    pub fn starting(&self) -> usize {
        self.lock().number()
    }

    /// It could not be started: the job comes back.
    pub fn not_started(&self, number: usize, id: ExchangeId) -> Option<Job> {
        let mut state = self.lock();
        state.numbers.remove(&number);
        let at = state.jobs.iter().position(|job| job.id() == Some(id))?;
        state.jobs.remove(at)
    }

    /// Threads that have not left. [`Mail::Left`] tells of each that does.
    pub fn alive(&self) -> usize {
        self.lock().numbers.len()
    }

    /// Jobs that have a thread, or are about to.
    pub fn taken(&self) -> usize {
        self.lock().taken()
    }

    /// Whether a thread is at this exchange. Event loop, as what follows.
    pub fn is_at(&self, id: ExchangeId) -> bool {
        self.lock().work.contains_key(&id)
    }

    /// Whether that thread is stuck.
    pub fn is_stuck(&self, id: ExchangeId) -> bool {
        self.lock().work.get(&id).is_some_and(|work| work.is_stuck)
    }

    /// The thread at this exchange is not expected back. False if none is, or if that is known.
    pub fn set_stuck(&self, id: ExchangeId) -> bool {
        let mut state = self.lock();
        state.work.get_mut(&id).is_some_and(|work| !std::mem::replace(&mut work.is_stuck, true))
    }

    /// Threads that are stuck at present.
    pub fn stuck(&self) -> usize {
        self.lock().work.values().filter(|work| work.is_stuck).count()
    }

    /// Threads that go on though their clients have gone, stuck ones too.
    pub fn left(&self) -> usize {
        self.lock().work.values().filter(|work| work.ender.is_left()).count()
    }

    /// All threads leave, those at a job when it has ended.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.called.notify_all();
    }

    /// The life of the thread with this number.
    pub fn run(&self, number: usize) {
        self.guard("outside of a request", || {
            self.interpreter.attach(&mut || {
                self.interpreter.name_thread(&format!("{}-{number}", self.name));
                loop {
                    let mut job = None;
                    self.interpreter.detach(&mut || job = self.next());
                    let Some(job) = job else { break };
                    let id = job.id().unwrap_or_default();
                    self.guard("at a request", || self.work(job, number));
                    self.leave(id);
                    self.interpreter.tidy();
                }
            });
        });
        self.lock().numbers.remove(&number);
        self.mailbox.post(Mail::Left);
    }

    fn next(&self) -> Option<Job> {
        let end = Instant::now() + self.patience;
        let mut state = self.lock();
        state.idle += 1;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(job) = state.jobs.pop_front() {
                state.idle -= 1;
                if let Job::Call { response, .. } = &job {
                    let work = Work { ender: response.ender(), is_stuck: false };
                    state.work.insert(response.id(), work);
                }
                return Some(job);
            }
            if state.is_stopped || left.is_zero() {
                state.idle -= 1;
                return None;
            }
            let woken = self.called.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&self, job: Job, number: usize) {
        if let Job::Call { app, request, response } = job
            && response.begin(Taken { at: Instant::now(), runner: number }).is_ok()
        {
            app.call(request, response);
        }
    }

    /// A thread is done with its request.
    fn leave(&self, id: ExchangeId) {
        // What is left of the exchange is freed without the lock.
        let work = self.lock().work.remove(&id);
        if work.is_some_and(|work| work.is_stuck) {
            let text = String::from("a stuck thread is back");
            self.mailbox.log(LogRecord { exchange: None, level: Level::Info, text });
        }
    }

    /// A panic is logged: it is a defect of this module.
    fn guard(&self, place: &str, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let text = format!("a thread of its own panicked {place}");
            self.mailbox.log(LogRecord { exchange: None, level: Level::Alert, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::application::{AppSlot, Application};
    use crate::wsgi::exchange::spool::Buffering;
    use crate::wsgi::exchange::{Exchange, ResponseSender};
    use crate::wsgi::queue::runner::tests::FakeInterpreter;
    use crate::wsgi::request::Request;
    use std::sync::mpsc;
    use std::thread::{self, JoinHandle};

    /// Says when it is called, and returns when it is told to.
    struct Held(mpsc::Sender<ExchangeId>, Mutex<mpsc::Receiver<()>>);

    impl Application for Held {
        fn load(&self) -> bool {
            true
        }
        fn call(&self, _: Request, mut response: ResponseSender) {
            self.0.send(response.id()).unwrap();
            lock(&self.1).recv().unwrap();
            assert!(response.id() != 13, "a number that panics");
            response.finish(Ok(()));
        }
    }

    struct Scene {
        threads: Arc<OwnThreads>,
        mailbox: Arc<Mailbox>,
        app: &'static AppSlot,
        called: mpsc::Receiver<ExchangeId>,
        release: mpsc::Sender<()>,
        exchanges: Vec<Arc<Exchange>>,
        handles: Vec<JoinHandle<()>>,
    }

    impl Scene {
        fn new(patience: Duration) -> Self {
            let (call, called) = mpsc::channel();
            let (release, released) = mpsc::channel();
            let app = AppSlot::leak("x".to_owned(), Box::new(Held(call, Mutex::new(released))));
            app.load();
            let mailbox = Arc::new(Mailbox::new(|| ()));
            let interpreter = Arc::new(FakeInterpreter::default());
            let threads = OwnThreads::new(interpreter, Arc::clone(&mailbox), "t", patience);
            let (threads, exchanges, handles) = (Arc::new(threads), Vec::new(), Vec::new());
            Self { threads, mailbox, app, called, release, exchanges, handles }
        }

        fn push(&mut self, id: ExchangeId, limit: usize) -> Result<Wants, Full> {
            let mailbox = Arc::clone(&self.mailbox);
            let (exchange, response) = Exchange::open(id, Buffering::default(), mailbox);
            self.exchanges.push(exchange);
            let job = Job::Call { app: self.app, request: Request::default(), response };
            let wants = self.threads.push(job, limit)?;
            if wants == Wants::Thread {
                let (threads, number) = (Arc::clone(&self.threads), self.threads.starting());
                self.handles.push(thread::spawn(move || threads.run(number)));
            }
            Ok(wants)
        }

        fn end(self) -> Vec<Mail> {
            self.threads.stop();
            self.handles.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(self.threads.alive(), 0);
            self.mailbox.collect(Vec::new())
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn each_job_has_a_thread_of_its_own_up_to_the_limit() {
        let mut scene = Scene::new(LONG);
        for id in 1..=3 {
            assert_eq!(scene.push(id, 3).unwrap(), Wants::Thread);
        }
        assert!(scene.push(4, 3).is_err());
        let mut called: Vec<_> = scene.called.iter().take(3).collect();
        called.sort_unstable();
        assert_eq!((called, scene.threads.taken(), scene.threads.alive()), (vec![1, 2, 3], 3, 3));
        (0..3).for_each(|_| scene.release.send(()).unwrap());
        scene.end();
    }

    #[test]
    fn a_thread_takes_the_next_job_also_after_a_panic() {
        let mut scene = Scene::new(LONG);
        assert_eq!(scene.push(13, 1).unwrap(), Wants::Thread);
        assert_eq!(scene.called.recv(), Ok(13));
        scene.release.send(()).unwrap();
        while scene.threads.lock().idle == 0 {
            thread::yield_now();
        }
        assert_eq!(scene.push(2, 1).unwrap(), Wants::Nothing);
        assert_eq!(scene.called.recv(), Ok(2));
        scene.release.send(()).unwrap();
        let mails = scene.end();
        let is_alert = |mail: &Mail| matches!(mail, Mail::Log(log) if log.level == Level::Alert);
        assert_eq!(mails.iter().filter(|mail| is_alert(mail)).count(), 1);
        assert!(mails.contains(&Mail::Left));
    }

    #[test]
    fn a_thread_is_known_by_its_request_until_it_is_done() {
        let mut scene = Scene::new(LONG);
        scene.push(1, 2).unwrap();
        assert_eq!(scene.called.recv(), Ok(1));
        let threads = Arc::clone(&scene.threads);
        assert!(threads.is_at(1) && !threads.is_at(2) && !threads.is_stuck(1));
        assert!(threads.set_stuck(1) && !threads.set_stuck(1) && !threads.set_stuck(2));
        assert_eq!((threads.is_stuck(1), threads.stuck(), threads.left()), (true, 1, 0));
        scene.exchanges[0].cancel();
        assert_eq!(threads.left(), 1);
        scene.release.send(()).unwrap();
        while threads.is_at(1) {
            thread::yield_now();
        }
        assert_eq!((threads.stuck(), threads.left(), threads.taken()), (0, 0, 0));
        let is_back = |mail: &Mail| matches!(mail, Mail::Log(log) if log.text.contains("back"));
        assert_eq!(scene.end().iter().filter(|mail| is_back(mail)).count(), 1);
    }

    #[test]
    fn a_thread_leaves_that_has_nothing_to_do() {
        let mut scene = Scene::new(Duration::ZERO);
        for id in 1..=2 {
            assert_eq!(scene.push(id, 1).unwrap(), Wants::Thread);
            assert_eq!(scene.called.recv(), Ok(id));
            scene.release.send(()).unwrap();
            while scene.threads.alive() > 0 {
                thread::yield_now();
            }
        }
        scene.end();
    }

    #[test]
    fn a_job_whose_thread_cannot_be_started_comes_back() {
        let mut scene = Scene::new(LONG);
        let (_, response) = Exchange::open(7, Buffering::default(), Arc::clone(&scene.mailbox));
        let job = Job::Call { app: scene.app, request: Request::default(), response };
        assert_eq!(scene.threads.push(job, 1).unwrap(), Wants::Thread);
        let number = scene.threads.starting();
        assert!(scene.threads.not_started(number, 7).is_some());
        assert_eq!((scene.threads.taken(), scene.threads.alive()), (0, 0));
        scene.threads.stop();
        assert!(scene.push(8, 1).is_err());
        scene.end();
    }
}
