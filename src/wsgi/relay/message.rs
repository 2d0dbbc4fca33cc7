//! The messages of a link, as plain owned data.
//!
//! `codec.rs` writes and reads them.
//! Runs on: event loop.

use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::wsgi::exchange::{End, InFlight};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::lines::MAX_LINE;
use crate::wsgi::mailbox::{ExchangeId, Level};
use crate::wsgi::request::Flags;
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::request::vars::Vars;

/// Bytes of a message at most. The kernel finds memory for so many at any time: more would have to
/// lie in one piece.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Bytes of a chunk, or of another part, that fit one message.
pub const MAX_PIECE: usize = MAX_MESSAGE - 32;

/// Bytes of an encoded head at most, which may come in several messages.
pub const MAX_HEAD: usize = 1 << 20;

/// Descriptors that go with one message at most.
pub const MAX_DESCRIPTORS: usize = 8;

/// A message about one request.
#[derive(Debug)]
pub struct Message {
    /// The number that the request has in the worker of its owner, whoever sends the message.
    pub id: ExchangeId,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    /// From the owner to the peer.
    Order(Order),
    /// From the peer to the owner.
    Answer(Answer),
}

/// What an owner tells a peer. An order for a request that has ended at the peer meanwhile is
/// nothing to wonder about.
#[derive(Debug)]
pub enum Order {
    /// The request is offered.
    Run(Box<Run>),
    /// Nobody reads any more, or the offer is withdrawn.
    Cancel,
    /// Nobody reads any more, but the application is to run to its end.
    Discard,
    /// nginx has passed on so much of what has come.
    Credit(InFlight),
    /// The stack of the request's thread is to be logged, so many frames at most. What comes of it
    /// are [`Answer::Log`].
    Stack(u32),
    /// Where the threads are that are at requests: for `wsgi_status`. About no request; its number is
    /// that of the question.
    Stacks,
}

/// A request that is offered.
#[derive(Debug)]
pub struct Run {
    /// Indices into tables that all workers of a cycle have from the configuration.
    pub app: u32,
    pub pool: u32,
    pub ticket: Ticket,
    /// How long the request has waited so far.
    pub waited: Duration,
    /// `wsgi_request_timeout`, if there is one.
    pub limit: Option<Limit>,
    pub flags: Flags,
    pub buffering: Settings,
    pub vars: Vars,
    /// `None`: it is empty.
    pub body: Option<Arc<RequestBody>>,
}

/// How long a request may be in the application. When its client waits no more, and this is over, an
/// exception is raised in its thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Above zero.
    pub time: Duration,
    /// What the log has above the thread's stack.
    pub title: String,
}

/// Where the word of an offer is, and which of the offers that were made there is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub word: u32,
    pub epoch: u32,
}

/// [`Buffering`](crate::wsgi::exchange::spool::Buffering), with an index in place of its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub on: bool,
    pub heeds_header: bool,
    pub size: usize,
    /// As [`Run::app`].
    pub spooling: Option<u32>,
}

/// What a peer tells the owner.
#[derive(Debug)]
pub enum Answer {
    /// The request cannot be taken now. Only the word of the offer says whether it was taken: the
    /// answer may be meant for an earlier offer of the same request.
    No,
    /// A thread has taken the request so long ago. Always the first answer but for [`Self::No`].
    Taken {
        runner: usize,
        ago: Duration,
    },
    Head(ResponseHead),
    /// A part of an encoded head that is too long for one message, since a single header may be.
    HeadPart {
        bytes: Bytes,
        more: bool,
    },
    /// A part of the body, at least a byte and at most [`MAX_PIECE`].
    Chunk(Bytes),
    /// A file of the application: `len` bytes, at least one, from `offset` on.
    File {
        file: File,
        offset: u64,
        len: u64,
    },
    /// The same in the temporary file of the response, which goes with the first of them.
    Spooled {
        file: Option<Arc<File>>,
        offset: u64,
        len: u64,
    },
    /// The application waits for the client, or what it has sent does.
    Blocked,
    /// The request's thread has used so much processor time. Comes before the end, if it is measured.
    Spent(Duration),
    /// Nothing follows.
    End(End),
    /// Lines for the log, in the context of the request. A worker writes lines without a request by
    /// itself.
    Log {
        level: Level,
        text: String,
    },
    /// A part of the answer to [`Order::Stacks`], what `Dump` of `wsgi/status/stack.rs` writes.
    Stacks {
        text: String,
        more: bool,
    },
}

/// What has come is no message of ours. The link is not to be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(
    /// What is wrong.
    pub &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message of another worker: {}", self.0)
    }
}

impl Limit {
    /// A title is cut where the log would cut it.
    pub fn new(time: Duration, title: &str) -> Self {
        Self { time, title: cut(title, 2 * MAX_LINE).to_owned() }
    }
}

impl Answer {
    /// Lines for the log, in as many answers as they need.
    pub fn log(level: Level, text: &str) -> Vec<Self> {
        let mut answers = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let mut part = cut(rest, MAX_PIECE);
            let mut next = part.len();
            if next < rest.len()
                && let Some(end) = part.rfind('\n')
            {
                (part, next) = (&part[..end], end + 1);
            }
            answers.push(Self::Log { level, text: part.to_owned() });
            rest = &rest[next..];
        }
        answers
    }
}

impl Answer {
    /// A dump in as many answers as it needs. `more`: another dump of the same question follows.
    pub fn stacks(text: &str, more: bool) -> Vec<Self> {
        let (mut answers, mut rest) = (Vec::new(), text);
        loop {
            let part = cut(rest, MAX_PIECE);
            rest = &rest[part.len()..];
            answers.push(Self::Stacks { text: part.to_owned(), more: more || !rest.is_empty() });
            if rest.is_empty() {
                return answers;
            }
        }
    }
}

/// At most so many bytes from the start, in whole characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Message {
    pub fn order(id: ExchangeId, order: Order) -> Self {
        Self { id, kind: Kind::Order(order) }
    }

    pub fn answer(id: ExchangeId, answer: Answer) -> Self {
        Self { id, kind: Kind::Answer(answer) }
    }
}
