//! The peer's end of a request that was handed over.
//!
//! Runs on: event loop.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::{encode_head, head_len};
use super::message::{Answer, MAX_HEAD, MAX_PIECE, Malformed, Message};
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{Batch, End, Exchange, InFlight, Progress, Taken};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::{ExchangeId, Level};
use crate::wsgi::segment::Segment;

/// What the runner writes into the exchange of this worker becomes answers for the owner, which has
/// at most one window of the response, and a message, in its memory or on the way there.
pub struct PeerEnd {
    id: ExchangeId,
    exchange: Arc<Exchange>,
    is_taken: bool,
    /// Parts of a head.
    answers: VecDeque<Answer>,
    /// Taken from the exchange and not passed on.
    chunks: VecDeque<Segment>,
    end: Option<End>,
    /// Passed on, and without credit yet.
    in_flight: InFlight,
    /// How many chunks of `in_flight` have to go until none is in the temporary file. What nginx
    /// has read ahead gives no credit for bytes of the file, but for the chunk.
    until_no_file: usize,
    /// The owner has the temporary file.
    has_passed_file: bool,
    /// The owner has been told that the response waits for the client.
    is_blocked: bool,
    is_discarded: bool,
    is_done: bool,
}

impl PeerEnd {
    /// `id`: the owner's number for the request.
    pub fn new(id: ExchangeId, exchange: Arc<Exchange>) -> Self {
        Self {
            id,
            exchange,
            is_taken: false,
            answers: VecDeque::new(),
            chunks: VecDeque::new(),
            end: None,
            in_flight: InFlight::default(),
            until_no_file: 0,
            has_passed_file: false,
            is_blocked: false,
            is_discarded: false,
            is_done: false,
        }
    }

    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The owner has been told that a thread has taken the request.
    pub fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Nothing is said, nor to be heard, of the request any more. Its thread may still be at it.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The next thing to tell the owner, if there is one now. Called until there is none: when the
    /// exchange has mail, after an order of the owner, and when the link has room again. No mail
    /// tells that a thread has taken the request: until then, called now and then too.
    pub fn answer(&mut self) -> Option<Message> {
        let answer = if self.is_done { None } else { self.next_answer() };
        answer.map(|answer| Message::answer(self.id, answer))
    }

    fn next_answer(&mut self) -> Option<Answer> {
        if !self.is_taken {
            return self.first();
        }
        if self.chunks.is_empty() && self.end.is_none() {
            self.take();
        }
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if let Some(answer) = self.next_chunk() {
            self.is_blocked = false;
            return Some(answer);
        }
        if let Some(end) = self.end.filter(|_| self.chunks.is_empty()) {
            if let Some(cpu) = self.exchange.take_cpu() {
                return Some(Answer::Spent(cpu));
            }
            self.is_done = true;
            return Some(Answer::End(end));
        }
        let waits = !self.chunks.is_empty() || self.exchange.progress() == Progress::Blocked;
        (waits && !mem::replace(&mut self.is_blocked, true)).then_some(Answer::Blocked)
    }

    /// Whether a thread has taken the request.
    fn first(&mut self) -> Option<Answer> {
        // Before `taken`: an exchange that has ended tells for good whether a thread had taken it.
        let has_ended = self.exchange.progress() == Progress::Ended;
        if let Some(Taken { at, runner }) = self.exchange.taken() {
            self.is_taken = true;
            return Some(Answer::Taken { runner, ago: at.elapsed() });
        }
        self.is_done = has_ended;
        has_ended.then_some(Answer::No)
    }

    fn take(&mut self) {
        let is_busy = self.until_no_file > 0;
        let Batch { head, chunks, end } =
            if is_busy { self.exchange.take_urgent() } else { self.exchange.take() };
        self.chunks.extend(chunks);
        self.end = end;
        if let Some(head) = head {
            self.pass_head(head);
        }
    }

    fn pass_head(&mut self, head: ResponseHead) {
        let len = head_len(&head);
        if len <= MAX_PIECE {
            self.answers.push_back(Answer::Head(head));
        } else if len <= MAX_HEAD {
            let mut rest = Bytes::from(encode_head(&head));
            while !rest.is_empty() {
                let bytes = rest.split_to(rest.len().min(MAX_PIECE));
                let more = !rest.is_empty();
                self.answers.push_back(Answer::HeadPart { bytes, more });
            }
        } else {
            let text = format!("response head of {len} bytes is too long for another worker");
            self.answers.push_back(Answer::Log { level: Level::Error, text });
            self.exchange.cancel();
            self.chunks.clear();
            self.end = Some(Err(Failure::Protocol));
        }
    }

    /// The next chunk, or a piece of it, if the owner has room for it.
    fn next_chunk(&mut self) -> Option<Answer> {
        let chunk = self.chunks.pop_front()?;
        let passed = InFlight::of(&chunk);
        match chunk {
            Segment::Memory(bytes) => self.next_piece(bytes),
            Segment::Copied(block) => self.next_piece(block.into()),
            Segment::File { file, offset, len } => {
                self.in_flight = self.in_flight.plus(passed);
                Some(Answer::File { file, offset, len })
            }
            Segment::Spooled { file, offset, len } => {
                self.in_flight = self.in_flight.plus(passed);
                self.until_no_file = self.in_flight.chunks;
                let is_first = !mem::replace(&mut self.has_passed_file, true);
                Some(Answer::Spooled { file: is_first.then_some(file), offset, len })
            }
        }
    }

    fn next_piece(&mut self, mut bytes: Bytes) -> Option<Answer> {
        if self.in_flight.bytes >= self.exchange.window().max(1) {
            self.chunks.push_front(Segment::Memory(bytes));
            return None;
        }
        let piece = bytes.split_to(bytes.len().min(MAX_PIECE));
        if !bytes.is_empty() {
            self.exchange.divided();
            self.chunks.push_front(Segment::Memory(bytes));
        }
        let passed = InFlight { chunks: 1, bytes: piece.len(), spooled: 0 };
        self.in_flight = self.in_flight.plus(passed);
        Some(Answer::Chunk(piece))
    }

    /// The owner's client has taken so much.
    pub fn credit(&mut self, passed: InFlight) -> Result<(), Malformed> {
        if self.is_discarded || self.is_done {
            return Ok(());
        }
        self.in_flight = self.in_flight.checked_minus(passed).ok_or(Malformed("credit"))?;
        self.until_no_file = self.until_no_file.saturating_sub(passed.chunks);
        self.exchange.consumed(passed);
        Ok(())
    }

    /// The owner's client has gone, and the application is not to notice.
    pub fn discard(&mut self) {
        self.exchange.discard();
        self.chunks.clear();
        self.until_no_file = 0;
        self.is_discarded = true;
    }

    /// The owner reads nothing any more. Returns which thread has the request, if any; `None`: the
    /// request is still in the queue.
    pub fn cancel(&mut self) -> Option<Taken> {
        self.is_done = true;
        self.chunks.clear();
        self.exchange.cancel()
    }
}
