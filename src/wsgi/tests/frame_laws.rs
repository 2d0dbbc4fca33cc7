//! What must hold for anything that a client sends on a WebSocket, told in another way than by
//! `websocket` and the crate that it uses.
//!
//! Used by the properties in `frames` and by the fuzzer in `t/fuzz`.

use std::time::Instant;

use crate::wsgi::websocket::handshake::Offer;
use crate::wsgi::websocket::{Conversation, End, Kind, Limits, Message};

/// The longest message that is taken, in bytes.
pub const MAX: usize = 200;

/// What becomes of a client's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    messages: Vec<(Kind, Vec<u8>)>,
    /// What the server has sent: first bytes and payloads.
    answers: Vec<(u8, Vec<u8>)>,
    end: Option<End>,
}

/// However the bytes are divided, and whatever they are: the messages and answers are those of the
/// RFC. Sizes of pieces come one after the other, again and again; 0 is all that is left.
pub fn frames_are_those_of_rfc_6455(bytes: &[u8], sizes: &[usize]) {
    let want = model(bytes);
    assert_eq!(want, heard(bytes, &[0]), "at once");
    assert_eq!(want, heard(bytes, sizes), "in pieces of {sizes:?}");
}

/// What a conversation makes of the bytes.
fn heard(bytes: &[u8], sizes: &[usize]) -> Heard {
    let now = Instant::now();
    let conversation = Conversation::new(Limits { max_message: MAX, ping: None }, now, || ());
    let key = Some(&b"dGhlIHNhbXBsZSBub25jZQ=="[..]);
    let offer = Offer { key, version: Some(b"13"), protocols: None };
    conversation.accept(&offer, None).expect("a good handshake");

    let (mut heard, mut output) = (Heard::default(), Vec::new());
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    loop {
        let look = conversation.look(Vec::new(), now);
        conversation.sent(look.output.len(), now);
        output.extend(look.output);
        if rest.is_empty() || look.done {
            break;
        }
        let size = sizes.next().map_or(0, |size| *size);
        let piece = &rest[..if size == 0 { rest.len() } else { size.min(rest.len()) }];
        rest = &rest[conversation.feed(piece, now)..];
        while let Some(Ok(Message { kind, data })) = conversation.poll() {
            heard.messages.push((kind, data.to_vec()));
        }
    }
    heard.answers = answers(&output);
    heard.end = conversation.end();
    heard
}

/// Frames of the server: never masked, never divided, in the shortest form.
fn answers(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        assert!(matches!(first, 0x88 | 0x8a) && *len <= 125, "{first:x} {len:x}");
        let (payload, rest) = rest.split_at(usize::from(*len));
        found.push((*first, payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    found
}

/// One frame of a client, and what follows it.
struct Frame<'a> {
    first: u8,
    masked: bool,
    len: u64,
    /// None: not all of it has come.
    payload: Option<(Vec<u8>, &'a [u8])>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let size = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let len = match size {
        0 => u64::from(second & 0x7f),
        _ => number(bytes.get(2..2 + size)?),
    };
    let masked = second & 0x80 != 0;
    let start = 2 + size + if masked { 4 } else { 0 };
    let mask = bytes.get(2 + size..start)?;
    let payload = usize::try_from(len).ok().and_then(|len| {
        let end = start.checked_add(len)?;
        let bytes = bytes.get(start..)?;
        let (payload, rest) = (bytes.get(..len)?, bytes.get(end - start..)?);
        let unmask = |(at, byte): (usize, &u8)| byte ^ if masked { mask[at % 4] } else { 0 };
        Some((payload.iter().enumerate().map(unmask).collect(), rest))
    });
    Some(Frame { first, masked, len, payload })
}

/// What a close frame says, and how it is answered; or how it breaks the protocol.
fn close(payload: Vec<u8>) -> Result<(u16, Vec<u8>), u16> {
    match &payload[..] {
        [] => Ok((1005, payload)),
        [_] => Err(1002),
        [a, b, reason @ ..] => {
            std::str::from_utf8(reason).map_err(|_| 1007_u16)?;
            let code = u16::from_be_bytes([*a, *b]);
            match code {
                1000..=1003 | 1007..=1013 | 3000..=4999 => Ok((code, payload)),
                _ => Ok((1002, [&1002_u16.to_be_bytes()[..], b"Protocol violation"].concat())),
            }
        }
    }
}

/// What the RFC says of the bytes. The length of a frame is judged when its header has come, all
/// else when the frame has.
fn model(mut bytes: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let mut begun: Option<(Kind, Vec<u8>)> = None;
    while let Some(Frame { first, masked, len, payload }) = frame(bytes) {
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let control = opcode >= 8;
        let step = if !matches!(opcode, 0..=2 | 8..=10) {
            Err(1002)
        } else if len > MAX as u64 {
            Err(1009)
        } else if let Some((payload, rest)) = payload {
            bytes = rest;
            if !masked || first & 0x70 != 0 || (control && (!last || len > 125)) {
                Err(1002)
            } else if control {
                match opcode {
                    8 => match close(payload) {
                        Ok((code, answer)) => {
                            heard.answers.push((0x88, answer));
                            heard.end = Some(End::Client(code));
                            return heard;
                        }
                        Err(code) => Err(code),
                    },
                    9 => {
                        heard.answers.push((0x8a, payload));
                        Ok(())
                    }
                    _ => Ok(()),
                }
            } else {
                data(&mut begun, &mut heard.messages, opcode, last, payload)
            }
        } else {
            return heard;
        };
        if let Err(code) = step {
            heard.answers.push((0x88, code.to_be_bytes().to_vec()));
            heard.end = Some(End::Broken(code));
            return heard;
        }
    }
    heard
}

/// A frame with a message, or with a part of one.
fn data(
    begun: &mut Option<(Kind, Vec<u8>)>,
    messages: &mut Vec<(Kind, Vec<u8>)>,
    opcode: u8,
    last: bool,
    payload: Vec<u8>,
) -> Result<(), u16> {
    let kind = if opcode == 1 { Kind::Text } else { Kind::Binary };
    let (kind, data) = match (begun.take(), opcode) {
        (None, 0) | (Some(_), 1 | 2) => return Err(1002),
        (Some((kind, before)), _) => (kind, [before, payload].concat()),
        (None, _) => (kind, payload),
    };
    if data.len() > MAX {
        return Err(1009);
    }
    if kind == Kind::Text
        && let Err(err) = std::str::from_utf8(&data)
        && (last || err.error_len().is_some())
    {
        return Err(1007);
    }
    if last {
        messages.push((kind, data));
    } else {
        *begun = Some((kind, data));
    }
    Ok(())
}
