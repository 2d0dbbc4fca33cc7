//! One response on its way from a pool thread to the event loop: bounded, and cancellable.
//!
//! The thread holds the [`ResponseSender`], the event loop the [`Exchange`]. Chunks count against
//! the window (`wsgi_buffer_size`) until nginx has passed them on, so an application runs at most
//! that far ahead of its client.
//! Runs on: either; each function says which.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::body::Segment;
use super::error::{Cancelled, Failure};
use super::fork;
use super::head::ResponseHead;
use super::interrupt::Interruption;
use super::mailbox::{ExchangeId, Mail, Mailbox};

/// How an exchange ended: whole, or not.
pub type End = Result<(), Failure>;

/// Whether the application may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Free,
    /// Call [`ResponseSender::wait_for_room`], without the GIL, before the next chunk.
    Full,
}

/// Where the application is, as far as `wsgi_read_timeout` is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No thread has taken the request yet.
    Queued,
    /// The application has been silent since then.
    Silent(Instant),
    /// It waits for the client.
    Blocked,
    Ended,
}

/// The thread that has taken a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub at: Instant,
    /// The runner's number in its pool, from 1 on.
    pub runner: usize,
}

/// What the event loop takes in one go.
#[derive(Debug, Default)]
pub struct Batch {
    pub head: Option<ResponseHead>,
    pub chunks: Vec<Segment>,
    pub end: Option<End>,
}

/// Chunks that nginx has passed on, or that are on their way; `bytes` are those in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    pub chunks: usize,
    pub bytes: usize,
}

