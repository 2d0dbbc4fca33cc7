//! Runners on threads of their own, with an event loop that is played.

mod panics;

use super::*;
use crate::wsgi::application::{AppSlot, Application};
use crate::wsgi::error::{Failure, LoadError};
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::exchange::{Exchange, ResponseSender};
use crate::wsgi::interpreter::SWITCH_INTERVAL;
use crate::wsgi::queue::{Timers, Wakeup};
use crate::wsgi::request::Request;
use crate::wsgi::target::Target;
use std::path::PathBuf;
use std::sync::{Barrier, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

/// An interpreter with a lock where Python has its GIL.
#[derive(Default)]
pub struct FakeInterpreter {
    exits: AtomicUsize,
    /// The function that panics, and after how many calls of it; once.
    panics: Mutex<Option<(&'static str, usize)>>,
    sleeps: Arc<AtomicUsize>,
}

impl FakeInterpreter {
    pub fn exits(&self) -> usize {
        self.exits.load(Ordering::SeqCst)
    }

    fn passes(&self, function: &'static str) {
        let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *panics {
            Some((here, 0)) if *here == function => *panics = None,
            Some((here, calls)) if *here == function => return *calls -= 1,
            _ => return,
        }
        drop(panics);
        panic!("in {function}");
    }
}

impl Interpreter for FakeInterpreter {
    fn stacks(&self, _: &[Arc<Exchange>]) -> Vec<(ExchangeId, String)> {
        Vec::new()
    }

    fn name_thread(&self, _: &str) {}
    fn attach(&self, run: &mut dyn FnMut()) {
        self.passes("attach");
        run();
    }
    fn detach(&self, wait: &mut (dyn FnMut() + Send)) {
        self.passes("detach");
        wait();
    }
    fn sleeps(&self) -> u64 {
        self.passes("sleeps");
        self.sleeps.load(Ordering::SeqCst) as u64
    }
    fn tidy(&self) {
        self.passes("tidy");
    }
    fn exit(&self, _: Instant) {
        self.exits.fetch_add(1, Ordering::SeqCst);
    }
    fn finalize(&self) {}
    fn interrupt(&self, _: &Exchange, _: &str) {}
    fn show(&self, _: &Exchange, _: u32) {}
    fn locate_main(&self, _: &str) {}
    fn try_import(&self, _: &Target) -> Result<(), LoadError> {
        unreachable!("not used")
    }
    fn compiles(&self, _: &[PathBuf]) -> bool {
        true
    }
    fn application(&self, _: &Target) -> Box<dyn Application> {
        unreachable!("not used")
    }
}

struct FakeApp<F>(F);

impl<F: Fn(&mut ResponseSender) + Send + Sync> Application for FakeApp<F> {
    fn load(&self) -> bool {
        true
    }
    fn call(&self, _: Request, mut response: ResponseSender) {
        (self.0)(&mut response);
    }
}

fn loaded(call: impl Fn(&mut ResponseSender) + Send + Sync + 'static) -> &'static AppSlot {
    let app = AppSlot::leak("x".to_owned(), Box::new(FakeApp(call)));
    app.load();
    app
}

struct Worker {
    runners: Arc<Runners>,
    interpreter: Arc<FakeInterpreter>,
    mailbox: Arc<Mailbox>,
    wakes: mpsc::Receiver<()>,
    threads: Vec<thread::JoinHandle<()>>,
    ids: u64,
}

impl Worker {
    fn new(threads: usize) -> Self {
        Self::of(RequestQueue::new(threads, Timers::Fine, SWITCH_INTERVAL))
    }

    fn of(queue: RequestQueue) -> Self {
        let (wake, wakes) = mpsc::channel();
        let wake = Mutex::new(wake);
        let mailbox = Arc::new(Mailbox::new(move || {
            let _ = wake.lock().unwrap().send(());
        }));
        let interpreter = Arc::new(FakeInterpreter::default());
        let queue = vec![Arc::new(queue)];
        let runners = Arc::new(Runners::new(interpreter.clone(), queue, Arc::clone(&mailbox)));
        Self { runners, interpreter, mailbox, wakes, threads: Vec::new(), ids: 0 }
    }

    fn start(&mut self) {
        self.runners.starting();
        let runners = Arc::clone(&self.runners);
        self.threads.push(thread::spawn(move || runners.run(0)));
    }

    fn follow(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::StartRunner => self.start(),
            Wakeup::Wake | Wakeup::WakeAndLook => self.runners.queues()[0].wake(),
            Wakeup::Done | Wakeup::LookLater | Wakeup::Nobody => (),
        }
    }

    fn request(&mut self, app: &'static AppSlot) -> Arc<Exchange> {
        self.ids += 1;
        let (exchange, response) =
            Exchange::open(self.ids, Buffering::in_memory(1), Arc::clone(&self.mailbox));
        let job = Job::Call { app, request: Request::default(), response };
        let wakeup = self.runners.queues()[0].push(job, 1000).unwrap();
        self.follow(wakeup);
        exchange
    }

    /// Plays the event loop until `count` responses have come.
    fn responses(&mut self, count: usize) -> Vec<Mail> {
        let mut seen = Vec::new();
        while seen.iter().filter(|m| matches!(m, Mail::Response(_))).count() < count {
            // As the event loop's timer does.
            let _ = self.wakes.recv_timeout(Duration::from_millis(1));
            let wakeup = self.runners.queues()[0].look();
            self.follow(wakeup);
            seen.extend(self.mailbox.collect(Vec::new()));
        }
        seen
    }

    fn stop(self) {
        self.runners.stop();
        for thread in self.threads {
            thread.join().unwrap();
        }
        assert_eq!(self.runners.alive(), 0);
        assert_eq!(self.interpreter.exits(), 0, "they are the main thread's");
    }
}

#[test]
fn many_requests_are_served_and_all_runners_leave() {
    let mut worker = Worker::new(4);
    let app = loaded(|response| response.finish(Ok(())));
    let all: Vec<_> = (0..500).map(|_| worker.request(app)).collect();
    worker.responses(500);
    assert!(all.iter().all(|exchange| exchange.take().end == Some(Ok(()))));
    worker.stop();
}

#[test]
fn the_queue_is_told_whether_a_request_has_slept() {
    for slept in [false, true] {
        // With two, the second might be on its way when the first comes back.
        let mut worker = Worker::new(1);
        let sleeps = Arc::clone(&worker.interpreter.sleeps);
        let app = loaded(move |response| {
            // Longer than the queue goes without watching one.
            thread::sleep(Duration::from_millis(1));
            sleeps.fetch_add(usize::from(slept), Ordering::SeqCst);
            response.finish(Ok(()));
        });
        for _ in 0..8 {
            worker.request(app);
            worker.responses(1);
        }
        assert_eq!(worker.runners.queues()[0].one_is_enough(), !slept);
        worker.stop();
    }
}

#[test]
fn a_runner_that_lets_others_have_the_gil_asks_for_a_look() {
    // Where time stands still nobody is late for the GIL, so that no runner is surplus: a look is
    // asked for to have the second one started, and after that only by those that yield.
    let queue = RequestQueue::timeless(2, Timers::Fine);
    let mut worker = Worker::of(queue);
    let sleeps = Arc::clone(&worker.interpreter.sleeps);
    let app = loaded(move |response| {
        thread::sleep(Duration::from_millis(1));
        sleeps.fetch_add(1, Ordering::SeqCst);
        response.finish(Ok(()));
    });
    let mut answers = 0;
    let mut checks = 0;
    for turn in 0..200 {
        while worker.ids < answers + 8 {
            worker.request(app);
        }
        let both = worker.threads.len() == 2;
        let seen = worker.responses(1);
        answers += seen.iter().filter(|m| matches!(m, Mail::Response(_))).count() as u64;
        if both {
            checks += seen.iter().filter(|m| matches!(m, Mail::Look(0))).count();
        }
        if turn % 20 == 0 {
            worker.runners.queues()[0].pass(Duration::from_secs(1));
        }
    }
    assert!(checks > 0);
    worker.stop();
}

#[test]
fn blocking_requests_spread_over_all_threads() {
    let mut worker = Worker::new(4);
    let barrier = Arc::new(Barrier::new(4));
    let app = loaded(move |response| {
        // Nobody passes unless four threads are here at once.
        barrier.wait();
        response.finish(Ok(()));
    });
    for _ in 0..8 {
        worker.request(app);
    }
    worker.responses(8);
    assert_eq!(worker.threads.len(), 4);
    worker.stop();
}

#[test]
fn a_panic_ends_the_request_and_not_the_runner() {
    let mut worker = Worker::new(1);
    let app = loaded(|response| {
        assert!(response.id() != 1, "first");
        response.finish(Ok(()));
    });
    let first = worker.request(app);
    let second = worker.request(app);
    let seen = worker.responses(2);
    assert_eq!(first.take().end, Some(Err(Failure::Lost)));
    assert_eq!(second.take().end, Some(Ok(())));
    assert!(seen.iter().any(|m| matches!(m, Mail::Log(r) if r.level == Level::Alert)));
    worker.stop();
}

#[test]
fn a_cancelled_request_never_reaches_the_application() {
    let mut worker = Worker::new(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let app = loaded(move |response| {
        counter.fetch_add(1, Ordering::SeqCst);
        response.finish(Ok(()));
    });
    let (exchange, response) =
        Exchange::open(99, Buffering::in_memory(1), Arc::clone(&worker.mailbox));
    exchange.cancel();
    let job = Job::Call { app, request: Request::default(), response };
    assert_eq!(worker.runners.queues()[0].push(job, 9), Ok(Wakeup::StartRunner));
    worker.start();
    worker.request(app);
    worker.responses(1);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    worker.stop();
}

#[test]
fn a_runner_that_begins_after_the_stop_leaves() {
    let mut worker = Worker::new(1);
    worker.runners.stop();
    worker.start();
    worker.stop();
}
