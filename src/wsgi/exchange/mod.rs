//! One response on its way from a pool thread to the event loop: bounded, and cancellable.
//!
//! The thread holds the [`ResponseSender`], the event loop the [`Exchange`]. Chunks count against
//! the window (`wsgi_buffer_size`) until nginx has passed them on. An application runs at most
//! that far ahead of its client in memory, and as far as [`spool`] allows in a file. While
//! nginx is busy with a part of the file, what comes after it grows together here into one piece.
//! Runs on: either; each function says which.

mod blocks;
mod handover;
mod in_flight;
mod interrupt;
mod open;
mod owed;
pub mod spool;
mod state;

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Cancelled, Failure};
use super::fork;
use super::head::ResponseHead;
use super::lock::lock;
use super::mailbox::{ExchangeId, Level, LogRecord, Mail, Mailbox};
use super::segment::Segment;

pub use blocks::Blocks;
pub use in_flight::{HeldBack, InFlight};
use interrupt::Interruption;
pub use owed::Owed;
use spool::Spool;
use state::State;
pub use state::{Account, Batch, End, Progress, Taken};

/// When another chunk, or the end, comes after a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Without the application being asked: one wake-up of the event loop serves both.
    AtOnce,
    /// When the application likes.
    Later,
}

/// Whether the application may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Free,
    /// Call [`ResponseSender::make_room`], without the GIL, before the next chunk.
    Full,
}

/// Where a chunk goes for which there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// There is room now: [`ResponseSender::send`] it.
    Memory,
    /// It has been written to the temporary file; the next one needs room too.
    File,
}

/// The event loop's side.
pub struct Exchange {
    id: ExchangeId,
    mailbox: Arc<Mailbox>,
    cancelled: AtomicBool,
    interruption: Interruption,
    state: Mutex<State>,
    room: Condvar,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn id(&self) -> ExchangeId {
        self.id
    }

    /// Everything sent since the last call. Event loop.
    pub fn take(&self) -> Batch {
        self.lock().take()
    }

    /// As [`Self::take`], while nginx is busy with a part of the temporary file: nothing is taken
    /// unless the application has ended or is blocked. Look again when nginx is done with the part.
    /// Event loop.
    pub fn take_urgent(&self) -> Batch {
        let mut state = self.lock();
        if state.is_urgent() {
            return state.take();
        }
        state.announced = false;
        state.postponed = true;
        Batch::default()
    }

    /// nginx has passed on chunks. Event loop.
    pub fn consumed(&self, passed: InFlight) {
        let mut state = self.lock();
        state.ahead = state.ahead.minus(passed);
        if state.is_half_free() {
            self.wake(&mut state);
        }
        let tells = state.pass(passed);
        drop(state);
        if tells {
            self.tell_peer();
        }
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
        // Closed without the lock: to free a large file takes a while.
        let _closed;
        let mut state = self.lock();
        _closed = (mem::take(&mut state.batch), state.spool.take());
        state.tail = Vec::new();
        self.wake(&mut state);
        state.take_back();
        let (tells, taken) = (state.owe(Owed::Cancel), state.taken);
        drop(state);
        if tells {
            self.tell_peer();
        }
        taken
    }