impl Passed {
    pub fn plus(self, other: Self) -> Self {
        Self { chunks: self.chunks + other.chunks, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            chunks: self.chunks.saturating_sub(other.chunks),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Chunks that count as consumed before nginx has passed them on, the oldest first. Event loop.
#[derive(Debug, Default)]
pub struct HeldBack(Passed);

impl HeldBack {
    /// nginx has passed on `passed`; returns what of it is still to be consumed.
    pub fn settle(&mut self, passed: Passed) -> Passed {
        let rest = passed.minus(self.0);
        self.0 = self.0.minus(passed);
        rest
    }

    /// All of `held` counts as consumed; returns what of it is new.
    pub fn raise_to(&mut self, held: Passed) -> Passed {
        let new = held.minus(self.0);
        self.0 = held;
        new
    }
}

/// Chunks that may be on their way at a time, however small: nginx walks their chain.
const MAX_CHUNKS: usize = 256;

struct State {
    progress: Progress,
    taken: Option<Taken>,
    /// What is sent is dropped.
    discarding: bool,
    batch: Batch,
    /// Sent and not yet consumed.
    ahead: Passed,
    /// [`Mail::Response`] is on its way.
    announced: bool,
    /// The thread is asleep in [`ResponseSender::wait_for_room`].
    asleep: bool,
}

/// The event loop's side.
pub struct Exchange {
    id: ExchangeId,
    window: usize,
    mailbox: Arc<Mailbox>,
    cancelled: AtomicBool,
    interruption: Interruption,
    state: Mutex<State>,
    room: Condvar,
}

impl Exchange {
    /// `window`: bytes the application may run ahead. Event loop.
    pub fn open(
        id: ExchangeId,
        window: usize,
        mailbox: Arc<Mailbox>,
    ) -> (Arc<Self>, ResponseSender) {
        let state = State {
            progress: Progress::Queued,
            taken: None,
            discarding: false,
            batch: Batch::default(),
            ahead: Passed::default(),
            announced: false,
            asleep: false,
        };
        let exchange = Arc::new(Self {
            id,
            window,
            mailbox,
            cancelled: AtomicBool::new(false),
            interruption: Interruption::default(),
            state: Mutex::new(state),
            room: Condvar::new(),
        });
        let sender = ResponseSender { exchange: Arc::clone(&exchange) };
        (exchange, sender)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> ExchangeId {
        self.id
    }

    /// Everything sent since the last call. Event loop.
    pub fn take(&self) -> Batch {
        let mut state = self.lock();
        state.announced = false;
        mem::take(&mut state.batch)
    }

    /// nginx has passed on chunks. Event loop.
    pub fn consumed(&self, passed: Passed) {
        let mut state = self.lock();
        state.ahead = state.ahead.minus(passed);
        if self.is_half_free(state.ahead) {
            self.wake(&mut state);
        }
    }

    fn is_half_free(&self, ahead: Passed) -> bool {
        ahead.bytes <= self.window / 2 && ahead.chunks <= MAX_CHUNKS / 2
    }

    /// Ends the sleep of the thread, if it is asleep: waking nobody is a system call too.
    fn wake(&self, state: &mut State) {
        if mem::take(&mut state.asleep) {
            self.room.notify_one();
        }
    }

    /// Nobody reads any more: the next send fails, what is queued is dropped. Returns which thread
    /// had taken the request, if any. Event loop.
    pub fn cancel(&self) -> Option<Taken> {
        self.cancelled.store(true, Ordering::Release);
        let mut state = self.lock();
        state.batch = Batch::default();
        self.wake(&mut state);
        state.taken
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Event loop.
    pub fn progress(&self) -> Progress {
        self.lock().progress
    }

    /// Which thread has taken the request. Event loop.
    pub fn taken(&self) -> Option<Taken> {
        self.lock().taken
    }

    /// Nobody reads any more, but the application is to run to its end: what it sends is dropped,
    /// and it never waits. Event loop.
    pub fn discard(&self) {
        let mut state = self.lock();
        state.discarding = true;
        state.batch.chunks = Vec::new();
        self.wake(&mut state);
    }

    pub fn interruption(&self) -> &Interruption {
        &self.interruption
    }

    fn finish(&self, end: End) {
        if fork::is_child() {
            return;
        }
        let mut state = self.lock();
        if state.progress == Progress::Ended {
            return;
        }
        state.progress = Progress::Ended;
        self.wake(&mut state);
        if !self.is_cancelled() {
            state.batch.end = Some(end);
            self.announce(&mut state);
        }
    }

    fn announce(&self, state: &mut State) {
        if !state.announced {
            state.announced = true;
            match state.progress {
                Progress::Ended => self.mailbox.post_soon(Mail::Response(self.id)),
                _ => self.mailbox.post(Mail::Response(self.id)),
            }
        }
    }
}

/// The pool thread's side. Dropped without [`ResponseSender::finish`], the exchange ends as
/// [`Failure::Lost`].
pub struct ResponseSender {
    exchange: Arc<Exchange>,
}

/// Ends an exchange also while another thread of the application is busy with its sender.
pub struct Ender(Arc<Exchange>);

impl Ender {
    /// The response is complete, or will never be. Only the first call counts; what is sent later
    /// is refused.
    pub fn finish(&self, end: End) {
        self.0.finish(end);
    }

    pub fn interruption(&self) -> &Interruption {
        self.0.interruption()
    }
}

impl ResponseSender {
    pub fn id(&self) -> ExchangeId {
        self.exchange.id
    }

    /// A thread has taken the request: the application's time starts.
    pub fn begin(&self, taken: Taken) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            return Err(Cancelled);
        }
        let mut state = self.exchange.lock();
        state.progress = Progress::Silent(taken.at);
        state.taken = Some(taken);
        Ok(())
    }

    /// Also true in a forked child, whose event loop is not there to read anything.
    pub fn is_cancelled(&self) -> bool {
        fork::is_child() || self.exchange.is_cancelled()
    }

    /// Bytes an application may run ahead; longer chunks are better sent in pieces of this size.
    pub fn window(&self) -> usize {
        self.exchange.window
    }

    pub fn ender(&self) -> Ender {
        Ender(Arc::clone(&self.exchange))
    }

    /// Queues the head. The event loop is not told: a chunk or the end follows at once.
    pub fn head(&mut self, head: ResponseHead) {
        let mut state = self.exchange.lock();
        if state.progress != Progress::Ended {
            state.batch.head = Some(head);
        }
    }

    /// Queues a chunk; `more` says that another one or the end follows without the application
    /// being asked, so that one wake-up serves both.
    pub fn send(&mut self, chunk: Segment, more: bool) -> Result<Room, Cancelled> {
        if self.is_cancelled() {
            return Err(Cancelled);
        }
        let mut state = self.exchange.lock();
        if state.progress == Progress::Ended {
            return Err(Cancelled);
        }
        state.progress = Progress::Silent(Instant::now());
        if state.discarding {
            return Ok(Room::Free);
        }
        state.ahead = state.ahead.plus(Passed { chunks: 1, bytes: chunk.held() });
        state.batch.chunks.push(chunk);
        let full = state.ahead.bytes >= self.exchange.window || state.ahead.chunks >= MAX_CHUNKS;
        let room = if full { Room::Full } else { Room::Free };
        if !more {
            self.exchange.announce(&mut state);
        }
        Ok(room)
    }

    /// Blocks until the client has taken half of the window. Never call it with the GIL.
    pub fn wait_for_room(&self) -> Result<(), Cancelled> {
        let mut state = self.exchange.lock();
        loop {
            if self.is_cancelled() || state.progress == Progress::Ended {
                return Err(Cancelled);
            }
            if state.discarding || self.exchange.is_half_free(state.ahead) {
                state.progress = Progress::Silent(Instant::now());
                return Ok(());
            }
            state.progress = Progress::Blocked;
            state.asleep = true;
            self.exchange.announce(&mut state);
            state = self.exchange.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The response is complete, or will never be. Only the first call counts.
    pub fn finish(&mut self, end: End) {
        self.exchange.finish(end);
    }
}

impl Drop for ResponseSender {
    fn drop(&mut self) {
        self.finish(Err(Failure::Lost));
    }
}

/// How long until an application that is in `progress` has been silent for `timeout`; `None` when
/// that cannot be told before it moves.
pub fn time_left(progress: Progress, timeout: Duration, now: Instant) -> Option<Duration> {
    match progress {
        Progress::Silent(since) => {
            Some(timeout.saturating_sub(now.saturating_duration_since(since)))
        }
        Progress::Queued | Progress::Blocked | Progress::Ended => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::thread;

    fn chunk(bytes: &'static [u8]) -> Segment {
        Segment::Memory(Bytes::from_static(bytes))
    }

    fn exchange(window: usize) -> (Arc<Mailbox>, Arc<Exchange>, ResponseSender) {
        let mailbox = Arc::new(Mailbox::new(|| ()));
        let (exchange, sender) = Exchange::open(7, window, Arc::clone(&mailbox));
        (mailbox, exchange, sender)
    }

    fn taken() -> Taken {
        Taken { at: Instant::now(), runner: 1 }
    }

    #[test]
    fn head_chunks_and_end_come_in_one_batch() {
        let (mailbox, exchange, mut sender) = exchange(100);
        sender.begin(taken()).unwrap();
        sender.head(ResponseHead::new(b"200 OK").unwrap());
        assert_eq!(sender.send(chunk(b"ab"), true), Ok(Room::Free));
        assert!(mailbox.collect(Vec::new()).is_empty());
        sender.finish(Ok(()));
        drop(sender);
        assert_eq!(mailbox.collect(Vec::new()), [Mail::Response(7)]);
        let batch = exchange.take();
        assert_eq!(batch.head.unwrap().code(), 200);
        assert!(matches!(&batch.chunks[..], [Segment::Memory(bytes)] if bytes == "ab"));
        assert_eq!(batch.end, Some(Ok(())));
        assert_eq!(exchange.progress(), Progress::Ended);
    }

    #[test]
    fn a_lost_sender_ends_the_exchange() {
        let (_mailbox, exchange, sender) = exchange(100);
        drop(sender);
        assert_eq!(exchange.take().end, Some(Err(Failure::Lost)));
    }

    #[test]
    fn the_window_blocks_until_half_of_it_is_free() {
        let (_mailbox, exchange, mut sender) = exchange(4);
        assert_eq!(sender.send(chunk(b"abc"), false), Ok(Room::Free));
        assert_eq!(sender.send(chunk(b"de"), true), Ok(Room::Full));
        let waiting = thread::spawn(move || {
            sender.wait_for_room().unwrap();
            sender
        });
        while exchange.progress() != Progress::Blocked {
            thread::yield_now();
        }
        exchange.consumed(Passed { chunks: 0, bytes: 1 });
        exchange.consumed(Passed { chunks: 1, bytes: 2 });
        let mut sender = waiting.join().unwrap();
        assert!(matches!(exchange.progress(), Progress::Silent(_)));
        assert_eq!(sender.send(chunk(b"f"), false), Ok(Room::Free));
    }

    #[test]
    fn many_small_chunks_fill_the_window_too() {
        let (_mailbox, exchange, mut sender) = exchange(1 << 20);
        for _ in 1..MAX_CHUNKS {
            assert_eq!(sender.send(chunk(b"x"), false), Ok(Room::Free));
        }
        assert_eq!(sender.send(chunk(b"x"), false), Ok(Room::Full));
        exchange.consumed(Passed { chunks: MAX_CHUNKS / 2, bytes: MAX_CHUNKS / 2 });
        assert_eq!(sender.wait_for_room(), Ok(()));
    }

    #[test]
    fn what_is_held_back_is_consumed_once() {
        let of = |chunks, bytes| Passed { chunks, bytes };
        let mut held = HeldBack::default();
        assert_eq!(held.settle(of(1, 10)), of(1, 10));
        assert_eq!(held.raise_to(of(2, 30)), of(2, 30));
        assert_eq!(held.raise_to(of(3, 35)), of(1, 5));
        assert_eq!(held.settle(of(2, 30)), of(0, 0));
        assert_eq!(held.settle(of(2, 9)), of(1, 4));
        assert_eq!(held.settle(of(1, 1)), of(1, 1));
    }

    #[test]
    fn cancelling_wakes_a_blocked_sender_and_drops_what_is_queued() {
        let (mailbox, exchange, mut sender) = exchange(1);
        assert_eq!(sender.send(chunk(b"abc"), false), Ok(Room::Full));
        let waiting = thread::spawn(move || (sender.wait_for_room(), sender));
        exchange.cancel();
        let (result, mut sender) = waiting.join().unwrap();
        assert_eq!(result, Err(Cancelled));
        assert_eq!(sender.send(chunk(b""), false), Err(Cancelled));
        assert_eq!(sender.begin(taken()), Err(Cancelled));
        mailbox.collect(Vec::new());
        sender.finish(Ok(()));
        assert!(mailbox.collect(Vec::new()).is_empty());
        assert!(exchange.take().chunks.is_empty());
    }

    #[test]
    fn nothing_follows_the_end() {
        let (_mailbox, exchange, mut sender) = exchange(1);
        assert_eq!(sender.send(chunk(b"abc"), false), Ok(Room::Full));
        let ender = sender.ender();
        let waiting = thread::spawn(move || (sender.wait_for_room(), sender));
        ender.finish(Err(Failure::Application));
        let (result, mut sender) = waiting.join().unwrap();
        assert_eq!(result, Err(Cancelled));
        sender.head(ResponseHead::new(b"200 OK").unwrap());
        assert_eq!(sender.send(chunk(b"late"), false), Err(Cancelled));
        sender.finish(Ok(()));
        assert_eq!(exchange.progress(), Progress::Ended);
        let batch = exchange.take();
        assert!(batch.head.is_none() && batch.chunks.len() == 1);
        assert_eq!(batch.end, Some(Err(Failure::Application)));
    }

    #[test]
    fn only_silence_of_a_running_application_counts() {
        let now = Instant::now();
        let limit = Duration::from_secs(5);
        let later = now + Duration::from_secs(3);
        assert_eq!(time_left(Progress::Silent(now), limit, later), Some(Duration::from_secs(2)));
        assert_eq!(time_left(Progress::Silent(now), limit, now + limit * 2), Some(Duration::ZERO));
        assert_eq!(time_left(Progress::Queued, limit, later), None);
        assert_eq!(time_left(Progress::Blocked, limit, later), None);
    }
}
