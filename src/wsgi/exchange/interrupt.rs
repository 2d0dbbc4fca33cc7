//! Which thread an exception may be raised in for one exchange, and whether that was done.
//!
//! Part of an [`Exchange`](super::Exchange). The runner opens the interruption while it is in the
//! application and closes the interruption before anything else, `close()` of the result included;
//! the watchdog raises an exception while the interruption is open. All three happen attached to
//! the interpreter, whose lock makes each of them a single step: an exception meant for one request
//! never hits what its thread does next.
//! Runs on: pool thread (open, close), watchdog (thread, raise).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One exchange's.
#[derive(Debug, Default)]
pub struct Interruption {
    /// The interpreter's name of the thread; 0 while it must not be interrupted.
    thread: AtomicU64,
    raised: AtomicBool,
}

impl Interruption {
    /// The thread enters the application.
    pub fn open(&self, thread: u64) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// The thread has left the application; true if it may have an exception that has not come up:
    /// the caller takes it away.
    pub fn close(&self) -> bool {
        self.thread.store(0, Ordering::Relaxed);
        self.raised.load(Ordering::Relaxed)
    }

    /// The thread that is in the application.
    pub fn thread(&self) -> Option<u64> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }

    /// Lets `in_thread` raise an exception in the thread that is in the application, if one still
    /// is.
    pub fn raise(&self, in_thread: impl FnOnce(u64)) -> bool {
        let thread = self.thread();
        if let Some(thread) = thread {
            self.raised.store(true, Ordering::Relaxed);
            in_thread(thread);
        }
        thread.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_in_the_application_is_interrupted() {
        let interruption = Interruption::default();
        assert!(!interruption.raise(|_| unreachable!("nobody is there")));
        interruption.open(7);
        assert_eq!(interruption.thread(), Some(7));
        let mut raised = None;
        assert!(interruption.raise(|thread| raised = Some(thread)));
        assert_eq!(raised, Some(7));
        assert!(interruption.close());
        assert!(!interruption.raise(|_| unreachable!("it has left")));
    }

    #[test]
    fn a_thread_that_was_not_interrupted_has_nothing_to_take_away() {
        let interruption = Interruption::default();
        interruption.open(7);
        assert!(!interruption.close());
    }
}
