//! The end of a conversation, by whichever side: RFC 6455 section 7.
//!
//! Runs on: test threads.

use super::*;

/// The client sends this and is sent a close frame with this code.
fn breaks(bytes: &[u8], code: u16) {
    let event_loop = Loop::open();
    assert_eq!(event_loop.feed(bytes), bytes.len());
    assert_eq!(event_loop.conversation.poll(), closed(End::Broken(code)), "{bytes:x?}");
    assert!(!event_loop.look().reads);
    assert_eq!(event_loop.sends(), [Frame::close(code)], "{bytes:x?}");
    assert!(event_loop.is_done());
    assert_eq!(event_loop.feed(b"anything"), 8);
    assert_eq!(event_loop.conversation.send_now(Kind::Text, b"x"), closed(End::Broken(code)));
}

#[test]
fn what_breaks_the_protocol_is_1002() {
    for first in [0xc1, 0xa1, 0x91, 0xc9, 0x83, 0x87, 0x8b, 0x8f] {
        // Reserved bits, and what no opcode is.
        breaks(&client::frame(first, b"x"), 1002);
    }
    // Control frames that are divided, or too long.
    for first in [0x08, 0x09, 0x0a] {
        breaks(&client::frame(first, b""), 1002);
    }
    for first in [0x88, 0x89, 0x8a] {
        breaks(&client::frame(first, &[b'x'; 126]), 1002);
    }
    // Not masked.
    breaks(b"\x81\x01x", 1002);
    breaks(b"\x89\x00", 1002);
    // Nothing to continue, and something that is not continued.
    breaks(&client::frame(0x80, b"x"), 1002);
    breaks(&[client::frame(0x01, b"x"), client::frame(0x81, b"y")].concat(), 1002);
    // A close frame with half a code.
    breaks(&client::frame(0x88, b"x"), 1002);
}

#[test]
fn a_text_that_is_not_utf_8_is_1007() {
    breaks(&client::frame(0x81, b"\xff"), 1007);
    breaks(&client::frame(0x81, b"\xed\xa0\x80"), 1007);
    breaks(&client::frame(0x81, b"\xe2\x82"), 1007);
    breaks(&[client::frame(0x01, b"\xe2\x82"), client::frame(0x80, b"x")].concat(), 1007);
    breaks(&client::frame(0x88, b"\x03\xe8\xff"), 1007);
}

#[test]
fn a_message_beyond_the_limit_is_1009() {
    breaks(&client::header(0x82, MAX as u64 + 1, true), 1009);
    breaks(&client::header(0x82, 1 << 30, true), 1009);
    breaks(&client::header(0x82, u64::MAX, true), 1009);
    let half = client::frame(0x02, &[0; MAX / 2 + 1]);
    breaks(&[half, client::frame(0x80, &[0; MAX / 2])].concat(), 1009);
    let event_loop = Loop::open();
    event_loop.feed(&client::frame(0x82, &[0; MAX]));
    assert_eq!(event_loop.conversation.poll().unwrap().unwrap().data.len(), MAX);
}

#[test]
fn a_client_that_closes_is_answered_with_its_code() {
    for code in [1000, 1001, 1003, 1011, 3000, 4999] {
        let event_loop = Loop::open();
        event_loop
            .feed(&[client::text("last"), client::close(code), client::text("late")].concat());
        assert_eq!(event_loop.sends(), [Frame::close(code)]);
        assert!(event_loop.is_done());
        assert_eq!(event_loop.conversation.poll(), Some(Ok(text("last"))));
        assert_eq!(event_loop.conversation.poll(), closed(End::Client(code)));
        assert_eq!(event_loop.conversation.close(1000, ""), Err(Unable::Closed(End::Client(code))));
    }
}

#[test]
fn a_client_need_not_say_why() {
    let event_loop = Loop::open();
    event_loop.feed(&client::frame(0x88, b""));
    assert_eq!(event_loop.sends(), [Frame::new(0x88, b"")]);
    assert_eq!(event_loop.conversation.end(), Some(End::Client(1005)));
}

