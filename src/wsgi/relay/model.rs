//! Any response of another worker, any client: what comes out is what went in, within the window.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::message::{Answer, Kind, MAX_PIECE, Message, Order};
use super::{Goes, OwnerEnd, PeerEnd};
use crate::wsgi::error::Cancelled;
use crate::wsgi::exchange::model::{Client, buffering, reads, send_all, sizes};
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::exchange::{Batch, End, Exchange, InFlight, ResponseSender, Taken};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::{ExchangeId, Mail, Mailbox};
use crate::wsgi::offer::Offer;
use crate::wsgi::tests::cases;

/// The owner's number for the request, and the peer's.
const ID: ExchangeId = 7;
const LOCAL: ExchangeId = 31;

/// One direction of a link: nothing is lost, and the order is kept.
#[derive(Default)]
struct Link(VecDeque<(Vec<u8>, Vec<OwnedFd>)>);

impl Link {
    fn send(&mut self, message: &Message) {
        let mut bytes = Vec::new();
        let fds = message.encode(&mut bytes);
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
        self.0.push_back((bytes, fds));
    }

    fn receive(&mut self) -> Option<Kind> {
        let (bytes, fds) = self.0.pop_front()?;
        let Message { id, kind } = Message::decode(&bytes, fds).unwrap();
        assert_eq!(id, ID);
        Some(kind)
    }
}

/// Two workers, of which this thread is both event loops.
pub struct Pair {
    pub exchange: Arc<Exchange>,
    mailbox: Arc<Mailbox>,
    pub owner: Option<OwnerEnd>,
    pub peer: PeerEnd,
    answers: Link,
    orders: Link,
    pub client: Client,
    pub head: Option<ResponseHead>,
    pub end: Option<End>,
    /// All credit that was given, and what it was given for.
    given: InFlight,
    sent: InFlight,
}

impl Pair {
    /// With what the runner of the peer has.
    pub fn new(buffering: &Buffering) -> (Self, ResponseSender) {
        let word: &'static AtomicU32 = Box::leak(Box::default());
        let offer = Offer::make(word);
        let mailbox = Arc::new(Mailbox::new(|| ()));
        let (exchange, sender) = Exchange::open(ID, buffering.clone(), Arc::clone(&mailbox));
        exchange.hand_over(offer.clone(), 7);
        let mail = Arc::new(Mailbox::new(|| ()));
        let (local, runner) = Exchange::open(LOCAL, buffering.clone(), mail);
        local.require(Offer::told(word, offer.epoch()));
        let pair = Self {
            exchange,
            mailbox,
            owner: Some(OwnerEnd::new(sender)),
            peer: PeerEnd::new(ID, local),
            answers: Link::default(),
            orders: Link::default(),
            client: Client::default(),
            head: None,
            end: None,
            given: InFlight::default(),
            sent: InFlight::default(),
        };
        (pair, runner)
    }

    /// The peer's event loop: says at most so much.
    pub fn answer(&mut self, most: usize) {
        for _ in 0..most {
            let Some(message) = self.peer.answer() else { return };
            self.answers.send(&message);
        }
    }

    /// The owner's event loop: takes in at most so much, and passes it to nginx.
    pub fn receive(&mut self, most: usize) {
        for _ in 0..most {
            let Some(Kind::Answer(answer)) = self.answers.receive() else { break };
            let sent = match &answer {
                Answer::Chunk(bytes) => InFlight { chunks: 1, bytes: bytes.len(), spooled: 0 },
                Answer::Spooled { len, .. } => InFlight { chunks: 1, bytes: 0, spooled: *len },
                _ => InFlight::default(),
            };
            self.sent = self.sent.plus(sent);
            let Some(owner) = &mut self.owner else { continue };
            if owner.receive(answer).unwrap() == Goes::Ended {
                self.owner = None;
            }
        }
        let is_busy = self.client.is_busy();
        let Batch { head, chunks, end } =
            if is_busy { self.exchange.take_urgent() } else { self.exchange.take() };
        self.client.buffers.extend(chunks.into_iter().map(|chunk| (chunk, 0)));
        self.head = self.head.take().or(head);
        self.end = self.end.or(end);
    }

    /// The client takes so much; what the peer is to be told goes its way, and is heard.
    pub fn read(&mut self, wanted: u64) {
        let passed = self.client.read(wanted);
        if passed != InFlight::default() {
            self.exchange.consumed(passed);
        }
        self.tell();
        while let Some(Kind::Order(order)) = self.orders.receive() {
            match order {
                Order::Credit(passed) => self.peer.credit(passed).unwrap(),
                Order::Discard => self.peer.discard(),
                Order::Stacks => unreachable!("it is about no request"),
                Order::Cancel => drop(self.peer.cancel()),
                other => unreachable!("{other:?}"),
            }
        }
    }

