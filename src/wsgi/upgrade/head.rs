//! The head of the response that an application writes to its connection by itself.
//!
//! RFC 9112 sections 4 and 5, and RFC 6455 section 4.2.2 for the 101. Nothing is repaired: what is
//! not clear is no response.
//! Runs on: event loop.

use std::fmt;

use memchr::memmem;

use crate::wsgi::error::HeadError;
use crate::wsgi::head::ResponseHead;

/// What an application has written so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// The head is not complete.
    Part,
    /// 101, and how long its head is in bytes. From there on the connection is the application's.
    Switch(ResponseHead, usize),
    /// A response with another status.
    Response(u16),
}

/// Why it is no response.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not `HTTP/1.1`, three digits and a reason.
    StatusLine,
    /// A line that is no header field.
    Field,
    Head(HeadError),
    /// 100 to 199, but for 101.
    Informational(u16),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusLine => f.write_str("it begins with no status line of HTTP/1"),
            Self::Field => f.write_str("a line of its head is no header field"),
            Self::Head(err) => err.fmt(f),
            Self::Informational(code) => write!(f, "it has the status {code}"),
        }
    }
}

/// Reads what an application has written.
pub fn read(bytes: &[u8]) -> Result<Written, Malformed> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        // What can never become a status line need not be waited for.
        let len = bytes.len().min(VERSION.len());
        return if bytes[..len] == VERSION[..len] {
            Ok(Written::Part)
        } else {
            Err(Malformed::StatusLine)
        };
    };
    let mut lines = split(&bytes[..end]);
    let code = status(lines.next().unwrap_or_default()).ok_or(Malformed::StatusLine)?;
    let fields: Vec<_> = lines.map(field).collect::<Option<_>>().ok_or(Malformed::Field)?;
    match code {
        101 => {
            let head = ResponseHead::switching(fields).map_err(Malformed::Head)?;
            Ok(Written::Switch(head, end + 4))
        }
        200..600 => Ok(Written::Response(code)),
        _ => Err(Malformed::Informational(code)),
    }
}

const VERSION: &[u8] = b"HTTP/1.";

fn split(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        match memmem::find(text, b"\r\n") {
            Some(at) => {
                rest = Some(&text[at + 2..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

fn status(line: &[u8]) -> Option<u16> {
    let (version, rest) = line.strip_prefix(VERSION)?.split_first()?;
    let (digits, reason) = rest.strip_prefix(b" ")?.split_first_chunk::<3>()?;
    let is_good = matches!(version, b'0' | b'1')
        && digits.iter().all(u8::is_ascii_digit)
        && matches!(reason.first(), None | Some(b' '));
    let code = digits.iter().fold(0, |code, digit| 10 * code + u16::from(digit.wrapping_sub(b'0')));
    (is_good && (100..600).contains(&code)).then_some(code)
}

/// A field without the white space around its value. One that goes on in the next line is none.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n\r\n";

    #[test]
    fn a_switch_has_its_fields_and_what_follows_is_not_its() {
        let written = read(&[SWITCH, b"\x81\x01a"].concat()).unwrap();
        let Written::Switch(head, len) = written else { panic!("{written:?}") };
        assert_eq!((head.code(), len), (101, SWITCH.len()));
        let fields: Vec<_> = head.fields().collect();
        let accept = (&b"Sec-WebSocket-Accept"[..], &b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]);
        assert_eq!(fields, [(&b"Upgrade"[..], &b"WebSocket"[..]), accept]);
    }

    #[test]
    fn every_part_of_a_head_is_waited_for() {
        for len in 0..SWITCH.len() {
            assert_eq!(read(&SWITCH[..len]), Ok(Written::Part), "{len}");
        }
    }

    #[test]
    fn other_responses_have_their_status() {
        for (text, code) in [
            ("HTTP/1.1 400 Bad Request\r\n\r\n", 400),
            ("HTTP/1.0 200\r\nContent-Length: 2\r\n\r\nab", 200),
            ("HTTP/1.1 599 x\r\nTransfer-Encoding: chunked\r\n\r\n", 599),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(Written::Response(code)), "{text}");
        }
    }

    #[test]
    fn what_is_no_response_is_said_at_once() {
        for text in ["h", "HTTP/2 101 x", "GET / HTTP/1.1", "\x00", "\r\n", "HTTP/1.9"] {
            let is_part = text == "HTTP/1.9";
            assert_eq!(read(text.as_bytes()).is_ok(), is_part, "{text}");
        }
        for (text, why) in [
            ("HTTP/1.2 101 x\r\n\r\n", Malformed::StatusLine),
            ("HTTP/1.1  101 x\r\n\r\n", Malformed::StatusLine),
            ("HTTP/1.1 1010\r\n\r\n", Malformed::StatusLine),
            ("HTTP/1.1 099 x\r\n\r\n", Malformed::StatusLine),
            ("HTTP/1.1 101 x\r\nno field\r\n\r\n", Malformed::Field),
            ("HTTP/1.1 100 Continue\r\n\r\n", Malformed::Informational(100)),
        ] {
            assert_eq!(read(text.as_bytes()), Err(why), "{text}");
        }
        for text in ["A b: c", " folded: x", ": x", "a: b\nc: d", "a: b\x00"] {
            let text = format!("HTTP/1.1 101 x\r\n{text}\r\n\r\n");
            assert!(matches!(read(text.as_bytes()), Err(Malformed::Head(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[SWITCH, &bytes].concat());
            let head = [&SWITCH[..34], &bytes, b"\r\n\r\n"].concat();
            if let Ok(Written::Switch(head, _)) = read(&head) {
                for (name, value) in head.fields() {
                    prop_assert!(!name.contains(&b'\n') && !value.contains(&b'\n'));
                }
            }
        }
    }
}