#[test]
fn codes_that_no_frame_may_have_are_1002() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let event_loop = Loop::open();
        event_loop.feed(&client::close(code));
        let sent = event_loop.sends();
        assert_eq!(sent[0].payload[..2], 1002_u16.to_be_bytes(), "{code}");
        assert!(event_loop.is_done());
        assert!(!crate::wsgi::websocket::may_send(code));
    }
}

#[test]
fn an_application_that_closes_waits_for_nothing_and_the_event_loop_for_the_answer() {
    let mut event_loop = Loop::open();
    event_loop.feed(&client::text("unread"));
    event_loop.conversation.close(4001, "enough").unwrap();
    assert_eq!(event_loop.wakes(), 1);
    assert_eq!(event_loop.conversation.poll(), closed(End::Application));
    assert_eq!(event_loop.conversation.close(4002, ""), Err(Unable::Closed(End::Application)));
    assert_eq!(event_loop.sends(), [Frame::new(0x88, b"\x0f\xa1enough")]);
    let look = event_loop.look();
    assert!(look.reads && !look.done);
    // What comes before the answer is for nobody; a ping is not answered any more.
    event_loop.feed(&[client::text("late"), client::frame(0x89, b"")].concat());
    event_loop.pass(9);
    assert!(!event_loop.is_done());
    event_loop.feed(&client::close(4001));
    assert!(event_loop.is_done());
    assert!(event_loop.sends().is_empty());
}

#[test]
fn an_answer_that_never_comes_is_waited_for_ten_seconds() {
    let mut event_loop = Loop::open();
    event_loop.conversation.close(1000, "").unwrap();
    event_loop.sends();
    event_loop.now = Instant::now();
    assert!(event_loop.conversation.deadline().is_some());
    event_loop.pass(11);
    assert!(event_loop.is_done());
    assert_eq!(event_loop.conversation.deadline(), None);
}

#[test]
fn the_end_of_the_application_closes_with_1000_or_1011() {
    for (outcome, code) in [(Outcome::Returned, 1000), (Outcome::Raised, 1011)] {
        let event_loop = Loop::open();
        event_loop.conversation.ended(outcome);
        assert_eq!(event_loop.sends(), [Frame::close(code)]);
        assert!(!event_loop.is_done());
        event_loop.feed(&client::close(code));
        assert!(event_loop.is_done());
        let closes = Loop::open();
        closes.conversation.close(4000, "").unwrap();
        closes.conversation.ended(outcome);
        assert_eq!(closes.sends(), [Frame::close(4000)]);
    }
}

#[test]
fn a_worker_that_leaves_closes_with_1001() {
    let event_loop = Loop::open();
    event_loop.feed(&client::text("unread"));
    event_loop.conversation.leave();
    assert_eq!(event_loop.conversation.poll(), closed(End::Leaving));
    assert_eq!(event_loop.sends(), [Frame::close(1001)]);
    assert!(event_loop.is_done());
    let before = Loop::offered();
    before.conversation.leave();
    assert_eq!(before.conversation.accept(&OFFER, None), Err(Unable::Closed(End::Leaving)));
}

#[test]
fn a_client_that_has_gone_leaves_what_it_has_sent() {
    let event_loop = Loop::open();
    event_loop.conversation.send_now(Kind::Text, b"lost").unwrap().unwrap();
    event_loop.feed(&client::text("last"));
    event_loop.conversation.gone();
    assert!(event_loop.is_done());
    assert!(event_loop.sends().is_empty());
    assert_eq!(event_loop.conversation.poll(), Some(Ok(text("last"))));
    assert_eq!(event_loop.conversation.poll(), closed(End::Gone));
    assert_eq!(event_loop.conversation.send_now(Kind::Text, b"x"), closed(End::Gone));
}
