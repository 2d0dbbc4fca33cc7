//! Packets: as many messages as fit go to another worker at once.
//!
//! Each message is preceded by its length in four bytes. Only the last one of a packet may have
//! descriptors.
//! Runs on: event loop.

use std::os::fd::OwnedFd;

use super::message::{MAX_MESSAGE, Malformed, Message};
use super::wire::Descriptors;

const PREFIX: usize = 4;

/// Bytes of a packet at most.
pub const MAX_PACKET: usize = PREFIX + MAX_MESSAGE;

/// Writes messages over `out`, from the first on. Returns how many go into the packet, at least one
/// if there is one, and the descriptors that go with it.
pub fn pack<'m>(
    messages: impl IntoIterator<Item = &'m Message>,
    out: &mut Vec<u8>,
) -> (usize, Descriptors<'m>) {
    out.clear();
    let mut count = 0;
    for message in messages {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        let fds = message.encode(out);
        let len = out.len() - start - PREFIX;
        if count > 0 && out.len() > MAX_PACKET {
            out.truncate(start);
            break;
        }
        // What `Run::fits`, or is a piece, is not longer.
        out[start..start + PREFIX].copy_from_slice(&(len as u32).to_le_bytes());
        count += 1;
        if !fds.is_empty() {
            return (count, fds);
        }
    }
    (count, Descriptors::new())
}

/// The messages of a packet, up to the first that is none.
pub struct Unpack<'a> {
    rest: &'a [u8],
    fds: Vec<OwnedFd>,
}

/// See [`Unpack`]. `fds`: what came with the packet.
pub fn unpack(packet: &[u8], fds: Vec<OwnedFd>) -> Unpack<'_> {
    Unpack { rest: packet, fds }
}

impl Iterator for Unpack<'_> {
    type Item = Result<Message, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (message, rest) = match split(self.rest)? {
            Ok(split) => split,
            Err(malformed) => {
                self.rest = &[];
                return Some(Err(malformed));
            }
        };
        self.rest = rest;
        let fds = if rest.is_empty() { std::mem::take(&mut self.fds) } else { Vec::new() };
        let message = Message::decode(message, fds);
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

/// A packet in two.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The first message and what follows; `None` if nothing is left.
fn split(packet: &[u8]) -> Option<Result<Split<'_>, Malformed>> {
    if packet.is_empty() {
        return None;
    }
    let split = packet.split_first_chunk::<PREFIX>().and_then(|(len, rest)| {
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
    });
    Some(split.ok_or(Malformed("packet")))
}

/// A packet whose descriptors are missing: what precedes its last message, and that message.
pub fn cut(packet: &[u8]) -> Result<Split<'_>, Malformed> {
    let mut rest = packet;
    loop {
        let (message, next) = split(rest).unwrap_or(Err(Malformed("packet")))?;
        if next.is_empty() {
            return Ok((&packet[..packet.len() - rest.len()], message));
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::exchange::InFlight;
    use crate::wsgi::relay::message::{Answer, Kind, MAX_PIECE, Order};
    use bytes::Bytes;
    use std::os::fd::AsFd;

    fn chunk(id: u64, len: usize) -> Message {
        Message::answer(id, Answer::Chunk(Bytes::from(vec![b'x'; len])))
    }

    fn ids(packet: &[u8], fds: Vec<OwnedFd>) -> Vec<u64> {
        unpack(packet, fds).map(|message| message.unwrap().id).collect()
    }

    #[test]
    fn a_packet_has_as_many_messages_as_fit() {
        let mut out = vec![9];
        let messages =
            [chunk(1, MAX_PIECE), chunk(2, 20), chunk(3, MAX_PIECE - 100), chunk(4, 200)];
        let (count, _) = pack(&messages, &mut out);
        assert_eq!((count, ids(&out, Vec::new())), (1, vec![1]));
        let (count, _) = pack(&messages[1..], &mut out);
        assert_eq!((count, ids(&out, Vec::new())), (2, vec![2, 3]));
        assert!(out.len() <= MAX_PACKET);
        assert_eq!(pack(&[], &mut out).0, 0);
        assert!(out.is_empty() && ids(&out, Vec::new()).is_empty());
    }

    #[test]
    fn descriptors_are_those_of_the_last_message() {
        let file = tempfile::tempfile().unwrap();
        let file = Answer::File { file, offset: 0, len: 1 };
        let messages = [chunk(1, 1), Message::answer(2, file), chunk(3, 1)];
        let mut out = Vec::new();
        let (count, fds) = pack(&messages, &mut out);
        assert_eq!((count, fds.len()), (2, 1));
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd().try_clone_to_owned().unwrap()).collect();
        assert_eq!(ids(&out, fds), [1, 2]);
        assert!(unpack(&out, Vec::new()).last().unwrap().is_err(), "its descriptor is missing");
        let (before, last) = cut(&out).unwrap();
        assert_eq!(ids(before, Vec::new()), [1]);
        assert_eq!(Message::about(last), Some((2, false)));
        assert!(cut(&[]).is_err() && cut(&out[..out.len() - 1]).is_err());
    }

    #[test]
    fn what_is_no_packet_ends_with_an_error() {
        let order = Message::order(7, Order::Credit(InFlight::default()));
        let mut whole = Vec::new();
        pack([&order], &mut whole);
        for len in 1..whole.len() {
            assert!(unpack(&whole[..len], Vec::new()).all(|message| message.is_err()));
        }
        whole.extend_from_slice(&[1, 0, 0, 0, 99]);
        let mut messages = unpack(&whole, Vec::new());
        let first = messages.next().unwrap().unwrap();
        assert!(matches!(first.kind, Kind::Order(Order::Credit(_))));
        assert!(messages.next().unwrap().is_err() && messages.next().is_none());
    }
}
