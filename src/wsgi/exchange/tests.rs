//! The exchange between one sender and an event loop that is the test.

use super::spool::Buffering;
use super::state::MAX_CHUNKS;
use super::*;
use crate::wsgi::offer::Offer;
use bytes::Bytes;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::thread;

fn chunk(bytes: &'static [u8]) -> Segment {
    Segment::Memory(Bytes::from_static(bytes))
}

fn exchange(window: usize) -> (Arc<Mailbox>, Arc<Exchange>, ResponseSender) {
    let mailbox = Arc::new(Mailbox::new(|| ()));
    let (exchange, sender) = Exchange::open(7, Buffering::in_memory(window), Arc::clone(&mailbox));
    (mailbox, exchange, sender)
}

fn taken() -> Taken {
    Taken { at: Instant::now(), runner: 1 }
}

#[test]
fn head_chunks_and_end_come_in_one_batch() {
    let (mailbox, exchange, mut sender) = exchange(100);
    sender.begin(taken()).unwrap();
    sender.head(ResponseHead::new(b"200 OK").unwrap());
    assert_eq!(sender.send(chunk(b"ab"), Follows::AtOnce), Ok(Room::Free));
    assert!(mailbox.collect(Vec::new()).is_empty());
    sender.finish(Ok(()));
    drop(sender);
    assert_eq!(mailbox.collect(Vec::new()), [Mail::Response(7)]);
    let batch = exchange.take();
    assert_eq!(batch.head.unwrap().code(), 200);
    assert!(matches!(&batch.chunks[..], [Segment::Memory(bytes)] if bytes == "ab"));
    assert_eq!(batch.end, Some(Ok(())));
    assert_eq!(exchange.progress(), Progress::Ended);
}

/// A thread has popped the request, and is about to take it.
#[test]
fn a_request_that_is_cancelled_at_the_last_moment_is_not_taken_unseen() {
    let (_mailbox, exchange, sender) = exchange(100);
    let state = exchange.lock();
    thread::scope(|scope| {
        let begins = scope.spawn(|| sender.begin(taken()));
        // Time for it to look too early.
        thread::sleep(Duration::from_millis(20));
        exchange.cancelled.store(true, Ordering::Release);
        assert_eq!(state.taken, None);
        drop(state);
        assert_eq!(begins.join().unwrap(), Err(Cancelled));
    });
    assert_eq!(exchange.cancel(), None);
}

#[test]
fn a_request_is_withdrawn_or_taken_and_never_both() {
    let (_mailbox, early, sender) = exchange(100);
    assert!(early.withdraw());
    assert_eq!(sender.begin(taken()), Err(Cancelled));
    let (_mailbox, late, sender) = exchange(100);
    sender.begin(taken()).unwrap();
    assert!(!late.withdraw() && !late.is_cancelled());
    assert!(late.cancel().is_some());
}

#[test]
fn a_request_of_another_worker_begins_only_with_its_offer() {
    let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    let (_mailbox, first, sender) = exchange(100);
    let offer = Offer::make(word);
    first.require(Offer::told(word, offer.epoch()));
    assert!(offer.withdraw());
    assert_eq!(sender.begin(taken()), Err(Cancelled));
    assert_eq!((first.taken(), first.progress()), (None, Progress::Queued));
    let (_mailbox, second, sender) = exchange(100);
    let offer = Offer::make(word);
    second.require(Offer::told(word, offer.epoch()));
    assert_eq!(sender.begin(taken()), Ok(()));
    assert!(second.taken().is_some() && !offer.withdraw());
    // Nothing is taken for a request that will not run.
    let (_mailbox, third, sender) = exchange(100);
    let offer = Offer::make(word);
    third.require(Offer::told(word, offer.epoch()));
    third.cancel();
    assert_eq!(sender.begin(taken()), Err(Cancelled));
    assert!(offer.withdraw());
}

#[test]
fn a_lost_sender_ends_the_exchange() {
    let (_mailbox, exchange, sender) = exchange(100);
    drop(sender);
    assert_eq!(exchange.take().end, Some(Err(Failure::Lost)));
}