    /// Takes the request back: no thread takes it from now on, here or in another worker. False,
    /// and the request goes on, if a thread has the request already. Event loop.
    pub fn withdraw(&self) -> bool {
        let mut state = self.lock();
        let waits = state.take_back();
        if waits {
            self.cancelled.store(true, Ordering::Release);
        }
        waits
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

    /// Processor time that the request's thread has used, if it is measured and the application has
    /// ended. Event loop.
    pub fn cpu(&self) -> Option<Duration> {
        self.lock().cpu
    }

    /// Nobody reads any more, but the application is to run to its end: what it sends is dropped,
    /// and its thread never waits. Event loop.
    pub fn discard(&self) {
        let _closed;
        let mut state = self.lock();
        state.discarding = true;
        state.tail = Vec::new();
        _closed = (mem::take(&mut state.batch.chunks), state.spool.take());
        self.wake(&mut state);
        let tells = state.owe(Owed::Discard);
        drop(state);
        if tells {
            self.tell_peer();
        }
    }

    pub fn interruption(&self) -> &Interruption {
        &self.interruption
    }

    /// The response has ended, and the application but for its `close()`. An application that has
    /// sent all of its Content-Length may go on. Event loop.
    pub fn has_returned(&self) -> bool {
        self.progress() == Progress::Ended && self.interruption.thread().is_none()
    }

    fn finish(&self, end: End) {
        if fork::is_child() {
            return;
        }
        let _closed;
        let mut state = self.lock();
        if state.progress == Progress::Ended {
            return;
        }
        state.progress = Progress::Ended;
        _closed = state.spool.take();
        self.wake(&mut state);
        if !self.is_cancelled() {
            state.batch.end = Some(end);
            self.announce(state);
        }
    }

    /// Tells the event loop, unless it knows. Without the lock, which the event loop would want at
    /// once: a woken thread often takes the processor of the thread that wakes it. A look that the
    /// event loop is about to take is soon enough for any chunk: it does not wait for what the
    /// application does meanwhile (PEP 3333, "Buffering and Streaming").
    fn announce(&self, mut state: MutexGuard<'_, State>) {
        if !state.announced && (!state.postponed || state.is_urgent()) {
            state.announced = true;
            let progress = state.progress;
            drop(state);
            match progress {
                Progress::Blocked => self.mailbox.post(Mail::Response(self.id)),
                _ => self.mailbox.post_soon(Mail::Response(self.id)),
            }
        }
    }
}

/// The pool thread's side. Dropped without [`ResponseSender::finish`], the exchange ends as
/// [`Failure::Lost`].
pub struct ResponseSender {
    exchange: Arc<Exchange>,
    piece: usize,
    blocks: Blocks,
    /// The temporary file could not be written: nobody gets what would follow.
    failed: bool,
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

    /// Nobody reads any more, and the application goes on.
    pub fn is_left(&self) -> bool {
        self.0.is_cancelled() && !self.0.has_returned()
    }

    /// The request has taken so much processor time. To be said before the end.
    pub fn spent(&self, cpu: Duration) {
        self.0.lock().cpu = Some(cpu);
    }
}

impl ResponseSender {
    pub fn id(&self) -> ExchangeId {
        self.exchange.id
    }

    /// A thread has taken the request: the application's time starts. Fails if the request has been
    /// cancelled, or if the offer of another worker's request has been withdrawn.
    pub fn begin(&self, taken: Taken) -> Result<(), Cancelled> {
        let mut state = self.exchange.lock();
        // With the lock: either this fails, or whoever cancels is told that a thread has it.
        if self.is_cancelled() || state.offer.take().is_some_and(|offer| !offer.take()) {
            return Err(Cancelled);
        }
        state.progress = Progress::Silent(taken.at);
        state.taken = Some(taken);
        Ok(())
    }

    /// Also true in a forked child, whose event loop is not there to read anything.
    pub fn is_cancelled(&self) -> bool {
        fork::is_child() || self.failed || self.exchange.is_cancelled()
    }

    /// Memory for a head, see [`ResponseHead::new_in`].
    pub fn take_head_block(&mut self) -> Vec<u8> {
        mem::take(&mut self.blocks.head)
    }

    /// A copy of these bytes as a chunk.
    pub fn copy(&mut self, bytes: &[u8]) -> Segment {
        let mut block = mem::take(&mut self.blocks.chunk);
        block.extend_from_slice(bytes);
        Segment::Copied(block)
    }

    /// Longer chunks are better sent in pieces of this size, in bytes.
    pub fn piece(&self) -> usize {
        self.piece
    }

    pub fn ender(&self) -> Ender {
        Ender(Arc::clone(&self.exchange))
    }

    /// Queues the head. The event loop is not told: a chunk or the end follows at once.
    pub fn head(&mut self, head: ResponseHead) {
        let mut state = self.exchange.lock();
        if state.progress != Progress::Ended {
            state.buffering.heed(head.buffering());
            state.batch.head = Some(head);
        }
    }

    /// Queues a chunk.
    pub fn send(&mut self, chunk: Segment, next: Follows) -> Result<Room, Cancelled> {
        if self.is_cancelled() {
            return Err(Cancelled);
        }
        let mut state = self.exchange.lock();
        if state.progress == Progress::Ended {
            return Err(Cancelled);
        }
        if state.discarding {
            state.progress = Progress::Silent(Instant::now());
            return Ok(Room::Free);
        }
        state.push(chunk);
        let room = if state.is_full() { Room::Full } else { Room::Free };
        if next == Follows::Later {
            state.progress = Progress::Silent(Instant::now());
            self.exchange.announce(state);
        }
        Ok(room)
    }

