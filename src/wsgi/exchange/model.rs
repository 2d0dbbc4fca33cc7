//! Any response, any client: what comes out is what went in, within window and file.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use super::spool::{Buffering, Spooling};
use super::{Batch, Exchange, Follows, InFlight, ResponseSender, Room, Sink};
use crate::wsgi::error::{Cancelled, Failure};
use crate::wsgi::mailbox::Mailbox;
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::segment::Segment;
use crate::wsgi::tests::cases;

pub fn buffering(size: usize, limit: u64) -> Buffering {
    let spooling = Spooling { dir: std::env::temp_dir(), limit, grace: Duration::from_micros(50) };
    Buffering { spooling: (limit > 0).then(|| Arc::new(spooling)), ..Buffering::in_memory(size) }
}

fn open(buffering: Buffering) -> (Arc<Exchange>, ResponseSender) {
    Exchange::open(1, buffering, Arc::new(Mailbox::new(|| ())))
}

/// As `python/response/mod.rs` does it.
pub fn send_all(sender: &mut ResponseSender, chunks: &[Vec<u8>]) -> Result<(), Cancelled> {
    let mut full = false;
    for chunk in chunks {
        if full && (sender.append(chunk) || sender.make_room(chunk)? == Sink::File) {
            continue;
        }
        let copy = sender.copy(chunk);
        full = sender.send(copy, Follows::Later)? == Room::Full;
    }
    Ok(())
}

/// nginx and its client: buffers in order, emptied byte by byte.
#[derive(Default)]
pub struct Client {
    pub buffers: VecDeque<(Segment, u64)>,
    pub received: Vec<u8>,
}

impl Client {
    pub fn is_busy(&self) -> bool {
        self.buffers.iter().any(|(chunk, _)| matches!(chunk, Segment::Spooled { .. }))
    }

    fn file(&self) -> Option<Arc<File>> {
        self.buffers.iter().find_map(|(chunk, _)| match chunk {
            Segment::Spooled { file, .. } => Some(Arc::clone(file)),
            _ => None,
        })
    }

    /// Takes in so many bytes, and returns what was passed on by it.
    pub fn read(&mut self, mut wanted: u64) -> InFlight {
        let mut passed = InFlight::default();
        while let Some((chunk, done)) = self.buffers.front_mut() {
            let now = wanted.min(chunk.len() - *done);
            self.received.extend(part(chunk, *done, now));
            *done += now;
            wanted -= now;
            if *done < chunk.len() {
                break;
            }
            passed = passed.plus(InFlight::of(chunk));
            self.buffers.pop_front();
        }
        passed
    }
}

pub fn part(chunk: &Segment, from: u64, len: u64) -> Vec<u8> {
    let copy = match chunk {
        Segment::Memory(bytes) => Segment::Memory(bytes.clone()),
        Segment::Copied(block) => Segment::Copied(block.clone()),
        Segment::Spooled { file, offset, len } => {
            Segment::Spooled { file: Arc::clone(file), offset: *offset, len: *len }
        }
        Segment::File { .. } => unreachable!(),
    };
    let mut bytes = vec![0; len as usize];
    assert_eq!(RequestBody::new(vec![copy]).read_at(&mut bytes, from).unwrap(), bytes.len());
    bytes
}

/// Sizes of chunks, of which some are larger than a window.
pub fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![4 => 1..40usize, 2 => 40..300usize, 1 => 300..3000usize], 0..60)
}

/// Bytes the client takes at a time: now nothing, now all.
pub fn reads() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![2 => 0..3u64, 3 => 0..200u64, 1 => 200..10_000u64], 1..40)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_comes_out_is_what_went_in(
        sizes in sizes(),
        reads in reads(),
        window in 1..400usize,
        limit in prop_oneof![0..1u64, 1..500u64, 500..20_000u64],
        on in any::<bool>(),
    ) {
        let mut next = 0u32;
        let mut bytes = || { next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (next >> 24) as u8 };
        let chunks: Vec<Vec<u8>> =
            sizes.iter().map(|len| (0..*len).map(|_| bytes()).collect()).collect();
        let whole = chunks.concat();
        let longest = sizes.iter().copied().max().unwrap_or(0);
        let (exchange, mut sender) = open(Buffering { on, ..buffering(window, limit) });
        let application = thread::spawn(move || {
            send_all(&mut sender, &chunks).unwrap();
            sender.finish(Ok(()));
        });
        let mut client = Client::default();
        let mut ended = false;
        for wanted in reads.iter().chain([&500]).cycle() {
            let busy = client.is_busy();
            let Batch { chunks, end, .. } = if busy { exchange.take_urgent() } else { exchange.take() };
            ended |= end.is_some();
            // The file is one piece, with another behind it at the end or when all is full.
            client.buffers.extend(chunks.into_iter().map(|chunk| (chunk, 0)));
            let ahead = exchange.lock().ahead;
            assert!(ahead.bytes < window + longest.max(1), "{ahead:?}");
            if let Some(file) = client.file() {
                let len = file.metadata().unwrap().len();
                assert!(on && len <= limit, "{len} bytes in the file");
            }
            exchange.consumed(client.read(*wanted));
            if ended && client.buffers.is_empty() {
                break;
            }
            if *wanted == 0 {
                thread::yield_now();
            }
        }
        application.join().unwrap();
        assert!(client.received == whole);
        assert_eq!(exchange.lock().ahead, InFlight::default());
    }
}