#[test]
fn the_window_blocks_until_half_of_it_is_free() {
    let (_mailbox, exchange, mut sender) = exchange(4);
    assert_eq!(sender.send(chunk(b"abc"), Follows::Later), Ok(Room::Free));
    assert_eq!(sender.send(chunk(b"de"), Follows::AtOnce), Ok(Room::Full));
    let waiting = thread::spawn(move || {
        assert_eq!(sender.make_room(b""), Ok(Sink::Memory));
        sender
    });
    while exchange.progress() != Progress::Blocked {
        thread::yield_now();
    }
    exchange.consumed(InFlight { chunks: 0, bytes: 1, spooled: 0 });
    exchange.consumed(InFlight { chunks: 1, bytes: 2, spooled: 0 });
    let mut sender = waiting.join().unwrap();
    assert!(matches!(exchange.progress(), Progress::Silent(_)));
    assert_eq!(sender.send(chunk(b"f"), Follows::Later), Ok(Room::Free));
}

/// Else it would run into the lock at once, and sleep.
#[test]
fn the_event_loop_is_woken_without_the_lock() {
    let opened = Arc::new(OnceLock::<Arc<Exchange>>::new());
    let woken = Arc::new(AtomicUsize::new(0));
    let (looked_at, count) = (Arc::clone(&opened), Arc::clone(&woken));
    let mailbox = Arc::new(Mailbox::new(move || {
        let exchange = looked_at.get().expect("opened before it is used");
        assert!(exchange.state.try_lock().is_ok());
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let (exchange, mut sender) = Exchange::open(7, Buffering::in_memory(4), Arc::clone(&mailbox));
    assert!(opened.set(Arc::clone(&exchange)).is_ok());
    let collect = || {
        drop(exchange.take());
        mailbox.collect(Vec::new()).len()
    };
    assert_eq!(sender.send(chunk(b"abcd"), Follows::Later), Ok(Room::Full));
    assert_eq!((woken.load(Ordering::SeqCst), collect()), (1, 1));
    let waiting = thread::spawn(move || {
        assert_eq!(sender.make_room(b""), Ok(Sink::Memory));
        sender
    });
    while woken.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
        assert!(!waiting.is_finished());
    }
    exchange.consumed(InFlight { chunks: 1, bytes: 4, spooled: 0 });
    let mut sender = waiting.join().unwrap();
    collect();
    sender.finish(Ok(()));
    assert_eq!((woken.load(Ordering::SeqCst), collect()), (3, 1));
}

#[test]
fn chunks_are_left_to_a_look_that_comes_soon_but_for_room() {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let mailbox = Arc::new(Mailbox::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let (exchange, mut sender) = Exchange::open(7, Buffering::in_memory(4), Arc::clone(&mailbox));
    mailbox.expect_look();
    assert_eq!(sender.send(chunk(b"ab"), Follows::Later), Ok(Room::Free));
    assert_eq!(sender.send(chunk(b"cd"), Follows::Later), Ok(Room::Full));
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    let waiting = thread::spawn(move || (sender.make_room(b""), sender));
    while woken.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
        assert!(!waiting.is_finished());
    }
    assert!(mailbox.collect(Vec::new()).contains(&Mail::Response(7)));
    exchange.consumed(InFlight { chunks: exchange.take().chunks.len(), bytes: 4, spooled: 0 });
    let (room, mut sender) = waiting.join().unwrap();
    assert_eq!(room, Ok(Sink::Memory));
    // No look is to come.
    mailbox.look_begins();
    mailbox.collect(Vec::new());
    assert_eq!(sender.send(chunk(b"e"), Follows::Later), Ok(Room::Free));
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}

/// With a temporary file the thread waits a little for the client first.
#[test]
fn a_client_that_is_given_a_little_time_is_told_at_once() {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let mailbox = Arc::new(Mailbox::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let buffering = super::model::buffering(4, 100);
    let (_exchange, mut sender) = Exchange::open(7, buffering, Arc::clone(&mailbox));
    mailbox.expect_look();
    assert_eq!(sender.send(chunk(b"abcd"), Follows::Later), Ok(Room::Full));
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    assert_eq!(sender.make_room(b"e"), Ok(Sink::File));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

/// Room that comes while the event loop is being told that there is none is not missed.
#[test]
fn room_that_comes_in_between_ends_the_wait() {
    let opened = Arc::new(OnceLock::<Arc<Exchange>>::new());
    let passes = Arc::clone(&opened);
    let mailbox = Arc::new(Mailbox::new(move || {
        let exchange = passes.get().expect("opened before it is used");
        drop(exchange.take());
        exchange.consumed(InFlight { chunks: 1, bytes: 4, spooled: 0 });
    }));
    let (exchange, mut sender) = Exchange::open(7, Buffering::in_memory(4), mailbox);
    assert!(opened.set(exchange).is_ok());
    assert_eq!(sender.send(chunk(b"abcd"), Follows::AtOnce), Ok(Room::Full));
    assert_eq!(sender.make_room(b""), Ok(Sink::Memory));
}

#[test]
fn many_small_chunks_fill_the_window_too() {
    let (_mailbox, exchange, mut sender) = exchange(1 << 20);
    for _ in 1..MAX_CHUNKS {
        assert_eq!(sender.send(chunk(b"x"), Follows::Later), Ok(Room::Free));
    }
    assert_eq!(sender.send(chunk(b"x"), Follows::Later), Ok(Room::Full));
    exchange.consumed(InFlight { chunks: MAX_CHUNKS / 2, bytes: MAX_CHUNKS / 2, spooled: 0 });
    assert_eq!(sender.make_room(b""), Ok(Sink::Memory));
}

#[test]
fn what_is_held_back_is_consumed_once() {
    let of = |chunks, bytes| InFlight { chunks, bytes, spooled: 0 };
    let mut held = HeldBack::default();
    assert_eq!(held.settle(of(1, 10)), of(1, 10));
    assert_eq!(held.raise_to(of(2, 30)), of(2, 30));
    assert_eq!(held.raise_to(of(3, 35)), of(1, 5));
    assert_eq!(held.settle(of(2, 30)), of(0, 0));
    assert_eq!(held.settle(of(2, 9)), of(1, 4));
    assert_eq!(held.settle(of(1, 1)), of(1, 1));
}

#[test]
fn cancelling_wakes_a_blocked_sender_and_drops_what_is_queued() {
    let (mailbox, exchange, mut sender) = exchange(1);
    assert_eq!(sender.send(chunk(b"abc"), Follows::Later), Ok(Room::Full));
    let waiting = thread::spawn(move || (sender.make_room(b""), sender));
    exchange.cancel();
    let (result, mut sender) = waiting.join().unwrap();
    assert_eq!(result, Err(Cancelled));
    assert_eq!(sender.send(chunk(b""), Follows::Later), Err(Cancelled));
    assert_eq!(sender.begin(taken()), Err(Cancelled));
    mailbox.collect(Vec::new());
    sender.finish(Ok(()));
    assert!(mailbox.collect(Vec::new()).is_empty());
    assert!(exchange.take().chunks.is_empty());
}

#[test]
fn nothing_follows_the_end() {
    let (_mailbox, exchange, mut sender) = exchange(1);
    assert_eq!(sender.send(chunk(b"abc"), Follows::Later), Ok(Room::Full));
    let ender = sender.ender();
    let waiting = thread::spawn(move || (sender.make_room(b""), sender));
    ender.finish(Err(Failure::Application));
    let (result, mut sender) = waiting.join().unwrap();
    assert_eq!(result, Err(Cancelled));
    sender.head(ResponseHead::new(b"200 OK").unwrap());
    assert_eq!(sender.send(chunk(b"late"), Follows::Later), Err(Cancelled));
    sender.finish(Ok(()));
    assert_eq!(exchange.progress(), Progress::Ended);
    let batch = exchange.take();
    assert!(batch.head.is_none() && batch.chunks.len() == 1);
    assert_eq!(batch.end, Some(Err(Failure::Application)));
}

#[test]
fn only_silence_of_a_running_application_counts() {
    let now = Instant::now();
    let limit = Duration::from_secs(5);
    let later = now + Duration::from_secs(3);
    assert_eq!(time_left(Progress::Silent(now), limit, later), Some(Duration::from_secs(2)));
    assert_eq!(time_left(Progress::Silent(now), limit, now + limit * 2), Some(Duration::ZERO));
    assert_eq!(time_left(Progress::Queued, limit, later), None);
    assert_eq!(time_left(Progress::Blocked, limit, later), None);
}
