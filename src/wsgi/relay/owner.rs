//! The owner's end of a request that was handed over.
//!
//! Runs on: event loop.

use std::fs::File;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::codec::decode_head;
use super::message::{Answer, MAX_HEAD, Malformed, Message, Order};
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{Exchange, Follows, Owed, ResponseSender, Taken};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::segment::Segment;

/// How the request goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    On,
    /// [`Answer::No`]: the caller takes the request back, if [`Exchange::take_back`] lets it.
    Back,
    /// Nothing follows.
    Ended,
}

/// What has come of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Offered,
    Taken,
    /// The head has come.
    Begun,
}

/// What the peer answers goes into the request's own exchange. An `OwnerEnd` that is dropped before
/// the end of the response ends the exchange as the loss of a thread does.
pub struct OwnerEnd {
    sender: ResponseSender,
    stage: Stage,
    /// The parts of a long head that have come.
    head: Vec<u8>,
    /// The temporary file of the response.
    file: Option<Arc<File>>,
}

impl OwnerEnd {
    /// The exchange has been [handed over](Exchange::hand_over).
    pub fn new(sender: ResponseSender) -> Self {
        Self { sender, stage: Stage::Offered, head: Vec::new(), file: None }
    }

    pub fn exchange(&self) -> &Exchange {
        self.sender.exchange()
    }

    /// The peer has died, or does not answer as it should, with the request taken.
    pub fn died(mut self) {
        self.sender.finish(Err(Failure::Died));
    }

    /// What the peer has sent cannot be received.
    pub fn fail(mut self) {
        self.sender.finish(Err(Failure::Lost));
    }

    /// For the queue, after [`Exchange::take_back`].
    pub fn into_sender(self) -> ResponseSender {
        self.sender
    }

    /// What the peer is to be told since the last call. After [`Order::Cancel`] nothing is to be
    /// told or received.
    pub fn order(&self) -> Option<Message> {
        let order = match self.exchange().take_owed()? {
            Owed::Credit(passed) => Order::Credit(passed),
            Owed::Discard => Order::Discard,
            Owed::Cancel => Order::Cancel,
        };
        Some(Message::order(self.sender.id(), order))
    }

    /// Takes in one answer. What nobody reads any more is dropped.
    pub fn receive(&mut self, answer: Answer) -> Result<Goes, Malformed> {
        match (answer, self.stage) {
            (Answer::No, Stage::Offered) => return Ok(Goes::Back),
            (Answer::Taken { runner, ago }, Stage::Offered) => {
                let now = Instant::now();
                let at = now.checked_sub(ago).unwrap_or(now);
                // Fails if the exchange has been cancelled, which the peer is told.
                let _ = self.sender.begin(Taken { at, runner });
                self.stage = Stage::Taken;
            }
            (Answer::Log { level, text }, _) => self.sender.log(level, text),
            (Answer::Head(head), Stage::Taken) if self.head.is_empty() => self.begin(head),
            (Answer::HeadPart { bytes, more }, Stage::Taken) => {
                if self.head.len() + bytes.len() > MAX_HEAD {
                    return Err(Malformed("length of a head"));
                }
                self.head.extend_from_slice(&bytes);
                if !more {
                    let head = decode_head(&mem::take(&mut self.head))?;
                    self.begin(head);
                }
            }
            (Answer::Chunk(bytes), Stage::Begun) => self.send(Segment::Memory(bytes)),
            (Answer::File { file, offset, len }, Stage::Begun) => {
                self.send(Segment::File { file, offset, len });
            }
            (Answer::Spooled { file, offset, len }, Stage::Begun) => {
                let file = match (file, &self.file) {
                    (Some(file), None) => self.file.insert(file),
                    (None, Some(file)) => file,
                    _ => return Err(Malformed("temporary file")),
                };
                let file = Arc::clone(file);
                self.send(Segment::Spooled { file, offset, len });
            }
            (Answer::Spent(cpu), Stage::Taken | Stage::Begun) => self.sender.spent(cpu),
            (Answer::Blocked, Stage::Taken | Stage::Begun) => self.sender.blocked(),
            (Answer::End(end), Stage::Taken | Stage::Begun) => {
                self.sender.finish(end);
                return Ok(Goes::Ended);
            }
            _ => return Err(Malformed("order of answers")),
        }
        Ok(Goes::On)
    }

    fn begin(&mut self, head: ResponseHead) {
        self.stage = Stage::Begun;
        self.sender.head(head);
    }

    fn send(&mut self, chunk: Segment) {
        // The peer minds the window, and has been told if the exchange is cancelled.
        let _ = self.sender.send(chunk, Follows::Later);
    }
}
