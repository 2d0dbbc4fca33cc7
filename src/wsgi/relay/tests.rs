//! What two workers make of each other's words, step by step.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{Answer, Kind, Limit, MAX_HEAD, MAX_PIECE, Malformed};
use super::model::{Pair, head, taken};
use super::{Goes, OwnerEnd, PeerEnd};
use crate::wsgi::error::{Cancelled, Failure};
use crate::wsgi::exchange::model::buffering;
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::exchange::{
    Exchange, Follows, InFlight, Owed, Progress, ResponseSender, Room, Sink,
};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::{Level, Mail, Mailbox};
use crate::wsgi::offer::Offer;
use crate::wsgi::segment::Segment;

fn chunk(len: usize) -> Segment {
    Segment::Copied(vec![b'x'; len])
}

/// An exchange of the owner whose request is offered, with the offer as the peer has it.
fn offered(mailbox: &Arc<Mailbox>) -> (Arc<Exchange>, ResponseSender, Offer) {
    let word: &'static AtomicU32 = Box::leak(Box::default());
    let offer = Offer::make(word);
    let (exchange, sender) = Exchange::open(7, Buffering::in_memory(10), Arc::clone(mailbox));
    exchange.hand_over(offer.clone(), 7);
    (exchange, sender, offer)
}

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new(|| ()))
}

fn of(chunks: usize, bytes: usize) -> InFlight {
    InFlight { chunks, bytes, spooled: 0 }
}

#[test]
fn a_request_is_taken_back_and_queued_again_unless_it_has_been_taken() {
    let mailbox = mailbox();
    let (exchange, sender, peer) = offered(&mailbox);
    assert!(exchange.handed_over() == Some(7));
    let owner = OwnerEnd::new(sender);
    assert!(exchange.take_back() && exchange.handed_over().is_none() && !peer.take());
    let sender = owner.into_sender();
    assert_eq!(sender.begin(taken()), Ok(()));
    assert!(mailbox.collect(Vec::new()).is_empty());

    let (exchange, _sender, peer) = offered(&mailbox);
    assert!(peer.take() && !exchange.take_back() && exchange.handed_over() == Some(7));
    // Its time runs, though the peer has not said so yet.
    assert!(matches!(exchange.progress(), Progress::Silent(_)));
    assert!(exchange.taken().is_some());
}

#[test]
fn a_request_that_waits_in_another_worker_is_withdrawn_or_taken_and_never_both() {
    let mailbox = mailbox();
    let (exchange, _sender, peer) = offered(&mailbox);
    assert!(exchange.withdraw() && !peer.take());
    assert_eq!(exchange.cancel(), None);
    assert_eq!(exchange.take_owed(), Some(Owed::Cancel));
    let (exchange, _sender, peer) = offered(&mailbox);
    assert!(peer.take() && !exchange.withdraw() && !exchange.is_cancelled());
    let (exchange, _sender, peer) = offered(&mailbox);
    assert!(peer.take());
    // Its thread is to be watched.
    assert!(exchange.cancel().is_some());
    let (exchange, _sender, peer) = offered(&mailbox);
    assert!(exchange.cancel().is_none() && !peer.take());
}

#[test]
fn all_that_a_peer_is_owed_is_told_at_once() {
    let mailbox = mailbox();
    let (exchange, mut sender, peer) = offered(&mailbox);
    assert!(peer.take());
    sender.begin(taken()).unwrap();
    sender.send(chunk(6), Follows::AtOnce).unwrap();
    sender.send(chunk(3), Follows::AtOnce).unwrap();
    exchange.consumed(of(1, 6));
    exchange.consumed(of(1, 3));
    assert_eq!(mailbox.collect(Vec::new()), [Mail::Relay(7)]);
    assert_eq!(exchange.take_owed(), Some(Owed::Credit(of(2, 9))));
    assert_eq!(exchange.take_owed(), None);
    sender.send(chunk(3), Follows::AtOnce).unwrap();
    exchange.consumed(of(1, 3));
    exchange.discard();
    assert_eq!(mailbox.collect(Vec::new()), [Mail::Relay(7)]);
    assert_eq!(exchange.take_owed(), Some(Owed::Discard));
    exchange.consumed(of(1, 3));
    assert_eq!(exchange.take_owed(), None);
    exchange.cancel();
    exchange.discard();
    assert_eq!(mailbox.collect(Vec::new()), [Mail::Relay(7)]);
    assert_eq!(exchange.take_owed(), Some(Owed::Cancel));
}