    /// Queues a chunk that comes behind what is in the temporary file; false if it is too large for
    /// that, or if nothing is there. It costs no way through the file, and can be called with the
    /// GIL.
    pub fn append(&mut self, chunk: &[u8]) -> bool {
        let mut state = self.exchange.lock();
        let fits = state.tail.len() + chunk.len() <= state.buffering.tail();
        let open = state.progress != Progress::Ended && !self.is_cancelled() && !state.discarding;
        if state.ahead.spooled == 0 || !fits || !open {
            return false;
        }
        state.progress = Progress::Silent(Instant::now());
        state.tail.extend_from_slice(chunk);
        state.ahead.bytes += chunk.len();
        self.exchange.announce(state);
        true
    }

    /// Finds room for a chunk: blocks until the client has taken half of the window, or writes the
    /// chunk to the temporary file. Never call it with the GIL.
    pub fn make_room(&mut self, chunk: &[u8]) -> Result<Sink, Cancelled> {
        let Some((mut spool, tail)) = self.spool_for(chunk.len())? else {
            self.wait(None)?;
            return Ok(Sink::Memory);
        };
        let written = spool.write(&[&tail, chunk]);
        let mut state = self.exchange.lock();
        if self.is_cancelled() || state.progress == Progress::Ended {
            return Err(Cancelled);
        }
        match written {
            Ok(_) if state.discarding => Ok(Sink::File),
            Ok((file, offset)) => {
                state.spool = Some(spool);
                state.progress = Progress::Silent(Instant::now());
                state.push(Segment::Spooled {
                    file,
                    offset,
                    len: (tail.len() + chunk.len()) as u64,
                });
                self.exchange.announce(state);
                Ok(Sink::File)
            }
            Err(err) => {
                drop(state);
                self.failed = true;
                let (exchange, level) = (Some(self.id()), Level::Error);
                let line = spool.explain(&err);
                self.exchange.mailbox.log(LogRecord { exchange, level, text: line });
                self.finish(Err(Failure::Spool));
                Err(Cancelled)
            }
        }
    }

    /// The temporary file, with what goes there first, if a chunk of this length is to go there.
    /// The client's pace decides while nothing in it is left to be sent.
    fn spool_for(&self, len: usize) -> Result<Option<(Spool, Vec<u8>)>, Cancelled> {
        let grace = {
            let mut state = self.exchange.lock();
            if state.discarding {
                return Ok(None);
            }
            let unsent = state.ahead.spooled > 0;
            let len = state.tail.len() + len;
            let Some(spool) = state.spool.take().or_else(|| state.buffering.spool()) else {
                return Ok(None);
            };
            let spool = state.spool.insert(spool);
            if !unsent {
                spool.rewind();
            }
            if !spool.fits(len) {
                return Ok(None);
            }
            (!unsent).then(|| spool.grace())
        };
        match grace {
            Some(grace) if self.wait(Some(grace))? => Ok(None),
            _ => {
                let mut state = self.exchange.lock();
                Ok(state.spool.take().map(|spool| (spool, state.take_tail())))
            }
        }
    }

    /// Blocks until the client has taken half of the window, or, which is false, for `time`.
    fn wait(&self, time: Option<Duration>) -> Result<bool, Cancelled> {
        let end = time.map(|time| Instant::now() + time);
        let mut reported = false;
        let mut state = self.exchange.lock();
        loop {
            if self.is_cancelled() || state.progress == Progress::Ended {
                return Err(Cancelled);
            }
            if state.discarding || state.is_half_free() {
                state.progress = Progress::Silent(Instant::now());
                return Ok(true);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => {
                    state.asleep = false;
                    return Ok(false);
                }
                Some(_) => (),
                None => state.progress = Progress::Blocked,
            }
            if !mem::replace(&mut reported, true) {
                self.exchange.announce(state);
                // Also for what was announced before: it makes room.
                self.exchange.mailbox.wake_if_late();
                state = self.exchange.lock();
                // There may be room by now.
                continue;
            }
            state.asleep = true;
            let room = &self.exchange.room;
            state = match left {
                Some(left) => {
                    room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => room.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            reported = false;
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
pub(in crate::wsgi) mod model;
#[cfg(test)]
mod tests;