/// A sender whose window is full, and that has written `rest` to its file.
fn spooled(limit: u64, rest: &[&[u8]]) -> (Arc<Exchange>, ResponseSender) {
    let (exchange, mut sender) = open(buffering(4, limit));
    sender.send(Segment::Memory(Bytes::from_static(b"full")), Follows::Later).unwrap();
    for chunk in rest {
        assert_eq!(sender.make_room(chunk), Ok(Sink::File));
    }
    (exchange, sender)
}

#[test]
fn what_is_in_the_file_grows_together() {
    let (exchange, mut sender) = spooled(100, &[b"ab", b"c"]);
    let batch = exchange.take();
    assert_eq!(batch.chunks.len(), 2);
    assert_eq!(part(&batch.chunks[1], 0, 3), b"abc");
    // While nginx is busy with this piece, the next ones become one too.
    for chunk in [b"d", b"e", b"f"] {
        assert_eq!(sender.make_room(chunk), Ok(Sink::File));
        assert!(exchange.take_urgent().chunks.is_empty());
    }
    assert!(exchange.mailbox.collect(Vec::new()).len() < 3);
    let next = exchange.take();
    assert_eq!(next.chunks.len(), 1);
    assert_eq!(part(&next.chunks[0], 0, 3), b"def");
}

#[test]
fn small_chunks_go_into_the_file_together_or_to_a_client_that_has_caught_up() {
    let (exchange, mut sender) = open(buffering(16, 100));
    sender.send(Segment::Memory(Bytes::from_static(&[b'm'; 16])), Follows::Later).unwrap();
    assert!(!sender.append(b"1"), "nothing is in the file");
    assert_eq!(sender.make_room(b"1"), Ok(Sink::File));
    let first = exchange.take();
    assert!(sender.append(b"ab") && sender.append(b"cd") && !sender.append(b"e"));
    assert_eq!(sender.make_room(b"e"), Ok(Sink::File));
    assert!(sender.append(b"f"));
    assert!(exchange.take_urgent().chunks.is_empty());
    let passed = first.chunks.iter().map(InFlight::of).fold(InFlight::default(), InFlight::plus);
    exchange.consumed(passed);
    let next = exchange.take();
    let found: Vec<_> = next.chunks.iter().map(|chunk| part(chunk, 0, chunk.len())).collect();
    assert_eq!(found, [&b"abcde"[..], b"f"]);
    let passed = next.chunks.iter().map(InFlight::of).fold(InFlight::default(), InFlight::plus);
    exchange.consumed(passed);
    assert_eq!(exchange.lock().ahead, InFlight::default());
}

#[test]
fn the_end_does_not_wait_for_the_file() {
    let (exchange, mut sender) = spooled(100, &[b"ab"]);
    exchange.take();
    assert_eq!(sender.make_room(b"cd"), Ok(Sink::File));
    assert!(exchange.take_urgent().end.is_none());
    exchange.mailbox.collect(Vec::new());
    sender.finish(Ok(()));
    assert_eq!(exchange.mailbox.collect(Vec::new()).len(), 1);
    let batch = exchange.take_urgent();
    assert_eq!((batch.chunks.len(), batch.end), (1, Some(Ok(()))));
}

#[test]
fn an_empty_file_is_used_from_its_start_and_its_pages_are_not_overwritten() {
    let (exchange, mut sender) = spooled(5, &[b"abcde"]);
    let chunks = exchange.take().chunks;
    exchange.consumed(InFlight { chunks: 1, bytes: 0, spooled: 5 });
    assert_eq!(sender.make_room(b"xy"), Ok(Sink::File));
    let Segment::Spooled { file, .. } = &chunks[1] else { unreachable!() };
    assert_eq!(file.metadata().unwrap().len(), 2);
}

#[test]
fn a_client_that_has_taken_all_gets_the_next_chunk_from_memory() {
    let (exchange, mut sender) = spooled(100, &[b"ab"]);
    exchange.take();
    exchange.consumed(InFlight { chunks: 2, bytes: 4, spooled: 2 });
    assert_eq!(sender.make_room(b"cd"), Ok(Sink::Memory));
}

#[test]
fn the_file_is_closed_as_soon_as_nobody_reads() {
    let (exchange, mut sender) = spooled(100, &[b"ab"]);
    let file = match exchange.take().chunks.pop() {
        Some(Segment::Spooled { file, .. }) => Arc::downgrade(&file),
        other => unreachable!("{other:?}"),
    };
    assert!(file.upgrade().is_some());
    exchange.cancel();
    assert!(file.upgrade().is_none());
    assert_eq!(sender.make_room(b"cd"), Err(Cancelled));
}

#[test]
fn a_file_that_cannot_be_written_ends_the_response_and_is_logged_once() {
    let spooling = Spooling { dir: "/nowhere\n".into(), limit: 9, grace: Duration::ZERO };
    let spooling = Some(Arc::new(spooling));
    let (exchange, mut sender) = open(Buffering { spooling, ..Buffering::in_memory(1) });
    sender.send(Segment::Memory(Bytes::from_static(b"full")), Follows::Later).unwrap();
    assert_eq!(sender.make_room(b"x"), Err(Cancelled));
    assert!(sender.is_cancelled());
    assert_eq!(sender.make_room(b"x"), Err(Cancelled));
    let batch = exchange.take_urgent();
    assert_eq!((batch.chunks.len(), batch.end), (1, Some(Err(Failure::Spool))));
    let mails = format!("{:?}", exchange.mailbox.collect(Vec::new()));
    assert_eq!(mails.matches("LogRecord").count(), 1, "{mails}");
    assert!(mails.contains("No such file or directory") && !mails.contains('\n'), "{mails}");
}
