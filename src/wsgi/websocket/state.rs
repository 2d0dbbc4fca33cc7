//! What a conversation is at: the rules, without locks and without waiting.
//!
//! Runs on: either, with the lock of the conversation.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::frames::{self, Event, Frames};
use super::handshake::{Accepted, Refusal};
use super::message::{End, Kind, Message, Outcome, Unable};
use super::outbox::Outbox;
use super::ping::{Due, Pings};

/// Bytes that wait in one direction before the side that makes them has to wait. One message more
/// from the client is held, and what the protocol says by itself to the client.
pub const WINDOW: usize = 64 * 1024;

/// What a message costs beside its bytes.
const OVERHEAD: usize = 64;

/// How long the client may take to answer a close frame.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which way the application takes.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// It has not chosen.
    Offered,
    /// Its handshake could not be done.
    Refused(Refusal),
    /// It speaks through the raw socket, has sent a response, or has ended.
    Otherwise,
    /// It has done the handshake; the event loop is to be told of it.
    Accepted(Accepted),
    Open,
}

#[derive(Debug)]
pub struct State {
    stage: Stage,
    frames: Frames,
    inbox: VecDeque<Message>,
    inbox_bytes: usize,
    out: Outbox,
    pings: Pings,
    /// Why nothing more comes in.
    end: Option<End>,
    /// The application has tried the handshake when that was so.
    missed: bool,
    /// Since when the client owes an answer to a close frame.
    closing: Option<Instant>,
    /// The connection is to be closed when everything has been sent.
    done: bool,
    /// The event loop does not read, because the application has not received.
    paused: bool,
    /// What the client has sent has been taken, but not read to its end.
    backlog: bool,
    /// The event loop is going to look.
    announced: bool,
    bell: Option<Bell>,
}

impl State {
    pub fn new(max_message: usize, pings: Pings) -> Self {
        Self {
            stage: Stage::Offered,
            frames: Frames::new(max_message),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            out: Outbox::default(),
            pings,
            end: None,
            missed: false,
            closing: None,
            done: false,
            paused: false,
            backlog: false,
            announced: false,
            bell: None,
        }
    }

