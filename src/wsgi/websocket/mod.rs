//! WebSocket by frames: RFC 6455 without input and output, and the conversation of two threads.
//!
//! `src/nginx` hands a [`Conversation`] what the client sends, and sends what it has for the
//! client; the application receives and sends messages (`src/python/websocket`). `frames` reads and
//! writes with the crate tungstenite, `handshake` checks what the client asks for, `outbox` and
//! `ping` hold what is to be sent, and when.
//! Runs on: either; each function says which.

mod bell;
mod frames;
pub mod handshake;
mod message;
mod outbox;
mod ping;

mod state;

mod conversation;

#[cfg(test)]
mod tests;

pub use conversation::{Conversation, Limits, Look};
pub use frames::{MAX_REASON, may_send};
pub use message::{End, Kind, Message, Outcome, Unable};
pub use ping::Interval;
