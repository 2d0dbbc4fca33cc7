//! What a pool of one worker shows the other workers: its room, and since when it has been idle.
//!
//! It lies in shared memory. The pool's queue writes to it, under its lock, the event loops of
//! other workers read. Room is a hint and no reservation: two may read it at once.
//! Runs on: either.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One pool's board. All zero: no room, and not idle. Alone in its cache line, since it is written
/// to for every request.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Board {
    room: AtomicU32,
    /// Nanoseconds from a [`Clock`]'s start; 0: it is at work.
    idle: AtomicU64,
}

impl Board {
    /// Requests that could be taken at once.
    pub fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed) as usize
    }

    /// Whether no thread of the pool has had anything to do for so long.
    pub fn is_idle(&self, clock: Clock, now: Instant, time: Duration) -> bool {
        let since = self.idle.load(Ordering::Relaxed);
        since != 0 && since.saturating_add(nanos(time)) <= clock.read(now)
    }

    /// The worker has begun, or does not take requests of others any more.
    pub fn clear(&self) {
        self.room.store(0, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
    }
}

/// A clock that all workers of a configuration read alike: their master has started it.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Never 0.
    fn read(self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.0)).max(1)
    }
}

/// More than 584 years are as good as that.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The queue's end of a board: writes only what has changed.
#[derive(Debug)]
pub struct Writer {
    board: &'static Board,
    clock: Clock,
    room: usize,
    is_idle: bool,
}

impl Writer {
    pub fn new(board: &'static Board, clock: Clock) -> Self {
        board.clear();
        Self { board, clock, room: 0, is_idle: false }
    }

    pub fn show_room(&mut self, room: usize) {
        if self.room != room {
            self.room = room;
            let room = u32::try_from(room).unwrap_or(u32::MAX);
            self.board.room.store(room, Ordering::Relaxed);
        }
    }

    /// `since`: when it has become idle; `None`: it is at work.
    pub fn show_idle(&mut self, since: Option<Instant>) {
        if self.is_idle != since.is_some() {
            self.is_idle = since.is_some();
            let since = since.map_or(0, |since| self.clock.read(since));
            self.board.idle.store(since, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_see_room_and_how_long_a_pool_has_been_idle() {
        let board: &'static Board = Box::leak(Box::default());
        let clock = Clock::start();
        let mut writer = Writer::new(board, clock);
        let now = Instant::now();
        let is_idle = |ms| board.is_idle(clock, now + Duration::from_millis(ms), MOMENT);
        const MOMENT: Duration = Duration::from_millis(5);
        assert_eq!((board.room(), is_idle(9)), (0, false));
        writer.show_room(4);
        writer.show_idle(Some(now));
        assert_eq!((board.room(), is_idle(4), is_idle(5)), (4, false, true));
        // It stays idle since then.
        writer.show_idle(Some(now + MOMENT));
        assert!(is_idle(5));
        writer.show_idle(None);
        writer.show_room(0);
        assert_eq!((board.room(), is_idle(99)), (0, false));
        writer.show_room(1);
        board.clear();
        assert_eq!(board.room(), 0);
    }
}