    /// The handshake has been done.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Accepted(_) | Stage::Open)
    }

    /// The client may be read from.
    fn reads(&self) -> bool {
        let wanted = self.end.is_some() || self.inbox_bytes < WINDOW;
        // More than the application may have there: the client asks and does not listen.
        let listens = self.out.len() < 2 * WINDOW;
        self.is_open() && !self.done && wanted && listens
    }

    /// Whether the event loop has to be told to look, which it then does once.
    pub fn announce(&mut self) -> bool {
        !mem::replace(&mut self.announced, true)
    }

    fn ring(&mut self) {
        let rings = !self.inbox.is_empty() || self.end.is_some();
        if let Some(bell) = &mut self.bell {
            bell.ring(rings);
        }
    }

    /// The descriptor that says whether there is something to receive.
    pub fn bell(&mut self) -> io::Result<RawFd> {
        let bell = match self.bell.take() {
            Some(bell) => bell,
            None => Bell::new()?,
        };
        let fd = bell.fd();
        self.bell = Some(bell);
        self.ring();
        Ok(fd)
    }

    fn end_with(&mut self, end: End) {
        self.end.get_or_insert(end);
        if matches!(end, End::Application | End::Leaving) {
            self.drop_inbox();
        }
        self.ring();
    }

    fn drop_inbox(&mut self) {
        self.inbox = VecDeque::new();
        self.inbox_bytes = 0;
    }

    // The event loop's part.

    /// The application answers in another way; false if it has done the handshake.
    pub fn withdraw(&mut self) -> bool {
        if self.stage == Stage::Offered {
            self.stage = Stage::Otherwise;
        }
        !self.is_open()
    }

    pub fn refusal(&self) -> Option<Refusal> {
        match self.stage {
            Stage::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What the application has agreed on, the first time.
    pub fn take_accepted(&mut self) -> Option<Accepted> {
        match mem::replace(&mut self.stage, Stage::Open) {
            Stage::Accepted(accepted) => Some(accepted),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// What is to be sent, whether the client is to be read from, and whether all is over.
    pub fn look(&mut self, spare: Vec<u8>, now: Instant) -> (Vec<u8>, bool, bool) {
        let reads = self.resume(now);
        let output = if self.is_open() { self.out.take(spare) } else { spare };
        (output, reads, self.is_done())
    }

    /// Whether the client is to be read from.
    pub fn resume(&mut self, now: Instant) -> bool {
        self.announced = false;
        if self.backlog && self.reads() {
            self.feed(&[], now);
        }
        let reads = self.reads();
        if reads && mem::take(&mut self.paused) {
            // Nobody has listened meanwhile.
            self.pings.heard(now);
        }
        self.paused |= !reads && self.is_open();
        reads
    }

    fn is_done(&self) -> bool {
        self.done && self.out.is_over()
    }

    pub fn sent(&mut self, len: usize, now: Instant) {
        self.out.sent(len);
        if self.out.is_ping_sent() {
            self.pings.sent(now);
        }
    }

    /// Reads what the client has sent, as far as there is room for it; what is left.
    pub fn feed<'a>(&mut self, mut input: &'a [u8], now: Instant) -> &'a [u8] {
        if !input.is_empty() {
            self.pings.heard(now);
        }
        self.backlog = true;
        while self.reads() {
            let mut answer = Vec::new();
            let Some(event) = self.frames.read(&mut input, &mut answer) else {
                self.backlog = false;
                break;
            };
            match event {
                Event::Message(message) if self.end.is_none() => {
                    self.inbox_bytes += message.data.len() + OVERHEAD;
                    self.inbox.push_back(message);
                    self.ring();
                }
                Event::Message(_) | Event::Alive => (),
                Event::Close(code) => {
                    self.end_with(End::Client(code));
                    self.done = true;
                }
                Event::Broken(code) => {
                    self.end_with(End::Broken(code));
                    self.done = true;
                    self.out.tear();
                }
            }
            self.out.control(|to| to.extend_from_slice(&answer));
        }
        if self.done { &[] } else { input }
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.done || !self.is_open() {
            return None;
        }
        match self.closing {
            Some(since) => Some(since + CLOSE_TIMEOUT),
            None if self.paused => None,
            None => self.pings.deadline(),
        }
    }

    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.closing.is_some() {
            self.cut(End::Application);
            return;
        }
        match self.pings.tick(now) {
            Due::Ping => self.out.ping(frames::ping),
            Due::Lost => self.cut(End::Silent),
            Due::Nothing => (),
        }
    }

    /// Nothing more can be sent to the client, or comes from it.
    pub fn cut(&mut self, end: End) {
        self.end_with(end);
        self.done = true;
        self.out.clear();
    }

    /// The worker leaves.
    pub fn leave(&mut self) {
        if self.is_open() && self.closing.is_none() && !self.done {
            self.out.tear();
            let frames = &mut self.frames;
            self.out.control(|to| frames.close(1001, "", to));
        }
        self.end_with(End::Leaving);
        self.done = true;
    }

    // The application's part.

    /// The handshake is done, or cannot be.
    pub fn accept(
        &mut self,
        accept: impl FnOnce() -> Result<Accepted, Refusal>,
        now: Instant,
    ) -> Result<(), Unable> {
        match self.stage {
            Stage::Accepted(_) | Stage::Open => return Ok(()),
            Stage::Refused(refusal) => return Err(Unable::Refused(refusal)),
            Stage::Otherwise => return Err(Unable::Otherwise),
            Stage::Offered => (),
        }
        if let Some(end) = self.end {
            self.missed = true;
            return Err(Unable::Closed(end));
        }
        match accept() {
            Ok(accepted) => {
                self.stage = Stage::Accepted(accepted);
                self.pings.heard(now);
                Ok(())
            }
            Err(refusal) => {
                self.stage = Stage::Refused(refusal);
                Err(Unable::Refused(refusal))
            }
        }
    }

    pub fn is_closed(&self) -> bool {
        self.end.is_some() || matches!(self.stage, Stage::Refused(_) | Stage::Otherwise)
    }

    /// Nothing can be sent, and nothing is left to be received.
    pub fn is_exhausted(&self) -> bool {
        self.is_closed() && self.inbox.is_empty()
    }

    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The application knows that it was too late for the handshake.
    pub fn has_missed(&self) -> bool {
        self.missed
    }

    /// That the conversation has begun, and was not ended.
    fn check(&self) -> Result<(), Unable> {
        match self.stage {
            Stage::Accepted(_) | Stage::Open => {
                self.end.map_or(Ok(()), |end| Err(Unable::Closed(end)))
            }
            Stage::Refused(refusal) => Err(Unable::Refused(refusal)),
            Stage::Otherwise => Err(Unable::Otherwise),
            Stage::Offered => Err(Unable::NotOpen),
        }
    }

    /// The next message; none if one may still come. Says too whether the event loop is to read on.
    pub fn receive(&mut self) -> Option<(Result<Message, Unable>, bool)> {
        let Some(message) = self.inbox.pop_front() else {
            return self.check().err().map(|unable| (Err(unable), false));
        };
        self.inbox_bytes -= message.data.len() + OVERHEAD;
        self.ring();
        let resumes = self.paused && self.inbox_bytes <= WINDOW / 2;
        Some((Ok(message), resumes && self.announce()))
    }

    pub fn has_message(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether a whole message fits in.
    pub fn has_room_for(&self, len: usize) -> bool {
        self.out.len() + len <= WINDOW
    }

    /// Bytes that may be put in now.
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.out.len())
    }

    /// A sender that waits may go on.
    pub fn has_room_again(&self) -> bool {
        self.out.len() <= WINDOW / 2
    }

    /// A sender that waits would wait for ever.
    pub fn is_stuck(&self) -> bool {
        if self.out.is_open() { self.out.is_torn() } else { self.check().is_err() }
    }

    /// A message begins.
    pub fn begin(&mut self, kind: Kind, len: usize) -> Result<(), Unable> {
        self.check()?;
        self.out.begin(|to| frames::header(kind, len, to));
        Ok(())
    }

    /// A message goes on. It does so behind a close frame of the client too.
    pub fn piece(&mut self, bytes: &[u8]) -> Result<(), Unable> {
        if self.out.is_torn() {
            return Err(Unable::Closed(self.end.unwrap_or(End::Gone)));
        }
        self.out.piece(bytes);
        Ok(())
    }

    /// The message is complete.
    pub fn finish(&mut self) {
        self.out.end();
    }

    /// Says the client that this was all. The answer is waited for, but not by the application.
    pub fn close(&mut self, code: u16, reason: &str, now: Instant) -> Result<(), Unable> {
        self.check()?;
        let frames = &mut self.frames;
        self.out.control(|to| frames.close(code, reason, to));
        self.closing = Some(now);
        self.end_with(End::Application);
        Ok(())
    }

    /// The application has ended.
    pub fn ended(&mut self, outcome: Outcome, now: Instant) {
        let code = match outcome {
            Outcome::Returned => 1000,
            Outcome::Raised => 1011,
        };
        // It may have closed before.
        let _ = self.close(code, "", now);
        self.drop_inbox();
        if self.stage == Stage::Offered {
            self.stage = Stage::Otherwise;
        }
    }
}
