//! Who is called for what waits, step by step.

mod board;
mod model;
mod removal;
mod sleepers;
mod surplus;

use std::sync::Arc;

use super::alone::{Alone, Sign};
use super::policy::{FIRST_TRIAL, RETURN_GRACE, SOON};
use super::*;
use crate::wsgi::application::{AppSlot, Application};
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::exchange::{Exchange, Progress, ResponseSender};
use crate::wsgi::mailbox::Mailbox;
use crate::wsgi::request::Request;

/// As Python's own.
const INTERVAL: Duration = Duration::from_millis(5);

/// Where a runner comes from that pops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It is on its way.
    Waiting,
    /// The request of this runner.
    Request(Seat, Option<Conduct>),
    /// It has tidied, or is between `pop` and `wait`.
    Other,
}

impl RequestQueue {
    /// One whose time stands still.
    pub(in crate::wsgi) fn timeless(threads: usize, timers: Timers) -> Self {
        let queue = Self::new(threads, timers, INTERVAL);
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
        self.lock().policy.alone.assume(now);
    }

    pub(in crate::wsgi) fn pass(&self, time: Duration) {
        *self.clock.lock().unwrap().as_mut().unwrap() += time;
    }

    pub(in crate::wsgi) fn one_is_enough(&self) -> bool {
        self.lock().policy.alone.is_enough(self.now())
    }

    /// Whether no runner has a place.
    pub(in crate::wsgi) fn is_at_rest(&self) -> bool {
        let state = self.lock();
        state.roles.counts().vacant == self.threads
    }

    /// The first runner whose role is such.
    fn first(&self, is_such: impl Fn(Role) -> bool) -> Seat {
        self.lock().roles.seats().find(|(_, role)| is_such(*role)).expect("a runner").0
    }

    /// The runner at the request that was taken first, second...
    fn at_work(&self, nth: usize) -> Seat {
        let state = self.lock();
        let mut seats: Vec<_> = state.roles.seats().filter_map(working).collect();
        seats.sort_by_key(|(since, _)| *since);
        seats[nth].1
    }

    /// That request was taken that much earlier.
    fn age(&self, nth: usize, time: Duration) {
        self.taken_at(nth, |since| since - time);
    }

    fn rejuvenate(&self, nth: usize, time: Duration) {
        self.taken_at(nth, |since| since + time);
    }

    fn taken_at(&self, nth: usize, change: impl Fn(Instant) -> Instant) {
        let seat = self.at_work(nth);
        let mut state = self.lock();
        let Role::Working { job, since } = state.roles.get(seat) else { unreachable!() };
        state.roles.set(seat, Role::Working { job, since: change(since) });
    }

    /// A runner of those pops that come from there.
    fn next(&self, after: After) -> Next {
        let (seat, conduct) = match after {
            After::Waiting => (self.first(|role| matches!(role, Role::Attaching { .. })), None),
            After::Request(seat, conduct) => (seat, conduct),
            After::Other => (self.first(|role| matches!(role, Role::Awake { .. })), None),
        };
        self.pop(seat, conduct)
    }

    /// A runner waits that has found nothing.
    fn rest(&self) -> bool {
        self.wait(self.first(|role| matches!(role, Role::Awake { .. })))
    }

    /// A runner waits that is surplus.
    fn rest_surplus(&self) -> bool {
        self.wait(self.first(|role| matches!(role, Role::Called(_) | Role::Asleep)))
    }

    /// How many runners sleep, and have not woken.
    fn idle(&self) -> usize {
        let state = self.lock();
        state.roles.counts().asleep + state.roles.counts().called
    }

    fn is_coming(&self) -> bool {
        self.lock().roles.counts().coming() > 0
    }
}

