//! Whether one runner alone answers as much as several would.
//!
//! One does if it hardly ever leaves the GIL to others: several would only take turns with the GIL,
//! and each request that loses the GIL halfway is late. Two signs speak against one runner. Each
//! happens by chance too, so a single sign decides nothing:
//! * a request with no other beside it made its thread sleep: it blocks;
//! * a stand-by found the GIL free when it came: the application computes without the GIL.
//!
//! That a stand-by found the GIL taken alone says little: somebody else may hold it, a thread of
//! the application or another pool. So some request must have gone by just now without sleeping.
//!
//! Nearly all of this can be seen only while one runner is at work. If several are, one is tried
//! again and again, after longer and longer pauses as long as the tries fail.
//! Runs on: either, under the queue's lock.

use std::time::{Duration, Instant};

/// A sign in favour counts 1. So many are enough.
const ENOUGH: u32 = 4;
/// So many prove it.
const PROVEN: u32 = 12;
/// More do not count.
const MOST: u32 = 16;
/// What a request that slept counts: two soon after each other are too many.
const SLEPT: u32 = 8;
/// What a stand-by that found the GIL free counts: one in four is too many. Those that come while
/// the runner waits for a processor find it free more often than it is.
const FREE: u32 = 3;

/// For so long a request that did not sleep is remembered, and a try goes on without one.
const FRESH: Duration = Duration::from_millis(25);

/// Between two tries, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(800)];

/// Whether something speaks for one runner or against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    For,
    Against,
}

pub struct Alone {
    /// Requests that did not sleep.
    answers: u32,
    /// Stand-bys that had to wait for the GIL.
    looks: u32,
    /// When the last request did not sleep, or a try began.
    fresh: Option<Instant>,
    /// When a try with one runner last began.
    tried: Option<Instant>,
    pause: Duration,
}

impl Default for Alone {
    /// Nothing is known of the requests yet, and nothing against the GIL.
    fn default() -> Self {
        Self { answers: 0, looks: ENOUGH + FREE, fresh: None, tried: None, pause: PAUSES[0] }
    }
}

impl Alone {
    pub fn is_enough(&self, now: Instant) -> bool {
        let fresh = self.fresh.is_some_and(|fresh| now - fresh < FRESH);
        self.answers >= ENOUGH && self.looks >= ENOUGH && fresh
    }

    /// Whether one runner has been enough for some time. Until then stand-bys look more often.
    pub fn is_proven(&self, now: Instant) -> bool {
        self.is_enough(now) && self.answers >= PROVEN && self.looks >= PROVEN
    }

    /// How long the next try is put off.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Whether a request that began then is none of those that were many before the last try.
    pub fn is_tried(&self, since: Instant) -> bool {
        self.tried.is_none_or(|tried| since > tried)
    }

    /// A request has ended that no other was beside, or that blocked in any case. A thread that
    /// slept in it is a sign against one runner.
    pub fn answered(&mut self, sign: Sign, now: Instant) {
        self.answers = count(self.answers, sign, SLEPT);
        if sign == Sign::For {
            self.fresh = Some(now);
            if self.is_proven(now) {
                self.pause = PAUSES[0];
            }
        }
    }

    /// A stand-by has come for the GIL. A free GIL is a sign against one runner; a GIL that was
    /// taken speaks for one runner only if no more than one was at work.
    pub fn looked(&mut self, sign: Sign) {
        self.looks = count(self.looks, sign, FREE);
    }

    /// A try begins: one runner counts as enough until signs speak against it, or none in favour.
    pub fn assume(&mut self, now: Instant) {
        self.answers = self.answers.max(ENOUGH);
        // Those of before may have found it taken by others.
        self.looks = ENOUGH + FREE;
        self.fresh = Some(now);
        self.tried = Some(now);
        self.put_off();
    }

    /// The next try comes later, unless one is found to be enough before.
    pub fn put_off(&mut self) {
        self.pause = (self.pause * 2).min(PAUSES[1]);
    }
}

fn count(score: u32, sign: Sign, against: u32) -> u32 {
    match sign {
        Sign::For => (score + 1).min(MOST),
        Sign::Against => score.saturating_sub(against),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(now: Instant) -> Alone {
        let mut alone = Alone::default();
        for _ in 0..40 {
            alone.looked(Sign::For);
            alone.answered(Sign::For, now);
        }
        assert!(alone.is_proven(now));
        alone
    }

    #[test]
    fn a_few_requests_that_do_not_sleep_are_enough() {
        let now = Instant::now();
        let mut alone = Alone::default();
        for _ in 0..ENOUGH {
            assert!(!alone.is_enough(now));
            alone.answered(Sign::For, now);
        }
        assert!(alone.is_enough(now) && !alone.is_proven(now));
    }

    #[test]
    fn one_sign_against_it_is_chance_and_more_are_not() {
        let now = Instant::now();
        let mut alone = proven(now);
        alone.answered(Sign::Against, now);
        assert!(alone.is_enough(now));
        alone.answered(Sign::Against, now);
        assert!(!alone.is_enough(now));
        let mut alone = proven(now);
        for _ in 0..4 {
            alone.looked(Sign::Against);
            assert!(alone.is_enough(now));
        }
        alone.looked(Sign::Against);
        assert!(!alone.is_enough(now));
    }

    #[test]
    fn requests_that_do_not_sleep_do_not_hide_that_the_gil_is_free() {
        let now = Instant::now();
        let mut alone = proven(now);
        for _ in 0..5 {
            alone.looked(Sign::Against);
            for _ in 0..100 {
                alone.answered(Sign::For, now);
            }
        }
        assert!(!alone.is_enough(now));
    }

    #[test]
    fn a_gil_that_others_hold_says_nothing_for_long() {
        let now = Instant::now();
        let mut alone = proven(now);
        for _ in 0..100 {
            alone.looked(Sign::For);
        }
        assert!(alone.is_enough(now + FRESH - Duration::from_nanos(1)));
        assert!(!alone.is_enough(now + FRESH));
        // One that did not sleep is enough again.
        alone.answered(Sign::For, now + FRESH);
        assert!(alone.is_proven(now + FRESH));
    }

    #[test]
    fn a_try_that_fails_is_made_again_later_and_later() {
        let now = Instant::now();
        let mut alone = Alone::default();
        for wait in [25, 50, 100, 200, 400, 800, 800] {
            assert_eq!(alone.pause(), Duration::from_millis(wait));
            alone.assume(now);
            assert!(alone.is_enough(now) && !alone.is_proven(now));
            assert!(!alone.is_enough(now + FRESH));
            alone.answered(Sign::Against, now);
            assert!(!alone.is_enough(now));
        }
        // Stand-bys of before count for nothing.
        for _ in 0..PROVEN {
            alone.looked(Sign::For);
        }
        alone.assume(now);
        alone.answered(Sign::For, now);
        assert_eq!(alone.pause(), PAUSES[1]);
        for _ in 0..PROVEN {
            alone.looked(Sign::For);
            alone.answered(Sign::For, now);
        }
        assert_eq!(alone.pause(), PAUSES[0]);
    }
}
