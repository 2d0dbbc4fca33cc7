//! Who is called for what waits, step by step.

mod removal;
mod sleepers;
mod surplus;

use std::sync::Arc;

use super::*;
use crate::wsgi::application::{AppSlot, Application};
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::exchange::{Exchange, Progress, ResponseSender};
use crate::wsgi::mailbox::Mailbox;
use crate::wsgi::request::Request;

/// As Python's own.
const INTERVAL: Duration = Duration::from_millis(5);

impl RequestQueue {
    /// One whose time stands still.
    pub(in crate::wsgi) fn timeless(threads: usize, patient: bool) -> Self {
        let queue = Self::new(threads, patient, INTERVAL);
        *queue.clock.lock().unwrap() = Some(Instant::now());
        queue
    }

    /// Unless it is said otherwise it goes on by what tells two requests apart.
    pub(super) fn now(&self) -> Instant {
        let mut clock = self.clock.lock().unwrap();
        clock.as_mut().map_or_else(Instant::now, |now| {
            *now += Duration::from_nanos(1);
            *now
        })
    }

    fn assume(&self) {
        let now = self.now();
        self.lock().alone.assume(now);
    }

    pub(in crate::wsgi) fn pass(&self, time: Duration) {
        *self.clock.lock().unwrap().as_mut().unwrap() += time;
    }
}

impl Next {
    fn is_some(&self) -> bool {
        matches!(self, Self::Work { .. })
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// The job, and whether a runner is lacking.
    fn unwrap(self) -> (Job, bool) {
        match self {
            Self::Work { job, lacks_runner, .. } => (job, lacks_runner),
            _ => panic!("no job"),
        }
    }
}

/// From the request that was taken first.
fn request(queue: &RequestQueue) -> After {
    watched(queue, None)
}

fn watched(queue: &RequestQueue, slept: Option<bool>) -> After {
    After::Request { since: queue.lock().begun[0], slept }
}

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
    app: &'static AppSlot,
    next_id: ExchangeId,
}

impl Fixture {
    fn new(threads: usize) -> Self {
        let mailbox = Arc::new(Mailbox::new(|| ()));
        let queue = RequestQueue::timeless(threads, true);
        let app = AppSlot::leak("x".to_owned(), Box::new(Ok200));
        app.load();
        Self { mailbox, queue, app, next_id: 0 }
    }

    fn job(&mut self) -> (Arc<Exchange>, Job) {
        self.next_id += 1;
        let (exchange, response) =
            Exchange::open(self.next_id, Buffering::in_memory(1), Arc::clone(&self.mailbox));
        (exchange, Job::Call { app: self.app, request: Request::default(), response })
    }

    fn push(&mut self, limit: usize) -> Result<Summons, Full> {
        let (_, job) = self.job();
        self.queue.push(job, limit)
    }

    /// Two runners, the first at a request, the second just posted as a trial; more requests wait.
    fn with_two(threads: usize) -> Self {
        let mut f = Self::new(threads);
        f.push(9).unwrap();
        f.queue.begin();
        assert!(f.queue.pop(After::Waiting).is_some());
        for _ in 0..8 {
            f.push(9).unwrap();
        }
        assert_eq!(f.queue.check(), Summons::PostRunner);
        assert!(f.queue.begin().is_some());
        f
    }

    /// The same, and it is known that one is enough.
    fn with_two_alone(threads: usize) -> Self {
        let f = Self::with_two(threads);
        f.prove();
        f
    }

    /// One has been found to be enough.
    fn prove(&self) {
        let now = self.queue.now();
        let mut state = self.queue.lock();
        for _ in 0..99 {
            state.alone.answered(false, now);
            state.alone.looked(false);
        }
    }

    fn is_enough(&self) -> bool {
        self.queue.one_is_enough()
    }

    /// The stand-by has had to wait for the GIL.
    fn find_it_taken(&self) {
        self.queue.pass(SOON);
    }

    /// Long enough for another trial.
    fn elapse(&self) {
        self.queue.pass(Duration::from_secs(1));
    }