fn working((seat, role): (Seat, Role)) -> Option<(Instant, Seat)> {
    match role {
        Role::Working { since, .. } => Some((since, seat)),
        _ => None,
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
    After::Request(queue.at_work(0), None)
}

fn watched(queue: &RequestQueue, conduct: Conduct) -> After {
    After::Request(queue.at_work(0), Some(conduct))
}

impl PartialEq for Full {
    /// Whatever comes back.
    fn eq(&self, _: &Self) -> bool {
        true
    }
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
        let queue = RequestQueue::timeless(threads, Timers::Fine);
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

    fn push(&mut self, limit: usize) -> Result<Wakeup, Full> {
        let (_, job) = self.job();
        self.queue.push(job, limit)
    }

    /// Two runners, the first at a request, the second just started as a trial; more requests wait.
    fn with_two(threads: usize) -> Self {
        let mut f = Self::new(threads);
        f.push(9).unwrap();
        f.queue.begin();
        assert!(f.queue.next(After::Waiting).is_some());
        for _ in 0..8 {
            f.push(9).unwrap();
        }
        assert_eq!(f.queue.look(), Wakeup::StartRunner);
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
            state.policy.alone.answered(Sign::For, now);
            state.policy.alone.looked(Sign::For);
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
    fn outlast_the_grace(&self) {
        self.queue.pass(RETURN_GRACE);
    }
}

#[test]
fn a_runner_is_started_only_when_the_last_one_has_begun() {
    let mut f = Fixture::new(2);
    assert_eq!(f.push(9), Ok(Wakeup::StartRunner));
    assert_eq!(f.push(9), Ok(Wakeup::LookLater));
    assert!(f.queue.begin().is_some());
    // One is on its way and takes a job first.
    assert_eq!(f.push(9), Ok(Wakeup::LookLater));
    assert!(f.queue.next(After::Waiting).is_some());
    f.outlast_the_grace();
    assert_eq!(f.push(9), Ok(Wakeup::StartRunner));
    assert!(f.queue.begin().is_some());
    assert!(f.queue.next(After::Waiting).is_some());
    // Never more than threads.
    f.outlast_the_grace();
    assert_eq!(f.push(9), Ok(Wakeup::Nobody));
}

#[test]
fn a_runner_that_could_not_be_started_is_asked_for_again() {
    let mut f = Fixture::new(1);
    assert_eq!(f.push(9), Ok(Wakeup::StartRunner));
    f.queue.not_started();
    assert_eq!(f.push(9), Ok(Wakeup::StartRunner));
}

#[test]
fn a_request_that_comes_while_a_runner_pops_is_left_to_it() {
    let mut f = Fixture::new(2);
    f.push(9).unwrap();
    f.queue.begin();
    let mut after = After::Waiting;
    for _ in 0..3 {
        assert!(f.queue.next(after).is_some());
        after = request(&f.queue);
        assert_eq!(f.push(9), Ok(Wakeup::LookLater));
    }
    // It is not enough that it goes on, unless that has been tried.
    assert_eq!(f.queue.look(), Wakeup::StartRunner);
    assert_eq!(f.queue.look(), Wakeup::LookLater);
}

#[test]
fn nothing_is_left_to_a_check_that_may_come_late() {
    let mut f = Fixture::new(1);
    let queue = RequestQueue::timeless(2, Timers::Coarse);
    let mut push = || queue.push(f.job().1, 9);
    assert_eq!(push(), Ok(Wakeup::StartRunner));
    queue.begin();
    assert!(queue.next(After::Waiting).is_some());
    assert_eq!(push(), Ok(Wakeup::StartRunner));
    queue.begin();
    assert!(queue.next(request(&queue)).is_some());
    queue.assume();
    queue.pass(INTERVAL);
    push().unwrap();
    assert!(queue.next(After::Waiting).is_some());
    queue.lock().policy.needed = None;
    push().unwrap();
    // It neither gives way nor yields.
    assert!(queue.next(request(&queue)).is_some());
    queue.lock().policy.alone = Alone::default();
    push().unwrap();
    assert!(matches!(queue.next(request(&queue)), Next::Work { watch: false, .. }));
}

#[test]
fn one_tidying_is_enough() {
    let f = Fixture::new(1);
    f.queue.push(Job::Tidy, 9).unwrap();
    f.queue.push(Job::Tidy, 9).unwrap();
    f.queue.begin();
    assert!(f.queue.next(After::Waiting).is_some() && f.queue.next(After::Other).is_none());
}

#[test]
fn the_limit_counts_those_that_wait_and_not_those_that_a_thread_can_take() {
    let mut f = Fixture::new(2);
    assert!(f.push(1).is_ok());
    assert!(f.push(1).is_ok());
    assert!(f.push(1).is_ok());
    assert!(f.push(1).is_err());
    f.queue.begin();
    let _running = f.queue.next(After::Waiting);
    assert!(f.push(1).is_err());
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert!(f.push(1).is_ok());
}

#[test]
fn what_is_no_request_takes_no_place_in_the_queue() {
    let mut f = Fixture::new(1);
    assert_eq!(f.queue.push(Job::Tidy, usize::MAX), Ok(Wakeup::StartRunner));
    f.queue.begin();
    assert!(f.push(0).is_ok());
    assert!(f.push(0).is_err());
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
    assert!(f.queue.next(After::Waiting).is_none());
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
    let (job, _) = f.queue.next(After::Waiting).unwrap();
    assert_ne!(job.id(), Some(waiting.id()));
    assert!(f.queue.next(request(&f.queue)).is_none());
    other.load();
    assert_eq!(f.queue.next(After::Other).unwrap().0.id(), Some(waiting.id()));
}

#[test]
fn stopping_drops_what_waits_and_sends_runners_home() {
    let mut f = Fixture::new(2);
    let (exchange, job) = f.job();
    f.queue.push(job, 9).unwrap();
    assert!(f.queue.begin().is_some());
    f.queue.stop();
    assert_eq!(exchange.progress(), Progress::Ended);
    assert!(f.queue.next(After::Waiting).is_none());
    assert!(!f.queue.rest());
    assert!(f.queue.begin().is_none());
    assert!(f.push(9).is_err());
}

/// Without fine timers nobody would look a second time.
#[test]
fn a_queue_without_fine_timers_leaves_nothing_to_a_later_look() {
    let mut f = Fixture::new(8);
    let queue = RequestQueue::timeless(8, Timers::Coarse);
    let mut push = || queue.push(f.job().1, 9);
    assert_eq!(push(), Ok(Wakeup::StartRunner));
    assert!(queue.begin().is_some() && queue.next(After::Waiting).is_some());
    assert_eq!(push(), Ok(Wakeup::StartRunner));
    assert_eq!([push(), push()], [Ok(Wakeup::LookLater), Ok(Wakeup::LookLater)]);
    // The first runner comes back for one, the second begins with another.
    assert!(queue.next(request(&queue)).is_some());
    assert!(queue.begin().is_some());
    assert!(queue.next(After::Waiting).unwrap().1);
    assert_eq!(queue.look(), Wakeup::StartRunner);
}
