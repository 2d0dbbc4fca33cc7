//! When an import that has failed is tried again, by all workers of a server together.
//!
//! A failed import leaves half of its modules behind, so that a second try in the same interpreter
//! says something else than the first, or serves what is half there. The next try is made by a
//! fresh worker: one of all, the *scout*, later and later, and only when somebody asks for the
//! application. When the import has succeeded in any worker the others follow.
//! `src/nginx/worker/retry.rs` keeps one [`Tries`] for each application in shared memory.
//! Runs on: event loop.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const FIRST_PAUSE: u64 = 1000;
const LAST_PAUSE: u64 = 60_000;

/// The tries of one application. In memory that all workers share, zeroed at first. Times are in
/// milliseconds, of one clock that all workers have.
#[derive(Debug, Default)]
pub struct Tries {
    /// When the next try is due.
    due: AtomicU64,
    /// Tries that were begun since the first failure.
    tries: AtomicU32,
    /// Imports that have succeeded.
    successes: AtomicU32,
}

/// What a worker does that is asked for an application whose import has failed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; the next try is due after this time.
    Wait(Duration),
    /// The next try is its own.
    Try,
    /// The import has succeeded in another worker since.
    Follow,
}

fn pause(tries: u32) -> u64 {
    FIRST_PAUSE.checked_shl(tries).unwrap_or(LAST_PAUSE).min(LAST_PAUSE)
}

impl Tries {
    /// An import has succeeded.
    pub fn succeeded(&self) {
        self.successes.fetch_add(1, Ordering::AcqRel);
        self.tries.store(0, Ordering::Release);
        self.due.store(0, Ordering::Release);
    }

    /// An import has failed; [`Self::ask`] wants to know what this returns.
    pub fn failed(&self, now: u64) -> u32 {
        self.due.fetch_max(now + pause(self.tries.load(Ordering::Acquire)), Ordering::AcqRel);
        self.successes.load(Ordering::Acquire)
    }

    /// Somebody asks for the application. `seen`: what [`Self::failed`] has returned here; `least`:
    /// how long it must be from one try to the next.
    pub fn ask(&self, seen: u32, now: u64, least: Duration) -> Verdict {
        if self.successes.load(Ordering::Acquire) != seen {
            return Verdict::Follow;
        }
        let due = self.due.load(Ordering::Acquire);
        let least = u64::try_from(least.as_millis()).unwrap_or(u64::MAX / 2);
        let next = now + pause(self.tries.load(Ordering::Acquire) + 1).max(least);
        if now < due {
            return Verdict::Wait(Duration::from_millis(due - now));
        }
        // Of several workers that are asked at once one makes the try.
        match self.due.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // Far beyond the longest pause it stays as it is.
                let more = |tries: u32| Some(tries.saturating_add(1));
                let _ = self.tries.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
                Verdict::Try
            }
            Err(due) => Verdict::Wait(Duration::from_millis(due.saturating_sub(now))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn wait(msec: u64) -> Verdict {
        Verdict::Wait(Duration::from_millis(msec))
    }

    #[test]
    fn tries_come_later_and_later_and_one_worker_makes_each() {
        let tries = Tries::default();
        let mut now = 5_000_000;
        let seen = tries.failed(now);
        // All workers of a start fail; that counts as one try.
        assert_eq!(tries.failed(now), seen);
        for want in [1, 2, 4, 8, 16, 32, 60, 60, 60].map(|seconds| seconds * 1000) {
            assert_eq!(tries.ask(seen, now, NONE), wait(want), "after {want}");
            assert_eq!(tries.ask(seen, now + want - 1, NONE), wait(1));
            now += want;
            assert_eq!(tries.ask(seen, now, NONE), Verdict::Try);
            assert!(matches!(tries.ask(seen, now, NONE), Verdict::Wait(_)), "it is another's");
            tries.failed(now);
        }
    }

    #[test]
    fn the_pause_begins_when_the_import_ends() {
        let tries = Tries::default();
        let seen = tries.failed(1000);
        assert_eq!(tries.ask(seen, 2000, NONE), Verdict::Try);
        assert_eq!(tries.ask(seen, 3000, NONE), wait(1000), "in case nothing is heard of it");
        tries.failed(50_000);
        assert_eq!(tries.ask(seen, 50_000, NONE), wait(2000));
    }

    #[test]
    fn the_others_follow_the_first_success_and_the_next_failure_is_a_first_one() {
        let tries = Tries::default();
        let seen = tries.failed(1000);
        assert_eq!(tries.ask(seen, 2000, NONE), Verdict::Try);
        tries.succeeded();
        assert_eq!(tries.ask(seen, 2001, NONE), Verdict::Follow);
        let seen = tries.failed(3000);
        assert_eq!(tries.ask(seen, 3000, NONE), wait(1000));
    }

    #[test]
    fn a_least_time_is_kept_between_tries() {
        let tries = Tries::default();
        let seen = tries.failed(1000);
        let minute = Duration::from_secs(60);
        assert_eq!(tries.ask(seen, 2000, minute), Verdict::Try);
        tries.failed(2500);
        assert_eq!(tries.ask(seen, 2500, minute), wait(59_500));
    }
}
