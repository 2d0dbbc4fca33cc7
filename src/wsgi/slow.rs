//! `wsgi_slow_request`: when the stack of a request that runs for long is logged.
//!
//! Runs on: event loop.

use std::time::Duration;

/// What the directive says.
#[derive(Debug, Clone, Copy)]
pub struct SlowRequest {
    /// After so long in a thread the stack of a request is logged. Zero: off.
    pub time: Duration,
    /// And again each time so much more has gone by.
    pub repeat: Option<Duration>,
    /// Frames that are logged at most.
    pub depth: u32,
}

impl SlowRequest {
    /// How long the request is to have run when the next stack is due, after one that was due at
    /// `due` and has come when it had run for `ran`. What has been missed is not made up for.
    pub fn next(&self, due: Duration, ran: Duration) -> Option<Duration> {
        let repeat = self.repeat?;
        Some(if due + repeat > ran { due + repeat } else { ran + repeat })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_come_at_even_times_unless_some_were_missed() {
        let [one, three, ten] = [1, 3, 10].map(Duration::from_secs);
        let mut slow = SlowRequest { time: one, repeat: Some(three), depth: 1 };
        assert_eq!(slow.next(one, one + one / 9), Some(one + three));
        assert_eq!(slow.next(one, one + three), Some(one + three + three));
        assert_eq!(slow.next(one, ten), Some(ten + three));
        slow.repeat = None;
        assert_eq!(slow.next(one, ten), None);
    }
}