    /// Once for all that there is to tell, when mail says so.
    fn tell(&mut self) {
        let mails = self.mailbox.collect(Vec::new());
        let relays = mails.iter().filter(|mail| **mail == Mail::Relay(ID)).count();
        assert!(relays <= 1, "{mails:?}");
        if let Some(owner) = &self.owner {
            let order = owner.order();
            assert_eq!(order.is_some(), relays == 1, "{order:?}");
            if let Some(message) = order {
                if let Kind::Order(Order::Credit(passed)) = &message.kind {
                    self.given = self.given.plus(*passed);
                    assert!(self.sent.checked_minus(self.given).is_some(), "more than was sent");
                }
                self.orders.send(&message);
            }
        }
    }
}

pub fn taken() -> Taken {
    Taken { at: Instant::now(), runner: 3 }
}

pub fn head() -> ResponseHead {
    ResponseHead::new(b"200 OK").unwrap()
}

/// Sends all of it, as a runner does.
fn run(mut sender: ResponseSender, chunks: Vec<Vec<u8>>) -> JoinHandle<Result<(), Cancelled>> {
    thread::spawn(move || {
        sender.begin(taken())?;
        sender.head(head());
        let sent = send_all(&mut sender, &chunks);
        sender.finish(Ok(()));
        sent
    })
}

/// Chunks of these sizes, no two alike.
fn chunks(sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut next = 0u32;
    let mut byte = || {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (next >> 24) as u8
    };
    sizes.iter().map(|len| (0..*len).map(|_| byte()).collect()).collect()
}

/// How the owner loses its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Cancel,
    Discard,
}

/// After how many steps, if ever.
fn stop() -> impl Strategy<Value = Option<(usize, Stop)>> {
    let stop = prop_oneof![Just(Stop::Cancel), Just(Stop::Discard)];
    prop_oneof![Just(None), (0..40usize, stop).prop_map(Some)]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_comes_out_of_another_worker_is_what_went_in_there(
        sizes in prop_oneof![4 => sizes(), 1 => vec(1..200_000usize, 1..5)],
        reads in reads(),
        steps in vec((0..5usize, 0..5usize), 1..20),
        window in prop_oneof![4 => 1..400usize, 1 => 1000..150_000usize],
        limit in prop_oneof![0..1u64, 1..500u64, 500..20_000u64],
        on in any::<bool>(),
        stop in stop(),
    ) {
        let chunks = chunks(&sizes);
        let whole = chunks.concat();
        let buffering = Buffering { on, ..buffering(window, limit) };
        let (mut pair, sender) = Pair::new(&buffering);
        let application = run(sender, chunks);
        let (most, begun) = (buffering.window().max(1) + MAX_PIECE, Instant::now());
        let steps = steps.iter().chain([&(4, 4)]).cycle();
        let mut round = steps.zip(reads.iter().chain([&50_000]).cycle());
        let mut stopped = None;
        for step in 0.. {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            if let Some((_, stop)) = stop.filter(|(at, _)| *at == step) {
                stopped = Some(stop);
                match stop {
                    Stop::Cancel => drop(pair.exchange.cancel()),
                    Stop::Discard => pair.exchange.discard(),
                }
            }
            let ((says, hears), wanted) = round.next().unwrap();
            pair.answer(*says + 1);
            pair.receive(*hears);
            let held = pair.exchange.ahead().bytes;
            assert!(held < most, "{held} bytes for a window of {window}");
            pair.read(*wanted);
            let is_read = pair.end.is_some() && pair.client.buffers.is_empty();
            if is_read || stopped == Some(Stop::Cancel) {
                break;
            }
            if *wanted == 0 {
                thread::yield_now();
            }
        }
        let ran = application.join().unwrap();
        if stopped == Some(Stop::Cancel) {
            while pair.peer.answer().is_some() {}
            assert!(pair.peer.is_done());
        } else {
            assert_eq!((ran, pair.end), (Ok(()), Some(Ok(()))));
            assert!(pair.peer.is_done() && pair.owner.is_none());
            assert_eq!(pair.exchange.taken().map(|taken| taken.runner), Some(3));
            assert_eq!(pair.head.as_ref().map(ResponseHead::code), Some(200));
        }
        match stopped {
            None => assert!(pair.client.received == whole),
            Some(Stop::Cancel) => assert!(whole.starts_with(&pair.client.received)),
            Some(Stop::Discard) => (),
        }
    }
}
