//! The messages between workers.

use std::fmt::Write;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};

use super::relay_laws::{a_message_has_one_form, a_packet_has_one_form};
use super::{bytes, cases};
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::InFlight;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::Level;
use crate::wsgi::relay::codec::{decode_head, encode_head, head_len};
use crate::wsgi::relay::message::{
    Answer, Kind, Limit, MAX_DESCRIPTORS, MAX_MESSAGE, MAX_PIECE, Malformed, Message, Order, Run,
    Settings, Ticket,
};
use crate::wsgi::relay::packet::{pack, unpack};
use crate::wsgi::request::Flags;
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::request::vars::{Vars, VarsWriter};
use crate::wsgi::segment::Segment;

/// An open file, each time another one.
fn file() -> impl Strategy<Value = File> {
    Just(()).prop_map(|()| tempfile::tempfile().unwrap())
}

/// Offset and length that nginx's `off_t` can hold together.
fn range(least: u64) -> impl Strategy<Value = (u64, u64)> {
    let most = i64::MAX as u64;
    prop_oneof![(0..99u64, least..99u64), (0..most / 2, least..most / 2)]
}

fn vars() -> impl Strategy<Value = Vars> {
    vec((bytes(20), bytes(60)), 0..6).prop_map(|list| {
        let mut writer = VarsWriter::default();
        for (name, value) in &list {
            writer.push(name, value).unwrap();
        }
        writer.finish()
    })
}

fn body() -> impl Strategy<Value = Option<Arc<RequestBody>>> {
    let segment = prop_oneof![
        bytes(60).prop_map(Segment::Copied),
        bytes(60).prop_map(|bytes| Segment::Memory(bytes.into())),
        (file(), 0..999u64, 0..999u64).prop_map(|(file, offset, len)| Segment::File {
            file,
            offset,
            len
        }),
    ];
    vec(segment, 0..4)
        .prop_map(|segments| (!segments.is_empty()).then(|| Arc::new(RequestBody::new(segments))))
}

fn run() -> impl Strategy<Value = Run> {
    let buffering = (any::<[bool; 2]>(), any::<usize>(), option::of(any::<u32>()));
    let limit = option::of((1..u64::MAX, any::<String>())).prop_map(|limit| {
        limit.map(|(time, title)| Limit::new(Duration::from_nanos(time), &title))
    });
    let times = (any::<u64>(), limit);
    (any::<[u32; 4]>(), times, any::<[bool; 5]>(), buffering, vars(), body()).prop_map(
        |(
            [app, pool, word, epoch],
            (waited, limit),
            flags,
            (words, size, spooling),
            vars,
            body,
        )| {
            let [head, ignores_redirect, multithread, multiprocess, debug] = flags;
            let [on, heeds_header] = words;
            Run {
                app,
                pool,
                ticket: Ticket { word, epoch },
                waited: Duration::from_nanos(waited),
                limit,
                flags: Flags { head, ignores_redirect, multithread, multiprocess, debug },
                buffering: Settings { on, heeds_header, size, spooling },
                vars,
                body,
            }
        },
    )
}

fn head() -> impl Strategy<Value = ResponseHead> {
    let field = prop_oneof![
        ("[A-Za-z-]{1,20}", "[ -~]{0,40}"),
        ("[xX]-[aA]ccel-[bB]uffering", "yes|no|maybe"),
        ("[xX]-[aA]ccel-[rR]edirect", "/[a-z]{1,9}"),
        ("[cC]ontent-[lL]ength", "[0-9]{1,18}"),
    ];
    let status = select(vec!["200 OK", "404", "599 Sm\u{f6}rg\tas", "304 Not Modified"]);
    let length = option::of(0..i64::MAX as u64);
    (status, vec(field, 0..9), length, any::<[bool; 2]>()).prop_map(
        |(status, fields, length, [is_file, ignores])| {
            let mut head = ResponseHead::new(status.as_bytes()).unwrap();
            for (name, value) in fields {
                // Some names are not the application's, and a length may be there already.
                let _ = head.push(name.as_bytes(), value.as_bytes());
            }
            if let Some(length) = length {
                head.set_content_length(length);
            }
            if is_file {
                head.set_file();
            }
            if ignores {
                head.ignore_redirect();
            }
            head
        },
    )
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        run().prop_map(|run| Order::Run(Box::new(run))),
        Just(()).prop_map(|()| Order::Cancel),
        Just(()).prop_map(|()| Order::Discard),
        (any::<usize>(), any::<usize>(), any::<u64>()).prop_map(|(chunks, bytes, spooled)| {
            Order::Credit(InFlight { chunks, bytes, spooled })
        }),
        any::<u32>().prop_map(Order::Stack),
        Just(()).prop_map(|()| Order::Stacks),
    ]
}

