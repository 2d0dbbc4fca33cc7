//! What is held of a client that is faster than the application, and the other way round.
//!
//! Runs on: test threads.

use std::thread;

use super::*;
use crate::wsgi::websocket::state::WINDOW;

#[test]
fn an_application_that_does_not_receive_holds_the_client_back() {
    let event_loop = Loop::open();
    let message = client::frame(0x82, &[0; MAX]);
    let stream = message.repeat(1000);
    let mut used = event_loop.feed(&stream);
    let held = |used: usize| used / message.len() * MAX;
    // A message more, and what is read ahead.
    assert!(held(used) >= WINDOW - 10 * MAX && held(used) <= WINDOW + MAX + 4096, "{used}");
    assert_eq!(event_loop.feed(&stream[used..]), 0);
    assert!(!event_loop.look().reads);
    let mut received = 0;
    while received < 1000 {
        while let Some(Ok(message)) = event_loop.conversation.poll() {
            assert_eq!(message.data.len(), MAX);
            received += 1;
        }
        assert!(event_loop.look().reads);
        used += event_loop.feed(&stream[used..]);
    }
    assert_eq!(used, stream.len());
}

#[test]
fn a_client_that_takes_nothing_is_read_from_as_long_as_there_is_room() {
    let event_loop = Loop::open();
    event_loop.conversation.send(Kind::Binary, &[0; MAX]).unwrap();
    let look = event_loop.look();
    assert!(look.reads && !look.output.is_empty());
    // The output is still there, so nobody looks for more.
    let message = client::frame(0x82, &[0; MAX]);
    let stream = message.repeat(1000);
    let used = event_loop.feed(&stream);
    assert_eq!(event_loop.feed(&stream[used..]), 0);
    assert!(!event_loop.conversation.reads(event_loop.now));
    event_loop.wakes();
    while event_loop.conversation.poll().is_some() {}
    assert_eq!(event_loop.wakes(), 1);
    assert!(event_loop.conversation.reads(event_loop.now));
    assert!(event_loop.feed(&stream[used..]) > 0);
}

#[test]
fn what_was_taken_and_not_read_is_read_when_there_is_room() {
    for count in 50..80 {
        let event_loop = Loop::open();
        let mut stream = client::frame(0x82, &[0; MAX]).repeat(count);
        stream.extend(client::close(1000));
        let (mut used, mut received) = (0, 0);
        loop {
            event_loop.look();
            used += event_loop.feed(&stream[used..]);
            match event_loop.conversation.poll() {
                Some(Ok(_)) => received += 1,
                end => break assert_eq!(end, closed(End::Client(1000)), "{count}"),
            }
        }
        assert_eq!((used, received), (stream.len(), count));
        assert_eq!(event_loop.sends(), [Frame::close(1000)]);
    }
}

#[test]
fn many_small_messages_count_too() {
    let event_loop = Loop::open();
    let stream = client::text("").repeat(10_000);
    event_loop.feed(&stream);
    let mut count = 0;
    while event_loop.conversation.poll().is_some() {
        count += 1;
    }
    assert!(count < 2000, "{count}");
}

#[test]
fn a_client_that_asks_and_does_not_listen_is_not_read_from() {
    let event_loop = Loop::open();
    let stream = client::frame(0x89, &[b'x'; 125]).repeat(10_000);
    let used = event_loop.feed(&stream);
    assert!(used < 3 * WINDOW, "{used}");
    let look = event_loop.look();
    assert!(!look.reads);
    event_loop.conversation.sent(look.output.len(), event_loop.now);
    assert!(event_loop.look().reads);
}

#[test]
fn a_slow_client_holds_the_application_back() {
    let event_loop = Loop::open();
    let sender = Arc::clone(&event_loop.conversation);
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let sent = data.clone();
    let thread = thread::spawn(move || sender.send(Kind::Binary, &sent));
    let mut output = Vec::new();
    wait_for_wake(&event_loop);
    while output.len() < data.len() {
        let part = event_loop.look().output;
        assert!(part.len() <= WINDOW + 16, "{}", part.len());
        event_loop.conversation.sent(part.len(), event_loop.now);
        output.extend(part);
        // A pong does not get in between.
        event_loop.feed(&client::frame(0x89, b"?"));
        thread::yield_now();
    }
    thread.join().unwrap().unwrap();
    output.extend(event_loop.look().output);
    let sent = frames(&output);
    assert!(sent[0] == Frame::new(0x82, &data));
    assert!(sent.len() > 1 && sent[1..].iter().all(|frame| *frame == Frame::new(0x8a, b"?")));
}

/// A thread that is in the middle of a message which the client does not take.
fn stuck(event_loop: &Loop) -> thread::JoinHandle<Result<(), Unable>> {
    let sender = Arc::clone(&event_loop.conversation);
    let thread = thread::spawn(move || sender.send(Kind::Binary, &[0; 1_000_000]));
    wait_for_wake(event_loop);
    thread
}

/// A thread has something to say.
fn wait_for_wake(event_loop: &Loop) {
    while event_loop.wakes() == 0 {
        thread::yield_now();
    }
}

#[test]
fn whoever_waits_for_room_is_woken_by_the_end() {
    let event_loop = Loop::open();
    let thread = stuck(&event_loop);
    // The turn is taken, so nothing can be sent at once.
    assert_eq!(event_loop.conversation.send_now(Kind::Text, b"x"), None);
    event_loop.conversation.gone();
    assert_eq!(thread.join().unwrap(), Err(Unable::Closed(End::Gone)));
    assert!(event_loop.is_done());
}

#[test]
fn a_message_that_is_not_complete_is_the_last() {
    let event_loop = Loop::open();
    let thread = stuck(&event_loop);
    event_loop.conversation.leave();
    assert_eq!(thread.join().unwrap(), Err(Unable::Closed(End::Leaving)));
    let output = event_loop.look().output;
    assert!(output[10..].iter().all(|byte| *byte == 0));
    assert!(!event_loop.is_done());
    event_loop.conversation.sent(output.len(), event_loop.now);
    assert!(event_loop.is_done());
}

#[test]
fn a_message_is_completed_in_front_of_a_close_frame() {
    let event_loop = Loop::open();
    let thread = stuck(&event_loop);
    event_loop.conversation.close(1000, "").unwrap();
    let mut output = Vec::new();
    while !thread.is_finished() {
        let part = event_loop.look().output;
        event_loop.conversation.sent(part.len(), event_loop.now);
        output.extend(part);
    }
    thread.join().unwrap().unwrap();
    output.extend(event_loop.look().output);
    let sent = frames(&output);
    assert_eq!(sent[0].payload.len(), 1_000_000);
    assert_eq!(sent[1..], [Frame::close(1000)]);
}

#[test]
fn whoever_waits_for_a_message_is_woken_by_it_or_by_the_end() {
    let event_loop = Loop::open();
    let receive = || {
        let receiver = Arc::clone(&event_loop.conversation);
        thread::spawn(move || receiver.receive())
    };
    let waits = receive();
    event_loop.feed(&client::text("x"));
    assert_eq!(waits.join().unwrap(), Ok(text("x")));
    let (one, other) = (receive(), receive());
    event_loop.conversation.gone();
    for waits in [one, other] {
        assert_eq!(waits.join().unwrap(), Err(Unable::Closed(End::Gone)));
    }
}
