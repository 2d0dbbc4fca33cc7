//! What crosses in a conversation: messages, and why there are no more.
//!
//! Runs on: either.

use std::fmt;

use bytes::Bytes;

use super::handshake::Refusal;

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, checked in messages from the client.
    Text,
    Binary,
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub data: Bytes,
}

/// Why the client sends nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has sent a close frame with this code, 1005 if there was none in it.
    Client(u16),
    /// The application has closed, or has ended.
    Application,
    /// The client broke the protocol or a limit, and was sent this code: 1002, 1007 or 1009.
    Broken(u16),
    /// The connection has ended, or failed, without a close frame.
    Gone,
    /// No answer to a ping.
    Silent,
    /// The worker leaves: 1001.
    Leaving,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(1005) => f.write_str("the client has closed the WebSocket"),
            Self::Client(code) => write!(f, "the client has closed the WebSocket with code {code}"),
            Self::Application => f.write_str("the WebSocket is closed"),
            Self::Broken(1009) => f.write_str("the client sent a message that is too large"),
            Self::Broken(1007) => f.write_str("the client sent a text that is not UTF-8"),
            Self::Broken(_) => f.write_str("the client sent what is no WebSocket frame"),
            Self::Gone => f.write_str("the client is gone"),
            Self::Silent => f.write_str("the client has not answered a ping"),
            Self::Leaving => f.write_str("the worker is leaving"),
        }
    }
}

/// How the application has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Close code 1000.
    Returned,
    /// Close code 1011.
    Raised,
}

/// Why the application cannot send, receive or begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unable {
    /// Nothing has been agreed on with the client yet.
    NotOpen,
    /// The client's request was no proper handshake.
    Refused(Refusal),
    /// The application has begun to speak through the raw socket, or has sent a response.
    Otherwise,
    /// All is over.
    Closed(End),
    /// A forked child has no event loop.
    Forked,
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => f.write_str("the WebSocket handshake has not been done"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Otherwise => {
                f.write_str("the application has answered otherwise than by a WebSocket")
            }
            Self::Closed(end) => end.fmt(f),
            Self::Forked => f.write_str("a WebSocket cannot be used in a forked child"),
        }
    }
}
