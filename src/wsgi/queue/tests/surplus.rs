//! Who is found to be surplus, and what is made of it.

use super::*;

#[test]
fn a_standby_is_spare_where_one_runner_is_enough() {
    let f = Fixture::with_two_alone(2);
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.find_it_taken();
    assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
    // The first one is left alone for a while, even if it does not come back for a moment.
    assert_eq!(f.queue.look(), Wakeup::LookLater);
    assert_eq!(f.queue.look(), Wakeup::LookLater);
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert_eq!(f.queue.look(), Wakeup::LookLater);
    f.elapse();
    assert_eq!(f.queue.look(), Wakeup::WakeAndLook);
    // It has not fallen asleep yet, and does not now.
    assert!(f.queue.rest_surplus());
    assert!(f.queue.next(After::Waiting).is_some());
}

#[test]
fn one_runner_is_looked_after_sooner_while_that_has_not_been_proven() {
    let f = Fixture::with_two(2);
    f.queue.assume();
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.find_it_taken();
    assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
    let mut state = f.queue.lock();
    state.policy.surplus = state.policy.surplus.map(|at| at - FIRST_TRIAL);
    drop(state);
    assert_eq!(f.queue.look(), Wakeup::WakeAndLook);
}

#[test]
fn what_a_spare_runner_left_is_not_left_alone_when_the_others_block() {
    let mut f = Fixture::with_two_alone(2);
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.find_it_taken();
    assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
    assert_eq!(f.push(99), Ok(Wakeup::LookLater));
    // The switch interval has passed, a trial is not due.
    let mut state = f.queue.lock();
    state.policy.surplus = state.policy.surplus.map(|at| at - INTERVAL);
    state.policy.returned = None;
    drop(state);
    assert_eq!(f.queue.look(), Wakeup::WakeAndLook);
}

#[test]
fn a_standby_is_needed_unless_one_runner_is_enough() {
    let f = Fixture::with_two(2);
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.find_it_taken();
    assert!(f.queue.next(After::Waiting).is_some());
}

#[test]
fn a_standby_is_needed_when_nobody_has_come_back_lately() {
    let f = Fixture::with_two_alone(2);
    f.find_it_taken();
    assert!(f.queue.next(After::Waiting).is_some());
}

#[test]
fn a_standby_is_needed_when_nobody_is_at_work() {
    let f = Fixture::with_two_alone(2);
    let jobs = std::mem::take(&mut f.queue.lock().jobs);
    assert!(f.queue.next(request(&f.queue)).is_none());
    f.queue.lock().jobs = jobs;
    f.queue.lock().policy.returned = Some(f.queue.now());
    f.find_it_taken();
    assert!(f.queue.next(After::Waiting).is_some());
}

#[test]
fn the_gil_found_free_again_and_again_speaks_against_one_runner() {
    let f = Fixture::with_two_alone(2);
    for surplus in [true, true, true, true, false] {
        assert!(f.queue.next(request(&f.queue)).is_some());
        assert_eq!(matches!(f.queue.next(After::Waiting), Next::Surplus), surplus);
        if surplus {
            f.elapse();
            let now = f.queue.now();
            f.queue.lock().policy.alone.answered(Sign::For, now);
            assert_eq!(f.queue.look(), Wakeup::WakeAndLook);
            assert!(f.queue.rest_surplus());
        }
    }
}

#[test]
fn a_request_that_has_become_long_is_no_company() {
    for long in [false, true] {
        let f = Fixture::with_two(3);
        assert!(f.queue.next(After::Waiting).is_some());
        f.queue.assume();
        let now = f.queue.now();
        for _ in 0..99 {
            f.queue.lock().policy.alone.answered(Sign::For, now);
        }
        for _ in 0..5 {
            let third = f.queue.begin().unwrap();
            if long {
                f.queue.age(0, INTERVAL);
            }
            f.find_it_taken();
            f.queue.lock().policy.returned = Some(f.queue.now());
            assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
            f.queue.leave(third);
        }
        assert_eq!(f.queue.lock().policy.alone.is_proven(f.queue.now()), long);
    }
}

#[test]
fn requests_that_sleep_speak_against_one_runner() {
    for conduct in [Conduct::Ran, Conduct::Slept] {
        let mut f = Fixture::with_two_alone(2);
        f.find_it_taken();
        assert!(matches!(f.queue.next(request(&f.queue)), Next::Work { watch: false, .. }));
        f.find_it_taken();
        assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
        // That one had a stand-by beside it: nothing is made of it.
        assert!(f.queue.next(watched(&f.queue, Conduct::Slept)).is_some());
        for _ in 0..3 {
            f.queue.lock().policy.watched = None;
            let next = f.queue.next(watched(&f.queue, conduct));
            assert!(matches!(next, Next::Work { watch: true, .. }));
            // Not each of many.
            let next = f.queue.next(request(&f.queue));
            assert!(matches!(next, Next::Work { watch: false, .. }));
            f.push(99).unwrap();
            f.push(99).unwrap();
        }
        assert_eq!(f.is_enough(), conduct == Conduct::Ran);
    }
}

#[test]
fn a_standby_on_its_way_may_be_why_a_request_slept() {
    for conduct in [Conduct::Slept, Conduct::Ran] {
        let mut f = Fixture::with_two_alone(2);
        for _ in 0..5 {
            f.push(99).unwrap();
            assert!(f.queue.is_coming());
            assert!(f.queue.next(watched(&f.queue, conduct)).is_some());
        }
        assert!(f.is_enough());
        // So much is not made of it that it would be remembered.
        f.queue.pass(Duration::from_millis(20));
        assert!(f.queue.next(watched(&f.queue, conduct)).is_some());
        f.queue.pass(Duration::from_millis(20));
        assert_eq!(f.is_enough(), conduct == Conduct::Ran);
    }
}

