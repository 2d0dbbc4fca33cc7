//! A request that asks for a WebSocket, and what its application is given for it.
//!
//! `raw.rs` is one end of a pair of sockets, `head.rs` reads what the application answers there,
//! `buffer.rs` is what is on its way between that and the client. Instead of the socket the
//! application may use a conversation in messages (`src/wsgi/websocket`).
//! Runs on: either.

pub mod buffer;
pub mod head;
pub mod raw;

use std::sync::Arc;

use super::websocket::Conversation;
use raw::Raw;

/// What crosses with such a request.
pub struct Upgrade {
    pub raw: Raw,
    /// The other way, by frames.
    pub frames: Arc<Conversation>,
}

impl Upgrade {
    /// Whether the application has answered on the connection itself: what it says by
    /// start_response and by returning is nobody's then.
    pub fn is_used(&self) -> bool {
        self.frames.is_accepted() || self.raw.is_used()
    }
}

/// Whether a list of tokens, as Connection and Upgrade have it, has this one in any case
/// (RFC 9110 sections 7.6.1 and 7.8).
pub fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_whole_item_of_the_list() {
        for list in ["upgrade", "Upgrade", "keep-alive, Upgrade", "a,\tUPGRADE ,b", ",,upgrade"] {
            assert!(has_token(list.as_bytes(), b"upgrade"), "{list}");
        }
        for list in ["", "upgrades", "up grade", "\"upgrade\"", "upgrade;q=1", "keep-alive upgrade"]
        {
            assert!(!has_token(list.as_bytes(), b"upgrade"), "{list}");
        }
    }
}