fn answer() -> BoxedStrategy<Answer> {
    use Failure::{Application, Import, Lost, Protocol, Spool, Underrun};
    use Level::{Alert, Crit, Debug, Emerg, Error, Info, Notice, Warn};
    let ends = [Application, Protocol, Underrun, Import, Spool, Lost].map(Err);
    let ends: Vec<_> = ends.into_iter().chain([Ok(())]).collect();
    let piece = || vec(any::<u8>(), 1..300).prop_map(Bytes::from);
    prop_oneof![
        select(vec![(); 1]).prop_map(|()| Answer::No),
        (any::<usize>(), any::<u64>())
            .prop_map(|(runner, ago)| Answer::Taken { runner, ago: Duration::from_nanos(ago) }),
        head().prop_map(Answer::Head),
        (piece(), any::<bool>()).prop_map(|(bytes, more)| Answer::HeadPart { bytes, more }),
        piece().prop_map(Answer::Chunk),
        (file(), range(1)).prop_map(|(file, (offset, len))| Answer::File { file, offset, len }),
        (file(), any::<bool>(), range(1)).prop_map(|(file, is_first, (offset, len))| {
            Answer::Spooled { file: is_first.then(|| Arc::new(file)), offset, len }
        }),
        select(vec![(); 1]).prop_map(|()| Answer::Blocked),
        any::<u64>().prop_map(|cpu| Answer::Spent(Duration::from_nanos(cpu))),
        select(ends).prop_map(Answer::End),
        (select(vec![Emerg, Alert, Crit, Error, Warn, Notice, Info, Debug]), any::<String>())
            .prop_map(|(level, text)| Answer::Log { level, text }),
        any::<(String, bool)>().prop_map(|(text, more)| Answer::Stacks { text, more }),
    ]
    .boxed()
}

fn message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![order().prop_map(Kind::Order), answer().prop_map(Kind::Answer)];
    (any::<u64>(), kind).prop_map(|(id, kind)| Message { id, kind })
}

/// Which file it is, whatever the number of its descriptor.
fn name(file: &File) -> String {
    let found = file.metadata().unwrap();
    format!("{}:{}", found.dev(), found.ino())
}

/// All that a message says.
fn told(message: &Message) -> String {
    let mut text = format!("{} ", message.id);
    match &message.kind {
        Kind::Order(Order::Run(run)) => {
            let Run { app, pool, ticket, waited, limit, flags, buffering, vars, body } = &**run;
            let all = (app, pool, ticket, waited, limit, flags, buffering, vars);
            write!(text, "{all:?}").unwrap();
            for segment in body.iter().flat_map(|body| body.segments()) {
                match segment {
                    Segment::File { file, offset, len } => {
                        write!(text, " {} {offset} {len}", name(file)).unwrap();
                    }
                    other => write!(text, " {:?}", other.bytes()).unwrap(),
                }
            }
        }
        Kind::Answer(Answer::File { file, offset, len }) => {
            write!(text, "file {} {offset} {len}", name(file)).unwrap();
        }
        Kind::Answer(Answer::Spooled { file, offset, len }) => {
            let file = file.as_ref().map(|file| name(file));
            write!(text, "spooled {file:?} {offset} {len}").unwrap();
        }
        other => write!(text, "{other:?}").unwrap(),
    }
    text
}

/// Through the link: the bytes, and descriptors of the receiver's own.
fn passed(message: &Message) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut out = Vec::new();
    let fds = message.encode(&mut out);
    let fds = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    (out, fds)
}