#[test]
fn a_standby_on_its_way_is_not_why_a_request_slept_for_long() {
    let mut f = Fixture::with_two_alone(2);
    for _ in 0..2 {
        f.push(99).unwrap();
        f.queue.pass(INTERVAL);
        assert!(f.queue.is_coming());
        assert!(f.queue.next(watched(&f.queue, Conduct::Slept)).is_some());
    }
    assert!(!f.is_enough());
}

#[test]
fn a_request_that_slept_for_long_has_blocked_whoever_was_beside_it() {
    for tried in [false, true] {
        let f = Fixture::with_two_alone(2);
        // Nobody has come back, so it takes a job though one is enough.
        assert!(f.queue.next(After::Waiting).is_some());
        f.queue.pass(INTERVAL);
        if tried {
            // It is one of the many that were at work before one was tried.
            f.queue.assume();
        }
        f.prove();
        for _ in 0..2 {
            // A job, or the way back to sleep.
            assert!(!f.queue.next(watched(&f.queue, Conduct::Slept)).is_none());
        }
        assert_eq!(f.is_enough(), tried);
    }
}

#[test]
fn only_requests_with_none_but_long_ones_beside_them_say_something() {
    for long in [false, true] {
        let mut f = Fixture::with_two(2);
        assert!(f.queue.next(After::Waiting).is_some());
        for _ in 0..5 {
            f.push(99).unwrap();
            f.queue.lock().policy.watched = None;
            if long {
                f.queue.age(0, INTERVAL);
            }
            let second = f.queue.at_work(1);
            assert!(f.queue.next(After::Request(second, Some(Conduct::Ran))).is_some());
        }
        assert_eq!(f.is_enough(), long);
    }
}

#[test]
fn a_runner_that_comes_back_leaves_the_work_to_the_one_that_is_enough() {
    let f = Fixture::with_two_alone(3);
    assert!(f.queue.next(After::Waiting).is_some());
    // Not if that one is at a long computation.
    f.queue.age(0, INTERVAL);
    let second = f.queue.at_work(1);
    assert!(f.queue.next(After::Request(second, None)).is_some());
    // Nor while a stand-by is on its way, which is judged.
    f.queue.rejuvenate(0, INTERVAL);
    let third = f.queue.begin().unwrap();
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.queue.leave(third);
    f.queue.lock().roles.start();
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.queue.not_started();
    assert!(matches!(f.queue.next(request(&f.queue)), Next::Surplus));
    assert_eq!(f.queue.idle(), 1);
    // The last one stays.
    assert!(f.queue.next(request(&f.queue)).is_some());
}

#[test]
fn a_runner_that_calls_itself_is_not_judged() {
    let mut f = Fixture::with_two(2);
    let second = f.queue.first(|role| matches!(role, Role::Attaching { .. }));
    f.queue.lock().roles.set(second, Role::Awake { since: f.queue.now() });
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert!(f.queue.rest());
    f.push(99).unwrap();
    let role = f.queue.lock().roles.get(second);
    assert!(matches!(role, Role::Attaching { call: Call::Own, .. }));
    assert!(f.queue.next(After::Waiting).is_some());
}

#[test]
fn a_runner_that_comes_back_looks_now_and_then_whether_one_is_enough() {
    let f = Fixture::with_two(2);
    assert!(f.queue.next(After::Waiting).is_some());
    // That one was needed just now.
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.elapse();
    // Beside a long one it does not.
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert!(matches!(f.queue.next(request(&f.queue)), Next::Yield));
    // One at a time.
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.find_it_taken();
    assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
    assert!(f.is_enough());
    // The last one stays.
    f.elapse();
    assert!(f.queue.next(request(&f.queue)).is_some());
}

#[test]
fn a_runner_that_gets_the_gil_back_at_once_goes_on() {
    let f = Fixture::with_two(2);
    let pause = f.queue.lock().policy.alone.pause();
    assert!(f.queue.next(After::Waiting).is_some());
    f.elapse();
    // Beside a long one it does not.
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert!(matches!(f.queue.next(request(&f.queue)), Next::Yield));
    assert!(f.queue.next(request(&f.queue)).is_some());
    // It comes for the GIL only after a while.
    f.queue.pass(SOON);
    f.queue.yielded(f.queue.first(|role| matches!(role, Role::Attaching { .. })));
    assert!(f.queue.next(After::Waiting).is_some());
    assert!(f.queue.next(request(&f.queue)).is_some());
    assert!(!f.is_enough());
    assert_eq!(f.queue.lock().policy.alone.pause(), 2 * pause);
}

#[test]
fn a_spare_runner_waits_until_it_is_called() {
    let f = Arc::new(Fixture::with_two_alone(2));
    assert!(f.queue.next(request(&f.queue)).is_some());
    f.find_it_taken();
    assert!(matches!(f.queue.next(After::Waiting), Next::Surplus));
    let waiting = Arc::clone(&f);
    let surplus = std::thread::spawn(move || waiting.queue.rest_surplus());
    std::thread::sleep(INTERVAL);
    assert!(!surplus.is_finished());
    f.elapse();
    assert_eq!(f.queue.look(), Wakeup::WakeAndLook);
    f.queue.wake();
    assert!(surplus.join().unwrap());
    assert_eq!(f.queue.idle(), 0);
}
