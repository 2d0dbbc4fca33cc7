//! What the two sides of an exchange share, under its lock.
//!
//! Runs on: either.

use std::mem;

use super::{Batch, Blocks, Passed, Progress, Taken};
use crate::wsgi::segment::Segment;
use crate::wsgi::spool::{Buffering, Spool};

/// Chunks that may be on their way at a time, however small: nginx walks their chain.
pub const MAX_CHUNKS: usize = 256;

pub struct State {
    pub progress: Progress,
    pub taken: Option<Taken>,
    /// What is sent is dropped.
    pub discarding: bool,
    pub batch: Batch,
    /// Sent and not yet consumed.
    pub ahead: Passed,
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
            discarding: false,
            batch: Batch::default(),
            ahead: Passed::default(),
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

    /// Queues a chunk; one that continues the last in the file becomes part of it.
    pub fn push(&mut self, chunk: Segment) {
        self.close_tail();
        self.ahead = self.ahead.plus(Passed::of(&chunk));
        let last = self.batch.chunks.last_mut();
        if last.is_some_and(|last| last.extend(&chunk)) {
            self.ahead.chunks -= 1;
        } else {
            self.batch.chunks.push(chunk);
        }
    }
}