/// Most responses: they cost no message back.
#[test]
fn a_peer_that_has_ended_is_told_nothing() {
    let mailbox = mailbox();
    let (exchange, mut sender, _) = offered(&mailbox);
    sender.begin(taken()).unwrap();
    sender.send(chunk(6), Follows::AtOnce).unwrap();
    sender.finish(Ok(()));
    drop(exchange.take());
    mailbox.collect(Vec::new());
    exchange.consumed(of(1, 6));
    exchange.discard();
    exchange.cancel();
    assert!(mailbox.collect(Vec::new()).is_empty());
    assert_eq!(exchange.take_owed(), None);
}

#[test]
fn a_request_of_this_worker_owes_nothing() {
    let mailbox = mailbox();
    let (exchange, mut sender) = Exchange::open(7, Buffering::in_memory(9), Arc::clone(&mailbox));
    sender.send(chunk(6), Follows::AtOnce).unwrap();
    exchange.consumed(of(1, 6));
    exchange.discard();
    exchange.cancel();
    assert!(mailbox.collect(Vec::new()).is_empty() && exchange.handed_over().is_none());
}

#[test]
fn a_client_that_is_waited_for_is_known_to_the_owner_until_it_has_taken_half() {
    let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    sender.head(head());
    assert_eq!(sender.send(chunk(4), Follows::Later), Ok(Room::Free));
    assert_eq!(sender.send(chunk(4), Follows::Later), Ok(Room::Full));
    pair.answer(9);
    pair.receive(9);
    assert!(matches!(pair.exchange.progress(), Progress::Silent(_)));
    let waiting = thread::spawn(move || (sender.make_room(b""), sender));
    while pair.peer.exchange().progress() != Progress::Blocked {
        thread::yield_now();
    }
    pair.answer(9);
    pair.receive(9);
    assert_eq!(pair.exchange.progress(), Progress::Blocked);
    assert!(pair.peer.answer().is_none(), "it is told once");
    pair.read(4);
    assert!(matches!(pair.exchange.progress(), Progress::Silent(_)));
    let (room, _sender) = waiting.join().unwrap();
    assert_eq!(room, Ok(Sink::Memory));
}

/// The peer's word crosses with the credit that ends the wait.
#[test]
fn a_peer_that_has_been_given_room_does_not_count_as_waiting() {
    let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    sender.head(head());
    sender.send(chunk(8), Follows::Later).unwrap();
    pair.answer(9);
    pair.receive(9);
    pair.client.read(8);
    pair.exchange.consumed(of(1, 8));
    assert_eq!(pair.owner.as_mut().unwrap().receive(Answer::Blocked), Ok(Goes::On));
    assert!(matches!(pair.exchange.progress(), Progress::Silent(_)));
}

#[test]
fn a_long_chunk_comes_in_pieces_as_there_is_room() {
    let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    sender.head(head());
    let len = 2 * MAX_PIECE + 1;
    sender.send(chunk(len), Follows::AtOnce).unwrap();
    sender.finish(Ok(()));
    pair.answer(99);
    pair.receive(99);
    assert_eq!(pair.exchange.ahead(), of(1, MAX_PIECE));
    assert_eq!(pair.peer.exchange().ahead(), of(2, len), "it was one, and is two");
    // The application has ended, but the client is waited for.
    assert_eq!(pair.exchange.progress(), Progress::Blocked);
    pair.read(MAX_PIECE as u64);
    pair.answer(99);
    pair.receive(99);
    assert!(pair.owner.is_some());
    pair.read(MAX_PIECE as u64);
    pair.answer(99);
    pair.receive(99);
    assert!(pair.owner.is_none() && pair.end == Some(Ok(())));
    pair.read(1);
    assert_eq!(pair.client.received.len(), len);
}

/// Else credit would be given for fewer than were sent.
#[test]
fn parts_of_the_file_stay_as_many_as_came() {
    let (mut pair, mut sender) = Pair::new(&buffering(4, 100));
    sender.begin(taken()).unwrap();
    sender.head(head());
    sender.send(chunk(4), Follows::Later).unwrap();
    pair.answer(9);
    for part in [b"one", b"two"] {
        assert_eq!(sender.make_room(part), Ok(Sink::File));
        pair.answer(9);
    }
    sender.finish(Ok(()));
    pair.answer(9);
    pair.receive(9);
    assert_eq!(pair.client.buffers.len(), 3);
    assert_eq!(pair.exchange.ahead(), InFlight { chunks: 3, bytes: 4, spooled: 6 });
    pair.client.read(10);
    assert_eq!(pair.client.received, b"xxxxonetwo");
}

