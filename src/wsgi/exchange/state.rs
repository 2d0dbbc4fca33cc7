//! What the two sides of an exchange share, under its lock.
//!
//! Runs on: either.

use std::mem;
use std::time::{Duration, Instant};

use super::blocks::Blocks;
use super::in_flight::InFlight;
use super::owed::{HandedOver, Owed};
use super::spool::{Buffering, Spool};
use crate::wsgi::error::Failure;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::offer::Offer;
use crate::wsgi::segment::{Segment, Segments};

/// Chunks that may be on their way at a time, however small: nginx walks their chain.
pub const MAX_CHUNKS: usize = 256;

/// How an exchange ended: whole, or not.
pub type End = Result<(), Failure>;

/// Where the application is, as far as `wsgi_read_timeout` is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No thread has taken the request yet.
    Queued,
    /// The application has been silent since then.
    Silent(Instant),
    /// It waits for the client, and no file helps.
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

/// See [`Exchange::account`].
pub struct Account {
    pub taken: Option<Taken>,
    pub is_handed_over: bool,
    /// Processor time of the thread, if it is measured.
    pub cpu: Option<Duration>,
}

/// What the event loop takes in one go.
#[derive(Debug, Default)]
pub struct Batch {
    pub head: Option<ResponseHead>,
    pub chunks: Segments,
    pub end: Option<End>,
}

pub struct State {
    pub progress: Progress,
    pub taken: Option<Taken>,
    /// Processor time of the thread, if it is measured.
    pub cpu: Option<Duration>,
    /// What a thread has to take first, see [`Exchange::require`].
    pub offer: Option<Offer>,
    /// See [`Exchange::hand_over`].
    pub over: Option<Box<HandedOver>>,
    /// What is sent is dropped.
    pub discarding: bool,
    pub batch: Batch,
    /// Sent and not yet consumed.
    pub ahead: InFlight,
    pub buffering: Buffering,
    /// The temporary file, once there was need of one; the thread has it while it writes.
    pub spool: Option<Spool>,
    /// Small chunks behind what is in the file, in one piece: the next write takes them along, or
    /// the event loop if the client is quicker.
    pub tail: Vec<u8>,
    /// [`Mail::Response`] is on its way.
    pub announced: bool,
    /// The event loop is busy with the temporary file, and looks again after that.
    pub postponed: bool,
    /// The thread is asleep in [`ResponseSender::make_room`].
    pub asleep: bool,
    /// While the exchange is at rest: see [`Exchange::leave`].
    pub blocks: Blocks,
}

impl State {
    pub fn new(buffering: Buffering) -> Self {
        Self {
            progress: Progress::Queued,
            taken: None,
            cpu: None,
            offer: None,
            over: None,
            discarding: false,
            batch: Batch::default(),
            ahead: InFlight::default(),
            buffering,
            spool: None,
            tail: Vec::new(),
            announced: false,
            postponed: false,
            asleep: false,
            blocks: Blocks::default(),
        }
    }

    pub fn is_half_free(&self) -> bool {
        self.ahead.bytes <= self.buffering.window() / 2 && self.ahead.chunks <= MAX_CHUNKS / 2
    }

    pub fn is_full(&self) -> bool {
        self.ahead.bytes >= self.buffering.window() - self.buffering.tail()
            || self.ahead.chunks >= MAX_CHUNKS
    }

    /// What comes now must not wait for the event loop to be done with the temporary file.
    pub fn is_urgent(&self) -> bool {
        matches!(self.progress, Progress::Ended | Progress::Blocked)
    }

    /// All that the event loop has not taken yet.
    pub fn take(&mut self) -> Batch {
        (self.announced, self.postponed) = (false, false);
        self.close_tail();
        mem::take(&mut self.batch)
    }

    /// Makes the tail a chunk, since nothing is to be added to it.
    pub fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ahead.chunks += 1;
            self.batch.chunks.push(Segment::Copied(mem::take(&mut self.tail)));
        }
    }

    /// The tail, which is to go into the file.
    pub fn take_tail(&mut self) -> Vec<u8> {
        self.ahead.bytes -= self.tail.len();
        mem::take(&mut self.tail)
    }

    /// Queues a chunk; one that continues the last in the file becomes part of that, unless the
    /// chunks are a peer's, which counts them.
    pub fn push(&mut self, chunk: Segment) {
        self.close_tail();
        self.ahead = self.ahead.plus(InFlight::of(&chunk));
        let last = self.batch.chunks.last_mut().filter(|_| self.over.is_none());
        if last.is_some_and(|last| last.extend(&chunk)) {
            self.ahead.chunks -= 1;
        } else {
            self.batch.chunks.push(chunk);
        }
    }

    /// True if the request has waited, and no thread takes it from now on. If a thread of the peer
    /// has just taken the request, the exchange says so before the peer's answer has come.
    pub fn take_back(&mut self) -> bool {
        if self.progress != Progress::Queued {
            return false;
        }
        let is_back = self.over.as_ref().is_none_or(|over| over.withdraw());
        if !is_back {
            let at = Instant::now();
            self.taken = Some(Taken { at, runner: 0 });
            self.progress = Progress::Silent(at);
        }
        is_back
    }

    /// Notes what the peer, if there is one, is to be told; true if [`Mail::Relay`] is to be
    /// posted.
    pub fn owe(&mut self, owed: Owed) -> bool {
        let is_heard = self.progress != Progress::Ended;
        self.over.as_mut().is_some_and(|over| is_heard && over.owe(owed))
    }

    /// Owner: nginx has passed on chunks; true if [`Mail::Relay`] is to be posted. A peer that has
    /// waited for the client will go on.
    pub fn pass(&mut self, passed: InFlight) -> bool {
        if self.over.is_none() || self.discarding {
            return false;
        }
        if self.progress == Progress::Blocked && self.is_half_free() {
            self.progress = Progress::Silent(Instant::now());
        }
        self.owe(Owed::Credit(passed))
    }
}
