//! What follows from what has happened. Times are those that the tests say.

use super::*;

const INTERVAL: Duration = Duration::from_millis(5);
const NO_TIME: Duration = Duration::ZERO;

/// A policy that is told when what happens, in time since its beginning.
struct Told {
    policy: Policy,
    begin: Instant,
}

impl Told {
    fn new(timers: Timers) -> Self {
        Self { policy: Policy::new(timers, INTERVAL), begin: Instant::now() }
    }

    /// One runner has been found to be enough.
    fn proven() -> Self {
        let mut told = Self::new(Timers::Fine);
        for _ in 0..99 {
            told.policy.alone.answered(Sign::For, told.begin);
            told.policy.alone.looked(Sign::For);
        }
        told
    }

    fn came(&mut self, call: Call, counts: Counts, late: Duration, at: Duration) -> Verdict {
        let now = self.begin + at;
        let moment = Moment { counts: &counts, short: counts.working, now };
        self.policy.came(now - late, call, &moment)
    }

    fn came_back(
        &mut self,
        job: u64,
        conduct: Option<Conduct>,
        counts: Counts,
        at: Duration,
    ) -> Verdict {
        let (since, now) = (self.begin, self.begin + at);
        let moment = Moment { counts: &counts, short: counts.working - 1, now };
        self.policy.came_back(Done { job, since, conduct }, &moment)
    }

    fn is_expected(&self, counts: Counts, at: Duration) -> bool {
        self.policy.is_expected(&counts, self.begin + at)
    }
}

fn working(working: usize) -> Counts {
    Counts { working, ..Counts::default() }
}

#[test]
fn a_job_is_taken_by_who_comes_before_who_sleeps_and_by_who_sleeps_before_a_new_one() {
    let mut counts = Counts { called: 1, asleep: 1, vacant: 1, ..working(3) };
    assert_eq!(taker(&counts), Taker::Coming);
    (counts.called, counts.attaching) = (0, 1);
    assert_eq!(taker(&counts), Taker::Coming);
    (counts.attaching, counts.starting) = (0, 1);
    assert_eq!(taker(&counts), Taker::Coming);
    counts.starting = 0;
    assert_eq!(taker(&counts), Taker::Sleeper);
    assert!(!lacks_runner(&counts));
    counts.asleep = 0;
    assert_eq!(taker(&counts), Taker::New);
    assert!(lacks_runner(&counts));
    counts.vacant = 0;
    assert_eq!(taker(&counts), Taker::Nobody);
    assert!(!lacks_runner(&counts));
}

#[test]
fn a_job_right_after_another_is_left_to_who_is_up_unless_looks_may_come_late() {
    for timers in [Timers::Fine, Timers::Coarse] {
        let mut told = Told::new(timers);
        let is_fine = timers == Timers::Fine;
        assert!(!told.is_expected(working(1), NO_TIME));
        told.policy.popped(Some(Call::Timed), told.begin);
        assert_eq!(told.is_expected(working(1), NO_TIME), is_fine);
        assert!(!told.is_expected(working(1), RETURN_GRACE));
        for counts in
            [Counts { awake: 1, ..Counts::default() }, Counts { attaching: 1, ..Counts::default() }]
        {
            assert_eq!(told.is_expected(counts, NO_TIME), is_fine);
        }
        // Those are not up.
        let counts = Counts { asleep: 3, called: 1, starting: 1, vacant: 1, ..Counts::default() };
        assert!(!told.is_expected(counts, NO_TIME));
    }
}

#[test]
fn one_that_is_surplus_is_believed_to_be_while_others_come_back() {
    let mut told = Told::proven();
    told.policy.left(told.begin);
    let last = INTERVAL - Duration::from_nanos(1);
    assert!(told.policy.is_crowded(told.begin + last));
    assert!(!told.policy.is_crowded(told.begin + INTERVAL));
    told.policy.popped(None, told.begin + INTERVAL * 3);
    assert!(told.policy.is_crowded(told.begin + INTERVAL * 3));
    assert!(!told.policy.is_crowded(told.begin + TRIAL));
    // It has not been proven for long.
    let mut told = Told::new(Timers::Fine);
    told.policy.left(told.begin);
    assert!(!told.policy.is_crowded(told.begin + FIRST_TRIAL));
}