/// What nginx's filters have read ahead gives no credit for the file, which is not used again.
#[test]
fn a_file_without_credit_does_not_hold_back_what_follows() {
    let (mut pair, mut sender) = Pair::new(&buffering(4, 100));
    sender.begin(taken()).unwrap();
    sender.head(head());
    sender.send(chunk(4), Follows::Later).unwrap();
    assert_eq!(sender.make_room(b"spooled"), Ok(Sink::File));
    pair.answer(9);
    pair.receive(9);
    assert_eq!(sender.make_room(b"more"), Ok(Sink::File));
    assert!(pair.peer.answer().is_none(), "the file is busy");
    pair.peer.credit(of(2, 4)).unwrap();
    let next = pair.peer.answer().map(|message| message.kind);
    let Some(Kind::Answer(Answer::Spooled { file: None, offset: 7, len: 4 })) = next else {
        unreachable!("{next:?}")
    };
}

#[test]
fn credit_for_what_was_not_sent_is_malformed() {
    let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    sender.head(head());
    sender.send(chunk(4), Follows::Later).unwrap();
    pair.answer(9);
    assert_eq!(pair.peer.credit(of(1, 5)), Err(Malformed("credit")));
    assert_eq!(pair.peer.credit(of(2, 4)), Err(Malformed("credit")));
    assert_eq!(pair.peer.credit(of(1, 4)), Ok(()));
    assert_eq!(pair.peer.credit(of(1, 0)), Err(Malformed("credit")));
    pair.peer.discard();
    assert_eq!(pair.peer.credit(of(1, 4)), Ok(()), "it may be under way");
}

#[test]
fn a_request_that_nobody_took_is_refused_and_not_lost() {
    let (mut pair, sender) = Pair::new(&Buffering::in_memory(8));
    assert!(pair.peer.answer().is_none());
    drop(sender);
    let next = pair.peer.answer().map(|message| message.kind);
    assert!(matches!(next, Some(Kind::Answer(Answer::No))), "{next:?}");
    assert!(pair.peer.is_done() && pair.peer.answer().is_none());
    assert_eq!(pair.owner.as_mut().unwrap().receive(Answer::No), Ok(Goes::Back));
    assert!(pair.exchange.take_back());
}

