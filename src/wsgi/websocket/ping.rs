//! When a client is to be asked whether it is still there, as data: the event loop has the timer.
//!
//! Whatever the client sends is a sign of life, not only the answer to a ping: no answer can come
//! in the middle of a long frame.
//! Runs on: event loop.

use std::time::{Duration, Instant};

/// `wsgi_websocket_ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// A ping is sent when nothing has come for so long.
    pub every: Duration,
    /// Without an answer for so long the client counts as gone.
    pub timeout: Duration,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Ping,
    /// No answer has come.
    Lost,
}

/// The pings of one connection.
#[derive(Debug)]
pub struct Pings {
    interval: Option<Interval>,
    heard: Instant,
    asked: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// The ping is still to be sent: what is in front of it may take a while.
    Soon,
    At(Instant),
}

impl Pings {
    /// Without an interval no ping is ever due.
    pub fn new(interval: Option<Interval>, now: Instant) -> Self {
        Self { interval, heard: now, asked: Asked::No }
    }

    /// The client has sent something.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = Asked::No;
    }

    /// The ping has been sent.
    pub fn sent(&mut self, now: Instant) {
        if self.asked == Asked::Soon {
            self.asked = Asked::At(now);
        }
    }

    /// When [`Self::tick`] has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        match self.asked {
            Asked::No => Some(self.heard + interval.every),
            Asked::Soon => None,
            Asked::At(at) => Some(at + interval.timeout),
        }
    }

    pub fn tick(&mut self, now: Instant) -> Due {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Due::Nothing;
        }
        if self.asked != Asked::No {
            return Due::Lost;
        }
        self.asked = Asked::Soon;
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Interval =
        Interval { every: Duration::from_secs(30), timeout: Duration::from_secs(10) };

    #[test]
    fn a_silent_client_is_asked_and_then_lost() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pings = Pings::new(Some(INTERVAL), start);
        assert_eq!(pings.deadline(), Some(after(30)));
        assert_eq!(pings.tick(after(29)), Due::Nothing);
        assert_eq!(pings.tick(after(31)), Due::Ping);
        assert_eq!(pings.deadline(), None);
        assert_eq!(pings.tick(after(99)), Due::Nothing);
        pings.sent(after(100));
        pings.sent(after(101));
        assert_eq!(pings.deadline(), Some(after(110)));
        assert_eq!(pings.tick(after(109)), Due::Nothing);
        assert_eq!(pings.tick(after(110)), Due::Lost);
    }

    #[test]
    fn whatever_comes_is_a_sign_of_life() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pings = Pings::new(Some(INTERVAL), start);
        pings.heard(after(20));
        assert_eq!(pings.tick(after(30)), Due::Nothing);
        assert_eq!(pings.tick(after(50)), Due::Ping);
        pings.heard(after(59));
        assert_eq!(pings.deadline(), Some(after(89)));
        assert_eq!(pings.tick(after(60)), Due::Nothing);
    }

    #[test]
    fn without_an_interval_nothing_is_ever_due() {
        let start = Instant::now();
        let mut pings = Pings::new(None, start);
        assert_eq!(pings.deadline(), None);
        assert_eq!(pings.tick(start + Duration::from_secs(1 << 20)), Due::Nothing);
    }
}