#[test]
fn a_standby_is_surplus_if_one_is_enough_and_somebody_comes_back() {
    let mut told = Told::proven();
    assert_eq!(told.came(Call::Timed, working(1), SOON, NO_TIME), Verdict::Take);
    told.policy.popped(None, told.begin);
    for call in [Call::Timed, Call::Untimed] {
        assert_eq!(told.came(call, working(1), SOON, NO_TIME), Verdict::Sleep);
    }
    assert_eq!(told.came(Call::Timed, working(0), SOON, NO_TIME), Verdict::Take);
    assert_eq!(told.came(Call::Own, working(1), SOON, NO_TIME), Verdict::Take);
    assert_eq!(told.came(Call::Timed, working(1), SOON, INTERVAL), Verdict::Take);
    let mut told = Told::new(Timers::Fine);
    told.policy.popped(None, told.begin);
    assert_eq!(told.came(Call::Timed, working(1), SOON, NO_TIME), Verdict::Take);
}

#[test]
fn a_runner_that_has_yielded_says_whether_one_is_enough_by_how_soon_it_has_the_gil() {
    for (late, verdict) in [(NO_TIME, Verdict::Take), (SOON, Verdict::Sleep)] {
        let mut told = Told::new(Timers::Fine);
        told.policy.popped(None, told.begin);
        let pause = told.policy.alone.pause();
        assert_eq!(told.came(Call::Yield, working(1), late, NO_TIME), verdict);
        assert_eq!(told.policy.alone.pause(), 2 * pause);
        assert_eq!(told.policy.alone.is_enough(told.begin), verdict == Verdict::Sleep);
    }
}

#[test]
fn a_runner_that_comes_back_goes_on_unless_others_are_at_short_requests() {
    let late = Duration::from_millis(20);
    let mut told = Told::proven();
    assert_eq!(told.came_back(1, None, working(1), late), Verdict::Take);
    assert_eq!(told.came_back(1, None, working(2), late), Verdict::Sleep);
    for counts in [
        Counts { attaching: 1, ..working(2) },
        Counts { called: 1, ..working(2) },
        Counts { starting: 1, ..working(2) },
    ] {
        assert_eq!(told.came_back(1, None, counts, late), Verdict::Take);
    }
    let mut told = Told::new(Timers::Fine);
    assert_eq!(told.came_back(1, None, working(2), NO_TIME), Verdict::Yield);
    // Not soon after a stand-by was of use.
    assert_eq!(told.came(Call::Timed, working(1), NO_TIME, NO_TIME), Verdict::Take);
    let pause = told.policy.alone.pause();
    assert_eq!(told.came_back(1, None, working(2), NO_TIME), Verdict::Take);
    assert_eq!(told.came_back(1, None, working(2), pause), Verdict::Yield);
    let mut told = Told::new(Timers::Coarse);
    assert_eq!(told.came_back(1, None, working(2), NO_TIME), Verdict::Take);
}

#[test]
fn a_request_says_something_if_none_was_beside_it() {
    let enough = |mut told: Told, job| {
        for _ in 0..9 {
            told.policy.took(7, 0, told.begin);
            told.came_back(job, Some(Conduct::Ran), working(1), NO_TIME);
        }
        told.policy.alone.is_enough(told.begin)
    };
    assert!(enough(Told::new(Timers::Fine), 7));
    // Another one that was taken at the same time is not that one.
    assert!(!enough(Told::new(Timers::Fine), 8));
    let mut told = Told::proven();
    for disturbed in [true, false] {
        for _ in 0..2 {
            told.policy.took(7, 0, told.begin);
            if disturbed {
                told.policy.popped(None, told.begin);
                assert_eq!(told.came(Call::Timed, working(1), SOON, NO_TIME), Verdict::Sleep);
            }
            told.came_back(7, Some(Conduct::Slept), working(1), NO_TIME);
        }
        assert_eq!(told.policy.alone.is_enough(told.begin), disturbed);
    }
}

#[test]
fn not_each_of_many_requests_is_watched() {
    let mut told = Told::new(Timers::Fine);
    let begin = told.begin;
    let mut took = |after| told.policy.took(1, 0, begin + after);
    assert!(took(NO_TIME) && !took(NO_TIME) && took(RETURN_GRACE) && !took(RETURN_GRACE));
    let mut told = Told::new(Timers::Coarse);
    assert!(!told.policy.took(1, 0, begin));
}

#[test]
fn a_standby_calls_the_next_one_if_one_is_not_enough_or_no_timer_is_armed() {
    for (is_enough, told) in [(true, Told::proven()), (false, Told::new(Timers::Fine))] {
        for call in [Call::Timed, Call::Yield, Call::Untimed, Call::Own] {
            let calls = |counts| told.policy.calls_next(call, &counts, told.begin);
            assert_eq!(calls(working(1)), !is_enough || !call.is_timed());
            assert!(!calls(Counts { attaching: 1, ..working(1) }));
        }
    }
}
