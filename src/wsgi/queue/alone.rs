//! Whether one runner alone answers as much as several would.
//!
//! It does if it hardly ever leaves the GIL to others: several only take turns with it then, and each
//! request that loses the GIL halfway is late. Two signs speak against it, and it takes more than one
//! of them, for each of them happens by chance too:
//! * a request with no other beside it made its thread sleep: it blocks;
//! * a stand-by found the GIL free when it came for it: the application computes without the GIL.
//!
//! Both can be seen only while one runner is at work. So if several are, it is tried with one again
//! and again, after longer and longer pauses as long as that fails.

use std::time::Duration;

/// A sign in favour counts 1. So many are enough.
const ENOUGH: u32 = 4;
/// So many stand-bys that had to wait prove it.
const PROVEN: u32 = 12;
/// More do not count.
const MOST: u32 = 16;
/// What a request that slept counts: two soon after each other are too many.
const SLEPT: u32 = 8;
/// What a stand-by that found the GIL free counts: one in four is too many. Those that come while
/// the runner waits for a processor find it free more often than it is.
const FREE: u32 = 3;

/// Between two tries, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(800)];

pub struct Alone {
    /// Requests that did not sleep.
    answers: u32,
    /// Stand-bys that had to wait for the GIL.
    looks: u32,
    pause: Duration,
}

impl Default for Alone {
    /// Nothing is known of the requests yet, and nothing against the GIL.
    fn default() -> Self {
        Self { answers: 0, looks: ENOUGH + FREE, pause: PAUSES[0] }
    }
}

impl Alone {
    pub fn is_enough(&self) -> bool {
        self.answers >= ENOUGH && self.looks >= ENOUGH
    }

    /// Whether that has stood the test for some time. Until then one looks more often.
    pub fn is_proven(&self) -> bool {
        self.answers >= ENOUGH && self.looks >= PROVEN
    }

    /// For so long it is not tried again.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// A request has ended that no other was beside.
    pub fn answered(&mut self, slept: bool) {
        let was = self.is_enough();
        self.answers = count(self.answers, !slept, SLEPT);
        self.settle(was);
    }

    /// A stand-by has come for the GIL while one runner was at work.
    pub fn looked(&mut self, free: bool) {
        let was = self.is_enough();
        self.looks = count(self.looks, !free, FREE);
        self.settle(was);
    }

    /// It is tried with one: so it is until signs speak against it.
    pub fn assume(&mut self) {
        self.answers = self.answers.max(ENOUGH);
        self.looks = self.looks.max(ENOUGH + FREE);
    }

    /// There is no need to try.
    pub fn refuse(&mut self) {
        self.pause = (self.pause * 2).min(PAUSES[1]);
    }

    fn settle(&mut self, was: bool) {
        if self.is_proven() {
            self.pause = PAUSES[0];
        } else if was && !self.is_enough() {
            self.refuse();
        }
    }
}

fn count(score: u32, favours: bool, against: u32) -> u32 {
    if favours { (score + 1).min(MOST) } else { score.saturating_sub(against) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven() -> Alone {
        let mut alone = Alone::default();
        for _ in 0..40 {
            alone.answered(false);
            alone.looked(false);
        }
        assert!(alone.is_proven());
        alone
    }

    #[test]
    fn a_few_requests_that_do_not_sleep_are_enough() {
        let mut alone = Alone::default();
        for _ in 0..ENOUGH {
            assert!(!alone.is_enough());
            alone.answered(false);
        }
        assert!(alone.is_enough() && !alone.is_proven());
    }

    #[test]
    fn one_sign_against_it_is_chance_and_more_are_not() {
        let mut alone = proven();
        alone.answered(true);
        assert!(alone.is_enough());
        alone.answered(true);
        assert!(!alone.is_enough());
        let mut alone = proven();
        for _ in 0..4 {
            alone.looked(true);
            assert!(alone.is_enough());
        }
        alone.looked(true);
        assert!(!alone.is_enough());
    }

    #[test]
    fn requests_that_do_not_sleep_do_not_hide_that_the_gil_is_free() {
        let mut alone = proven();
        for _ in 0..5 {
            alone.looked(true);
            for _ in 0..100 {
                alone.answered(false);
            }
        }
        assert!(!alone.is_enough());
    }

    #[test]
    fn a_try_that_fails_is_made_again_later_and_later() {
        let mut alone = Alone::default();
        for wait in [25, 50, 100, 200, 400, 800, 800] {
            assert_eq!(alone.pause(), Duration::from_millis(wait));
            alone.assume();
            assert!(alone.is_enough() && !alone.is_proven());
            alone.answered(true);
            assert!(!alone.is_enough());
        }
        alone.assume();
        for _ in 0..PROVEN {
            alone.answered(false);
            alone.looked(false);
        }
        assert_eq!(alone.pause(), PAUSES[0]);
    }
}
