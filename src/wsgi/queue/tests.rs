//! Who is called for what waits, step by step.

use super::*;
use crate::wsgi::application::Application;
use crate::wsgi::exchange::{Exchange, Progress};
use crate::wsgi::mailbox::Mailbox;
use crate::wsgi::spool::Buffering;

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
        let (exchange, response) =
            Exchange::open(self.next_id, Buffering::in_memory(1), Arc::clone(&self.mailbox));
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
    assert!(f.queue.begin().is_some());
    // One is on its way and takes a job first.
    assert_eq!(f.push(9), Ok(Summons::CheckLater));
    assert!(f.queue.pop(From::Waiting).is_some());
    f.lose_patience();
    assert_eq!(f.push(9), Ok(Summons::PostRunner));
    assert!(f.queue.begin().is_some());
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
    assert!(queue.begin().is_some() && queue.pop(From::Waiting).is_none());
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
    let queue = Arc::new(RequestQueue::new(3, true));
    let mut push = || queue.push(f.job().1, 9);
    // The third one is busy.
    assert_eq!(push(), Ok(Summons::PostRunner));
    assert!(queue.begin().is_some() && queue.pop(From::Waiting).is_some());
    for _ in 0..2 {
        assert!(queue.begin().is_some() && queue.pop(From::Waiting).is_none());
    }
    queue.lock().popped = None;
    for _ in 0..3 {
        assert_eq!(push(), Ok(Summons::Done));
    }
    assert!(queue.wait());
    let waiting = Arc::clone(&queue);
    let second = std::thread::spawn(move || waiting.wait());
    while queue.lock().idle == 0 {
        std::thread::yield_now();
    }
    // Even if the third one comes back just now.
    assert!(queue.pop(From::Request).is_some());
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
    assert!(queue.begin().is_some() && queue.pop(From::Waiting).is_none());
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
    assert!(f.queue.begin().is_some());
    f.queue.stop();
    assert_eq!(exchange.progress(), Progress::Ended);
    assert!(f.queue.pop(From::Waiting).is_none());
    assert!(!f.queue.wait());
    assert!(f.queue.begin().is_none());
    assert_eq!(f.push(9), Err(Full));
}

/// Without fine timers nobody would look a second time.
#[test]
fn a_queue_without_patience_leaves_nothing_to_a_later_look() {
    let mut f = Fixture::new(8);
    let queue = RequestQueue::new(8, false);
    let mut push = || queue.push(f.job().1, 9);
    assert_eq!(push(), Ok(Summons::PostRunner));
    assert!(queue.begin().is_some() && queue.pop(From::Waiting).is_some());
    assert_eq!(push(), Ok(Summons::PostRunner));
    assert_eq!([push(), push()], [Ok(Summons::CheckLater), Ok(Summons::CheckLater)]);
    // The first runner comes back for one, the second begins with another.
    assert!(queue.pop(From::Request).is_some());
    assert!(queue.begin().is_some());
    assert!(queue.pop(From::Waiting).is_some_and(|popped| popped.lacks_runner));
    assert_eq!(queue.check(), Summons::PostRunner);
}
