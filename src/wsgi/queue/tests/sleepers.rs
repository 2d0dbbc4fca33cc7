//! Runners asleep: who is woken for what waits, and who wakes the next one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::*;

/// A runner asleep in `wait`, which returns when the queue is stopped or it is woken.
fn sleeper(queue: &Arc<RequestQueue>, idle: usize) -> JoinHandle<bool> {
    assert!(queue.begin().is_some() && queue.next(After::Waiting).is_none());
    let waiting = Arc::clone(queue);
    let thread = thread::spawn(move || waiting.rest());
    while queue.idle() < idle {
        thread::yield_now();
    }
    thread
}

#[test]
fn the_runner_that_was_up_last_is_called_first() {
    let mut f = Fixture::new(1);
    let (queue, sleepers) = three_sleepers();
    let called = || {
        let state = queue.lock();
        state.roles.seats().find(|(_, role)| matches!(role, Role::Called(_))).map(|(seat, _)| seat)
    };
    let (_first, job) = f.job();
    assert_eq!(queue.push(job, 9), Ok(Wakeup::Wake));
    assert_eq!(called().map(Seat::number), Some(3));
    queue.wake();
    while queue.idle() > 2 {
        thread::yield_now();
    }
    assert!(queue.next(After::Waiting).is_some());
    // While that one is at work, and nobody comes back soon.
    queue.pass(RETURN_GRACE);
    let (_second, job) = f.job();
    assert_eq!(queue.push(job, 9), Ok(Wakeup::Wake));
    assert_eq!(called().map(Seat::number), Some(2));
    end(&queue, sleepers);
}

#[test]
fn a_standby_that_has_taken_a_job_calls_the_next_runner() {
    let mut f = Fixture::new(1);
    let queue = Arc::new(RequestQueue::timeless(3, Timers::Fine));
    let sleepers = [sleeper(&queue, 1), sleeper(&queue, 2)];
    for wakeup in [Wakeup::Wake, Wakeup::LookLater, Wakeup::LookLater] {
        let (_, job) = f.job();
        assert_eq!(queue.push(job, 9), Ok(wakeup));
    }
    queue.wake();
    while queue.idle() > 1 {
        thread::yield_now();
    }
    assert!(!queue.next(After::Waiting).unwrap().1);
    for sleeper in sleepers {
        assert!(sleeper.join().unwrap());
    }
    // Nobody sleeps any more, but there may be one more.
    let (_, job) = f.job();
    queue.push(job, 9).unwrap();
    assert!(queue.next(After::Waiting).unwrap().1);
}

#[test]
fn no_job_is_left_to_a_sleeper_when_two_runners_go_to_sleep_at_once() {
    let mut f = Fixture::new(1);
    let queue = Arc::new(RequestQueue::timeless(3, Timers::Fine));
    let mut push = || queue.push(f.job().1, 9);
    // The third one is busy.
    assert_eq!(push(), Ok(Wakeup::StartRunner));
    assert!(queue.begin().is_some() && queue.next(After::Waiting).is_some());
    for _ in 0..2 {
        assert!(queue.begin().is_some() && queue.next(After::Waiting).is_none());
    }
    queue.lock().policy.taken = None;
    for _ in 0..3 {
        assert_eq!(push(), Ok(Wakeup::Nobody));
    }
    assert!(queue.rest());
    let waiting = Arc::clone(&queue);
    let second = thread::spawn(move || waiting.rest());
    while queue.idle() == 0 {
        thread::yield_now();
    }
    // Even if the third one comes back just now.
    assert!(queue.next(request(&queue)).is_some());
    assert!(queue.next(After::Waiting).is_some());
    assert!(second.join().unwrap());
    assert!(queue.next(After::Waiting).is_some());
}

#[test]
fn a_sleeping_runner_is_woken_for_what_waits() {
    let f = Arc::new(Mutex::new(Fixture::new(1)));
    let queue = Arc::new(RequestQueue::timeless(1, Timers::Fine));
    assert!(queue.begin().is_some() && queue.next(After::Waiting).is_none());
    let waiting = Arc::clone(&queue);
    let thread = thread::spawn(move || waiting.rest());
    while queue.idle() == 0 {
        thread::yield_now();
    }
    let (_first, job) = f.lock().unwrap().job();
    assert_eq!(queue.push(job, 9), Ok(Wakeup::Wake));
    let (_second, job) = f.lock().unwrap().job();
    // It comes for the first one.
    assert_eq!(queue.push(job, 9), Ok(Wakeup::LookLater));
    queue.wake();
    assert!(thread.join().unwrap());
}

fn three_sleepers() -> (Arc<RequestQueue>, Vec<JoinHandle<bool>>) {
    let queue = Arc::new(RequestQueue::timeless(3, Timers::Fine));
    let sleepers = (1..=3).map(|idle| sleeper(&queue, idle)).collect();
    (queue, sleepers)
}

