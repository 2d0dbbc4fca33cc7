//! Pings, and clients that do not answer them.
//!
//! Runs on: test threads.

use super::*;

const PING: u8 = 0x89;

#[test]
fn a_silent_client_is_asked_once_and_counts_as_gone() {
    let mut event_loop = Loop::open();
    event_loop.pass(29);
    assert!(event_loop.sends().is_empty());
    event_loop.pass(2);
    assert_eq!(event_loop.sends(), [Frame::new(PING, b"")]);
    event_loop.pass(9);
    assert!(!event_loop.is_done() && event_loop.sends().is_empty());
    event_loop.pass(2);
    assert!(event_loop.is_done());
    assert_eq!(event_loop.conversation.poll(), closed(End::Silent));
}

#[test]
fn an_answer_is_a_sign_of_life() {
    let mut event_loop = Loop::open();
    for _ in 0..3 {
        event_loop.pass(31);
        assert_eq!(event_loop.sends(), [Frame::new(PING, b"")]);
        event_loop.pass(5);
        event_loop.feed(&client::frame(0x8a, b""));
        assert_eq!(
            event_loop.conversation.deadline(),
            Some(event_loop.now + Duration::from_secs(30))
        );
    }
}

#[test]
fn a_part_of_a_message_is_a_sign_of_life() {
    let mut event_loop = Loop::open();
    let message = client::frame(0x82, &[0; MAX]);
    for part in message.chunks(100) {
        event_loop.pass(29);
        event_loop.feed(part);
        assert!(event_loop.sends().is_empty());
    }
    assert!(event_loop.conversation.poll().is_some());
}

#[test]
fn the_time_of_an_answer_begins_when_the_ping_has_left() {
    let mut event_loop = Loop::open();
    event_loop.conversation.send(Kind::Binary, &[0; 50_000]).unwrap();
    event_loop.pass(31);
    // A client that takes its time with the message in front of it.
    let len = event_loop.look().output.len();
    assert_eq!(len, 50_000 + 4 + 2);
    event_loop.pass(60);
    event_loop.conversation.sent(len - 1, event_loop.now);
    assert_eq!(event_loop.conversation.deadline(), None);
    event_loop.conversation.sent(1, event_loop.now);
    assert_eq!(event_loop.conversation.deadline(), Some(event_loop.now + Duration::from_secs(10)));
    event_loop.pass(11);
    assert_eq!(event_loop.conversation.end(), Some(End::Silent));
}

#[test]
fn a_client_that_is_not_read_from_is_not_asked() {
    let mut event_loop = Loop::open();
    let message = client::frame(0x82, &[0; MAX]);
    while event_loop.look().reads {
        event_loop.feed(&message);
    }
    assert_eq!(event_loop.conversation.deadline(), None);
    event_loop.pass(1000);
    assert!(event_loop.sends().is_empty());
    while event_loop.conversation.poll().is_some() {}
    assert_eq!(event_loop.wakes(), 1);
    assert!(event_loop.look().reads);
    assert_eq!(event_loop.conversation.deadline(), Some(event_loop.now + Duration::from_secs(30)));
}

#[test]
fn no_ping_follows_a_close_frame() {
    let mut event_loop = Loop::open();
    event_loop.conversation.close(1000, "").unwrap();
    event_loop.sends();
    event_loop.pass(31);
    assert!(event_loop.sends().is_empty());
    assert!(event_loop.is_done());
}