    /// The last pop is so long ago that nobody is expected back.
    fn lose_patience(&self) {
        self.queue.pass(PATIENCE);
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
    assert!(f.queue.pop(After::Waiting).is_some());
    f.lose_patience();
    assert_eq!(f.push(9), Ok(Summons::PostRunner));
    assert!(f.queue.begin().is_some());
    assert!(f.queue.pop(After::Waiting).is_some());
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
fn a_request_that_comes_while_a_runner_pops_is_left_to_it() {
    let mut f = Fixture::new(2);
    f.push(9).unwrap();
    f.queue.begin();
    let mut after = After::Waiting;
    for _ in 0..3 {
        assert!(f.queue.pop(after).is_some());
        after = request(&f.queue);
        assert_eq!(f.push(9), Ok(Summons::CheckLater));
    }
    // It is not enough that it goes on, unless that has been tried.
    assert_eq!(f.queue.check(), Summons::PostRunner);
    assert_eq!(f.queue.check(), Summons::CheckLater);
}

#[test]
fn nothing_is_left_to_a_check_that_may_come_late() {
    let mut f = Fixture::new(1);
    let queue = RequestQueue::timeless(2, false);
    let mut push = || queue.push(f.job().1, 9);
    assert_eq!(push(), Ok(Summons::PostRunner));
    queue.begin();
    assert!(queue.pop(After::Waiting).is_some());
    assert_eq!(push(), Ok(Summons::PostRunner));
    queue.begin();
    assert!(queue.pop(request(&queue)).is_some());
    queue.assume();
    queue.lock().attaching.as_mut().unwrap().since -= INTERVAL;
    push().unwrap();
    assert!(queue.pop(After::Waiting).is_some());
    queue.lock().needed = None;
    push().unwrap();
    // It neither gives way nor yields.
    assert!(queue.pop(request(&queue)).is_some());
    queue.lock().alone = Alone::default();
    push().unwrap();
    assert!(matches!(queue.pop(request(&queue)), Next::Work { watch: false, .. }));
}

#[test]
fn one_tidying_is_enough() {
    let f = Fixture::new(1);
    f.queue.push(Job::Tidy, 9).unwrap();
    f.queue.push(Job::Tidy, 9).unwrap();
    f.queue.begin();
    assert!(f.queue.pop(After::Waiting).is_some() && f.queue.pop(After::Other).is_none());
}

#[test]
fn the_limit_counts_those_that_wait_and_not_those_that_a_thread_can_take() {
    let mut f = Fixture::new(2);
    assert_ne!(f.push(1), Err(Full));
    assert_ne!(f.push(1), Err(Full));
    assert_ne!(f.push(1), Err(Full));
    assert_eq!(f.push(1), Err(Full));
    f.queue.begin();
    let _running = f.queue.pop(After::Waiting);
    assert_eq!(f.push(1), Err(Full));
    assert!(f.queue.pop(request(&f.queue)).is_some());
    assert!(f.queue.pop(request(&f.queue)).is_some());
    assert_ne!(f.push(1), Err(Full));
}

#[test]
fn what_is_no_request_takes_no_place_in_the_queue() {
    let mut f = Fixture::new(1);
    assert_eq!(f.queue.push(Job::Tidy, usize::MAX), Ok(Summons::PostRunner));
    f.queue.begin();
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
    assert!(f.queue.pop(After::Waiting).is_none());
}

#[test]
fn requests_of_an_application_being_imported_let_others_pass() {
    let mut f = Fixture::new(1);
    let other = AppSlot::leak("y".to_owned(), Box::new(Ok200));
    let ready = std::mem::replace(&mut f.app, other);
    let (waiting, job) = f.job();
    f.queue.push(job, 9).unwrap();
    let other = std::mem::replace(&mut f.app, ready);
    let (_, job) = f.job();
    f.queue.push(job, 9).unwrap();
    f.queue.begin();
    let (job, _) = f.queue.pop(After::Waiting).unwrap();
    assert_ne!(job.id(), Some(waiting.id()));
    assert!(f.queue.pop(request(&f.queue)).is_none());
    other.load();
    assert_eq!(f.queue.pop(After::Other).unwrap().0.id(), Some(waiting.id()));
}

#[test]
fn stopping_drops_what_waits_and_sends_runners_home() {
    let mut f = Fixture::new(2);
    let (exchange, job) = f.job();
    f.queue.push(job, 9).unwrap();
    assert!(f.queue.begin().is_some());
    f.queue.stop();
    assert_eq!(exchange.progress(), Progress::Ended);
    assert!(f.queue.pop(After::Waiting).is_none());
    assert!(!f.queue.wait(false));
    assert!(f.queue.begin().is_none());
    assert_eq!(f.push(9), Err(Full));
}

/// Without fine timers nobody would look a second time.
#[test]
fn a_queue_without_patience_leaves_nothing_to_a_later_look() {
    let mut f = Fixture::new(8);
    let queue = RequestQueue::timeless(8, false);
    let mut push = || queue.push(f.job().1, 9);
    assert_eq!(push(), Ok(Summons::PostRunner));
    assert!(queue.begin().is_some() && queue.pop(After::Waiting).is_some());
    assert_eq!(push(), Ok(Summons::PostRunner));
    assert_eq!([push(), push()], [Ok(Summons::CheckLater), Ok(Summons::CheckLater)]);
    // The first runner comes back for one, the second begins with another.
    assert!(queue.pop(request(&queue)).is_some());
    assert!(queue.begin().is_some());
    assert!(queue.pop(After::Waiting).unwrap().1);
    assert_eq!(queue.check(), Summons::PostRunner);
}