/// Three requests come while three runners are asleep, and one runner has been woken for them.
fn push_three(f: &mut Fixture, queue: &RequestQueue) {
    for wakeup in [Wakeup::Wake, Wakeup::LookLater, Wakeup::LookLater] {
        let (_, job) = f.job();
        assert_eq!(queue.push(job, 9), Ok(wakeup));
    }
    queue.wake();
    while queue.idle() > 2 {
        thread::yield_now();
    }
}

fn end(queue: &RequestQueue, sleepers: Vec<JoinHandle<bool>>) {
    queue.stop();
    for sleeper in sleepers {
        sleeper.join().unwrap();
    }
}

#[test]
fn a_standby_calls_the_next_runner_if_one_may_not_be_enough() {
    let mut f = Fixture::new(1);
    let (queue, sleepers) = three_sleepers();
    push_three(&mut f, &queue);
    assert!(queue.next(After::Waiting).is_some());
    assert!(queue.is_coming());
    end(&queue, sleepers);
}

#[test]
fn a_standby_calls_nobody_if_one_is_enough_unless_it_is_found_stuck() {
    let mut f = Fixture::new(1);
    let (queue, sleepers) = three_sleepers();
    queue.assume();
    push_three(&mut f, &queue);
    // A look while it is on its way finds nothing wrong.
    assert_eq!(queue.look(), Wakeup::LookLater);
    assert!(queue.next(After::Waiting).is_some());
    assert!(!queue.is_coming());
    // It does not come back: the next look calls one. That one finds the GIL free, not for the
    // first time, and calls the next.
    queue.lock().policy.alone.looked(Sign::Against);
    queue.pass(RETURN_GRACE);
    assert_eq!(queue.look(), Wakeup::WakeAndLook);
    queue.wake();
    while queue.idle() > 1 {
        thread::yield_now();
    }
    assert!(queue.next(After::Waiting).is_some());
    assert!(queue.is_coming());
    end(&queue, sleepers);
}

#[test]
fn no_job_is_left_to_a_sleeper_when_three_runners_go_to_sleep_at_once() {
    let mut f = Fixture::new(1);
    let queue = Arc::new(RequestQueue::timeless(4, Timers::Fine));
    let mut push = || queue.push(f.job().1, 9);
    // The fourth is busy for long.
    push().unwrap();
    assert!(queue.begin().is_some() && queue.next(After::Waiting).is_some());
    for _ in 0..2 {
        assert!(queue.begin().is_some() && queue.next(After::Waiting).is_none());
    }
    assert!(queue.begin().is_some());
    push().unwrap();
    assert!(queue.next(After::Waiting).is_some());
    let short = After::Request(queue.at_work(1), None);
    assert!(queue.next(short).is_none());
    queue.assume();
    // A moment later all three are between their last pop and wait.
    queue.pass(RETURN_GRACE);
    for _ in 0..3 {
        assert_eq!(push(), Ok(Wakeup::Nobody));
    }
    assert!(queue.rest());
    let mut sleepers = Vec::new();
    for idle in 1..=2 {
        let waiting = Arc::clone(&queue);
        sleepers.push(thread::spawn(move || waiting.rest()));
        while queue.idle() < idle {
            thread::yield_now();
        }
    }
    for idle in (0..2).rev() {
        // Nobody looks after what is left, so each calls the next one.
        assert!(queue.next(After::Waiting).is_some());
        assert!(queue.is_coming(), "{idle}");
        while queue.idle() > idle {
            thread::yield_now();
        }
    }
    assert!(queue.next(After::Waiting).is_some());
    assert_eq!(queue.lock().jobs.len(), 0);
    end(&queue, sleepers);
}

#[test]
fn what_a_runner_that_has_yielded_leaves_is_found_by_the_look_it_asks_for() {
    let mut f = Fixture::new(1);
    let queue = Arc::new(RequestQueue::timeless(3, Timers::Fine));
    let mut push = || queue.push(f.job().1, 9);
    for _ in 0..2 {
        push().unwrap();
        assert!(queue.begin().is_some() && queue.next(After::Waiting).is_some());
    }
    // The third is between its last pop and wait.
    assert!(queue.begin().is_some() && queue.next(After::Waiting).is_none());
    {
        let policy = &mut queue.lock().policy;
        (policy.taken, policy.needed) = (None, None);
    }
    for _ in 0..4 {
        assert_eq!(push(), Ok(Wakeup::Nobody));
    }
    assert!(matches!(queue.next(request(&queue)), Next::Yield));
    assert_eq!(queue.look(), Wakeup::LookLater);
    let waiting = Arc::clone(&queue);
    let third = thread::spawn(move || waiting.rest());
    while queue.idle() == 0 {
        thread::yield_now();
    }
    // The second comes back for a short one, and then for another.
    assert!(queue.next(request(&queue)).is_some());
    assert!(queue.next(request(&queue)).is_some());
    // The GIL was taken all the time, so it is assumed that one is enough; but nobody has come back
    // lately.
    queue.pass(SOON);
    queue.lock().policy.returned = None;
    assert!(queue.next(After::Waiting).is_some());
    assert!(!queue.is_coming());
    assert_eq!(queue.lock().jobs.len(), 1);
    assert_eq!(queue.look(), Wakeup::Wake);
    queue.wake();
    assert!(third.join().unwrap());
}
