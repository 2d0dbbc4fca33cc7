//! Conversations with a client that is made of bytes, and with threads.
//!
//! Runs on: test threads.

mod client;
mod closing;
mod limits;
mod liveness;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::handshake::{Offer, Refusal};
use super::ping::Interval;
use super::{Conversation, End, Kind, Limits, Message, Outcome, Unable};

use client::{Frame, frames};

const OFFER: Offer<'static> =
    Offer { key: Some(b"dGhlIHNhbXBsZSBub25jZQ=="), version: Some(b"13"), protocols: None };

const MAX: usize = 1000;

/// The event loop of one conversation.
struct Loop {
    conversation: Arc<Conversation>,
    wakes: Arc<AtomicUsize>,
    now: Instant,
    /// Taken, and not sent.
    output: RefCell<Vec<u8>>,
}

impl Loop {
    fn offered() -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&wakes);
        let wake = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let ping = Interval { every: Duration::from_secs(30), timeout: Duration::from_secs(10) };
        let limits = Limits { max_message: MAX, ping: Some(ping) };
        let now = Instant::now();
        Self {
            conversation: Arc::new(Conversation::new(limits, now, wake)),
            wakes,
            now,
            output: RefCell::default(),
        }
    }

    fn open() -> Self {
        let event_loop = Self::offered();
        event_loop.conversation.accept(&OFFER, None).unwrap();
        assert!(event_loop.look().accepted.is_some());
        event_loop.wakes();
        event_loop
    }

    fn look(&self) -> super::Look {
        let look = self.conversation.look(Vec::new(), self.now);
        self.output.borrow_mut().extend(&look.output);
        look
    }

    fn feed(&self, bytes: &[u8]) -> usize {
        self.conversation.feed(bytes, self.now)
    }

    /// Sends all that there is to a client that takes it.
    fn sends(&self) -> Vec<Frame> {
        self.look();
        let output = self.output.take();
        self.conversation.sent(output.len(), self.now);
        frames(&output)
    }

    fn is_done(&self) -> bool {
        self.look().done
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.conversation.tick(self.now);
    }

    fn wakes(&self) -> usize {
        self.wakes.swap(0, Ordering::SeqCst)
    }
}

fn text(text: &str) -> Message {
    Message { kind: Kind::Text, data: text.to_owned().into() }
}

fn closed<T>(end: End) -> Option<Result<T, Unable>> {
    Some(Err(Unable::Closed(end)))
}

#[test]
fn the_event_loop_hears_of_the_handshake_once() {
    let event_loop = Loop::offered();
    assert_eq!(event_loop.conversation.send_now(Kind::Text, b"x"), Some(Err(Unable::NotOpen)));
    assert_eq!(event_loop.conversation.poll(), Some(Err(Unable::NotOpen)));
    assert!(event_loop.look().accepted.is_none());
    assert!(!event_loop.look().reads);
    event_loop.conversation.accept(&OFFER, Some("chat")).unwrap();
    event_loop.conversation.accept(&OFFER, Some("other")).unwrap();
    assert_eq!(event_loop.wakes(), 1);
    let look = event_loop.look();
    assert_eq!(look.accepted.unwrap().protocol(), Some("chat"));
    assert!(look.reads);
    assert!(event_loop.look().accepted.is_none());
    assert!(!event_loop.conversation.withdraw());
}

#[test]
fn a_bad_handshake_is_refused_for_good() {
    let event_loop = Loop::offered();
    let bad = Offer { version: Some(b"8"), ..OFFER };
    let refused = event_loop.conversation.accept(&bad, None);
    assert!(matches!(refused, Err(Unable::Refused(_))));
    assert_eq!(event_loop.conversation.accept(&OFFER, None), refused);
    assert!(event_loop.conversation.withdraw());
    assert_eq!(event_loop.conversation.refusal(), Some(Refusal::Version));
    assert!(event_loop.conversation.is_closed());
}

#[test]
fn the_raw_way_excludes_the_other() {
    let event_loop = Loop::offered();
    assert!(event_loop.conversation.withdraw());
    assert_eq!(event_loop.conversation.accept(&OFFER, None), Err(Unable::Otherwise));
    let returned = Loop::offered();
    returned.conversation.ended(Outcome::Returned);
    assert_eq!(returned.conversation.accept(&OFFER, None), Err(Unable::Otherwise));
}

#[test]
fn messages_cross_in_both_directions() {
    let event_loop = Loop::open();
    let bytes = [client::text("hello"), client::frame(0x82, b"\x00\xff")].concat();
    assert_eq!(event_loop.feed(&bytes), bytes.len());
    assert_eq!(event_loop.conversation.poll(), Some(Ok(text("hello"))));
    let binary = Message { kind: Kind::Binary, data: b"\x00\xff"[..].into() };
    assert_eq!(event_loop.conversation.poll(), Some(Ok(binary)));
    assert_eq!(event_loop.conversation.poll(), None);
    event_loop.conversation.send_now(Kind::Text, "hallo".as_bytes()).unwrap().unwrap();
    event_loop.conversation.send(Kind::Binary, &[7; 70_000 - 10_000]).unwrap();
    assert_eq!(event_loop.wakes(), 1);
    let sent = event_loop.sends();
    assert_eq!(sent[0], Frame::new(0x81, b"hallo"));
    assert_eq!(sent[1], Frame::new(0x82, &[7; 60_000]));
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_message_of_several_frames_is_one() {
    let event_loop = Loop::open();
    let pieces = [
        client::frame(0x01, b"a"),
        client::frame(0x89, b"are you there"),
        client::frame(0x00, b""),
        client::frame(0x80, b"b"),
    ];
    for byte in pieces.concat() {
        assert_eq!(event_loop.feed(&[byte]), 1);
    }
    assert_eq!(event_loop.conversation.poll(), Some(Ok(text("ab"))));
    assert_eq!(event_loop.sends(), [Frame::new(0x8a, b"are you there")]);
}

#[test]
fn a_character_may_be_divided_between_frames() {
    let event_loop = Loop::open();
    let [a, b, c] = *"€".as_bytes() else { panic!() };
    event_loop.feed(&[client::frame(0x01, &[a, b]), client::frame(0x80, &[c])].concat());
    assert_eq!(event_loop.conversation.poll(), Some(Ok(text("€"))));
}