fn malformed(message: &Message, change: impl FnOnce(&mut Vec<u8>)) -> Malformed {
    let (mut bytes, fds) = passed(message);
    change(&mut bytes);
    Message::decode(&bytes, fds).unwrap_err()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_message_comes_back(message in message()) {
        let (bytes, fds) = passed(&message);
        let again = Message::decode(&bytes, fds).unwrap();
        assert_eq!(told(&again), told(&message));
        assert_eq!(passed(&again).0, bytes);
    }

    #[test]
    fn packets_bring_messages_in_their_order(messages in vec(message(), 0..9)) {
        let (mut rest, mut came, mut out) = (&messages[..], Vec::new(), Vec::new());
        while !rest.is_empty() {
            let (count, fds) = pack(rest, &mut out);
            let fds: Vec<_> = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
            a_packet_has_one_form(&out, fds.len());
            came.extend(unpack(&out, fds).map(|message| told(&message.unwrap())));
            rest = &rest[count..];
        }
        assert_eq!(came, messages.iter().map(told).collect::<Vec<_>>());
    }

    #[test]
    fn a_message_with_other_descriptors_or_another_length_is_refused(
        message in message(),
        end in any::<Index>(),
        more in 1..9usize,
    ) {
        let (bytes, fds) = passed(&message);
        let others = || (0..more).map(|_| File::open("/dev/null").unwrap().into());
        let all = fds.into_iter().chain(others()).collect();
        assert!(Message::decode(&bytes, all).is_err());
        if !passed(&message).1.is_empty() {
            assert!(Message::decode(&bytes, Vec::new()).is_err());
        }
        a_message_has_one_form(&bytes[..end.index(bytes.len())], passed(&message).1.len());
    }

    #[test]
    fn a_damaged_message_is_refused_or_another_message(
        message in message(),
        damage in vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let (mut bytes, fds) = passed(&message);
        for (place, byte, inserts) in damage {
            let place = place.index(bytes.len());
            if inserts { bytes.insert(place, byte) } else { bytes[place] = byte }
        }
        a_message_has_one_form(&bytes, fds.len());
    }

    #[test]
    fn any_bytes_are_refused_or_have_one_form(
        kind in 0..32u8,
        rest in bytes(200),
        fds in 0..3usize,
    ) {
        a_message_has_one_form(&[&[kind][..], &rest].concat(), fds);
    }

    #[test]
    fn a_head_of_several_messages_is_the_same_head(head in head()) {
        let bytes = encode_head(&head);
        assert_eq!(bytes.len(), head_len(&head));
        assert_eq!(decode_head(&bytes), Ok(head));
    }

    #[test]
    fn a_request_says_whether_it_fits(
        run in run(),
        filler in MAX_MESSAGE - 900..MAX_MESSAGE,
        files in 0..MAX_DESCRIPTORS + 3,
    ) {
        let file = || Segment::File { file: tempfile::tempfile().unwrap(), offset: 0, len: 1 };
        let mut segments = vec![Segment::Copied(vec![b'x'; filler])];
        segments.extend((0..files).map(|_| file()));
        let body = Some(Arc::new(RequestBody::new(segments)));
        let run = Box::new(Run { body, ..run });
        let fits = run.fits();
        let (bytes, fds) = passed(&Message::order(1, Order::Run(run)));
        assert_eq!(fits, bytes.len() <= MAX_MESSAGE && fds.len() <= MAX_DESCRIPTORS);
        assert_eq!(fits, Message::decode(&bytes, fds).is_ok());
    }
}

#[test]
fn the_longest_piece_fits_a_message() {
    let bytes = Bytes::from(vec![b'x'; MAX_PIECE]);
    for answer in [
        Answer::Chunk(bytes.clone()),
        Answer::HeadPart { bytes, more: true },
        Answer::Log { level: Level::Error, text: "x".repeat(MAX_PIECE) },
    ] {
        let (bytes, fds) = passed(&Message::answer(u64::MAX, answer));
        assert!(Message::decode(&bytes, fds).is_ok());
    }
}

#[test]
fn a_head_that_an_application_could_not_send_is_refused() {
    let mut head = ResponseHead::new(b"200 OK").unwrap();
    head.push(b"X-Name", b"value").unwrap();
    let message = Message::answer(1, Answer::Head(head));
    let (good, _) = passed(&message);
    let at = |text: &[u8]| good.windows(text.len()).position(|part| part == text).unwrap();
    let (status, name, value) = (at(b"200"), at(b"X-Name"), at(b"value"));
    let wrong = Malformed("head");
    assert_eq!(malformed(&message, |bytes| bytes[status] = b'1'), wrong);
    assert_eq!(malformed(&message, |bytes| bytes[name + 1] = b':'), wrong);
    assert_eq!(malformed(&message, |bytes| bytes[value] = b'\n'), wrong);
    assert_eq!(malformed(&message, |bytes| bytes[value] = b' '), wrong);
    // Flags: a redirect without its header, a length that is not there, or below the flag.
    assert_eq!(malformed(&message, |bytes| bytes[9] = 2), wrong);
    assert_eq!(malformed(&message, |bytes| bytes[10] = 5), wrong);
    assert_eq!(malformed(&message, |bytes| bytes[9..18].fill(0xff)), Malformed("flags"));
    assert_eq!(
        malformed(&message, |bytes| bytes[9..18].copy_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 0x80])),
        wrong
    );
    let te = [&good[..name - 2], &[2, 0], b"TE", &[0, 0]].concat();
    assert_eq!(malformed(&message, |bytes| *bytes = te), wrong);
    let length = [&good[..name - 2], &[14, 0], b"Content-Length", &[1, 0], b"5"].concat();
    assert_eq!(malformed(&message, |bytes| *bytes = length), wrong);
}

#[test]
fn vars_that_are_not_whole_are_refused() {
    let mut writer = VarsWriter::default();
    writer.push(b"NAME", b"value").unwrap();
    let run = Run {
        app: 0,
        pool: 0,
        ticket: Ticket { word: 0, epoch: 1 },
        waited: Duration::ZERO,
        limit: None,
        flags: Flags::default(),
        buffering: Settings { on: true, heeds_header: false, size: 9, spooling: None },
        vars: writer.finish(),
        body: None,
    };
    let message = Message::order(1, Order::Run(Box::new(run)));
    let (good, _) = passed(&message);
    let name = good.windows(4).position(|part| part == b"NAME").unwrap();
    for (place, byte) in [(name - 2, 3), (name - 2, 5), (name + 4, 4), (name + 4, 6)] {
        assert_eq!(malformed(&message, |bytes| bytes[place] = byte), Malformed("vars"));
    }
}