#[test]
fn a_runner_that_is_lost_ends_the_response_of_the_owner() {
    let (mut pair, sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    drop(sender);
    pair.answer(9);
    pair.receive(9);
    assert_eq!(pair.end, Some(Err(Failure::Lost)));
    // And so does the loss of the whole worker.
    let (mut pair, sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    assert!(!pair.exchange.take_back());
    pair.owner = None;
    pair.receive(0);
    assert_eq!(pair.end, Some(Err(Failure::Lost)));
}

#[test]
fn heads_of_any_length_come_whole_or_end_the_response() {
    for (fields, fits) in [(1, true), (9, true), (MAX_HEAD / 65_000 + 1, false)] {
        let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
        let mut long = head();
        for _ in 0..fields {
            long.push(b"X-Long", &[b'v'; 65_000]).unwrap();
        }
        sender.begin(taken()).unwrap();
        sender.head(long.clone());
        sender.send(chunk(2), Follows::Later).unwrap();
        pair.answer(99);
        pair.receive(99);
        assert_eq!(pair.head, fits.then_some(long));
        assert_eq!(pair.end, (!fits).then_some(Err(Failure::Protocol)));
        assert_eq!(sender.send(chunk(1), Follows::Later).is_ok(), fits);
    }
}

#[test]
fn answers_come_in_an_order_that_makes_sense() {
    let new = || {
        let (_, sender, _) = offered(&mailbox());
        OwnerEnd::new(sender)
    };
    let taken = || Answer::Taken { runner: 1, ago: Duration::from_millis(1) };
    let head = || Answer::Head(ResponseHead::new(b"200").unwrap());
    let part = |more| Answer::HeadPart { bytes: Bytes::from_static(b"x"), more };
    let chunk = || Answer::Chunk(Bytes::from_static(b"x"));
    let spooled = || Answer::Spooled { file: None, offset: 0, len: 1 };
    let wrong = Err(Malformed("order of answers"));
    for (before, last, want) in [
        (vec![], head(), wrong),
        (vec![], chunk(), wrong),
        (vec![], Answer::End(Ok(())), wrong),
        (vec![], Answer::Blocked, wrong),
        (vec![], Answer::Spent(Duration::ZERO), wrong),
        (vec![taken()], taken(), wrong),
        (vec![taken()], Answer::No, wrong),
        (vec![taken()], chunk(), wrong),
        (vec![taken(), head()], head(), wrong),
        (vec![taken(), head()], part(true), wrong),
        (vec![taken(), part(true)], head(), wrong),
        (vec![taken()], part(false), Err(Malformed("flags"))),
        (vec![taken(), head()], spooled(), Err(Malformed("temporary file"))),
        (vec![taken(), head()], chunk(), Ok(Goes::On)),
        (vec![taken()], Answer::End(Ok(())), Ok(Goes::Ended)),
    ] {
        let mut owner = new();
        for answer in before {
            assert_eq!(owner.receive(answer), Ok(Goes::On));
        }
        let told = format!("{last:?}");
        assert_eq!(owner.receive(last), want, "{told}");
    }
}

#[test]
fn times_and_lines_are_those_of_the_other_worker() {
    let mailbox = mailbox();
    let (exchange, sender, _) = offered(&mailbox);
    let mut owner = OwnerEnd::new(sender);
    let (before, ago) = (Instant::now(), Duration::from_millis(50));
    owner.receive(Answer::Log { level: Level::Warn, text: "early".to_owned() }).unwrap();
    owner.receive(Answer::Taken { runner: 4, ago }).unwrap();
    let found = exchange.taken().unwrap();
    assert_eq!(found.runner, 4);
    assert!(before - ago <= found.at && found.at <= Instant::now() - ago);
    assert_eq!(exchange.progress(), Progress::Silent(found.at));
    let [Mail::Log(line)] = &mailbox.collect(Vec::new())[..] else { unreachable!() };
    assert_eq!((line.exchange, line.level, &line.text[..]), (Some(7), Level::Warn, "early"));
    // Longer ago than there is a clock.
    let (_, sender, _) = offered(&mailbox);
    let ago = Duration::from_nanos(u64::MAX);
    assert_eq!(OwnerEnd::new(sender).receive(Answer::Taken { runner: 4, ago }), Ok(Goes::On));
}

#[test]
fn the_processor_time_of_the_other_worker_comes_before_the_end() {
    let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    sender.head(head());
    sender.spent(Duration::from_micros(312));
    sender.finish(Ok(()));
    pair.answer(99);
    assert!(pair.peer.is_done() && pair.exchange.cpu().is_none());
    pair.receive(99);
    assert_eq!((pair.end, pair.exchange.cpu()), (Some(Ok(())), Some(Duration::from_micros(312))));
}

#[test]
fn what_is_cancelled_is_not_heard_of_again() {
    let (mut pair, mut sender) = Pair::new(&Buffering::in_memory(8));
    sender.begin(taken()).unwrap();
    pair.answer(9);
    pair.exchange.cancel();
    pair.receive(9);
    pair.read(0);
    assert!(pair.peer.is_done() && pair.peer.answer().is_none());
    assert_eq!(sender.send(chunk(1), Follows::Later), Err(Cancelled));
    assert_eq!(pair.peer.credit(of(1, 1)), Ok(()), "it may be under way");
    // One that no thread has taken is to be removed from the queue.
    let (exchange, _sender) = Exchange::open(1, Buffering::in_memory(8), mailbox());
    assert_eq!(PeerEnd::new(7, exchange).cancel(), None);
}

#[test]
fn long_texts_are_divided_between_lines() {
    let line = "\u{e9}".repeat(500);
    let text = vec![&line[..]; 200].join("\n");
    let parts: Vec<String> = Answer::log(Level::Error, &text)
        .into_iter()
        .map(|answer| match answer {
            Answer::Log { level: Level::Error, text } if text.len() <= MAX_PIECE => text,
            other => unreachable!("{other:?}"),
        })
        .collect();
    assert!(parts.len() > 1 && parts.join("\n") == text);
    // Without lines, between characters.
    let endless = format!("x{}", "\u{e9}".repeat(MAX_PIECE));
    assert_eq!(Answer::log(Level::Info, &endless).len(), 3);
    assert_eq!(Limit::new(Duration::from_secs(1), &endless).title.len(), 2047);
}
