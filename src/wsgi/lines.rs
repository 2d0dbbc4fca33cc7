//! Cuts a stream of bytes into lines that are fit for the error log.
//!
//! Used by what `src/python` logs, and by `src/nginx/check/trial.rs`. A line holds no control
//! character (nothing can be injected into the log), is valid UTF-8, and is at most [`MAX_LINE`]
//! bytes long: longer ones are split. Colours are left out.
//! Runs on: either; pure functions.

use std::mem;

use memchr::{memchr, memrchr};

/// Longest line in bytes: the log cuts records at 2048, of which the context needs some.
pub const MAX_LINE: usize = 1024;

/// Bytes without a line end that are kept at most.
const MAX_PENDING: usize = 64 * 1024;

const ESCAPE: u8 = 0x1b;
/// Longest sequence that is taken for a colour.
const MAX_COLOUR: usize = 32;

/// What has been written since the last line end.
#[derive(Debug, Default)]
pub struct LineBuffer {
    pending: Vec<u8>,
}

impl LineBuffer {
    pub const fn new() -> Self {
        Self { pending: Vec::new() }
    }

    /// Nothing has been written since the last line end.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Adds bytes; returns the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(at) = memchr(b'\n', rest) {
            if self.pending.is_empty() {
                escape(&rest[..at], &mut lines);
            } else {
                self.pending.extend_from_slice(&rest[..at]);
                escape(&self.pending, &mut lines);
                self.pending.clear();
            }
            rest = &rest[at + 1..];
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MAX_PENDING {
            let tail = self.pending.split_off(whole(&self.pending));
            let line = mem::replace(&mut self.pending, tail);
            escape(&line, &mut lines);
        }
        lines
    }

    /// The line that has not been ended, if there is one.
    pub fn flush(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.is_empty() {
            escape(&mem::take(&mut self.pending), &mut lines);
        }
        lines
    }
}

/// Text of any kind as lines for the log.
pub fn printable(text: &[u8]) -> Vec<String> {
    let mut buffer = LineBuffer::new();
    let mut lines = buffer.push(text);
    lines.extend(buffer.flush());
    lines
}

/// Length without an incomplete character, or colour, at the end.
fn whole(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(MAX_COLOUR);
    if let Some(at) = memrchr(ESCAPE, &bytes[from..]).map(|at| from + at)
        && at > 0
        && bytes[at..].get(1).is_none_or(|byte| *byte == b'[')
        && bytes[at..].iter().skip(2).all(|byte| is_parameter(*byte))
    {
        return at;
    }
    let from = bytes.len().saturating_sub(3);
    match bytes[from..].iter().rposition(|b| *b >= 0xC0) {
        Some(at) if from + at > 0 => from + at,
        _ => bytes.len(),
    }
}

/// Appends one line, in as many pieces as it needs.
fn escape(line: &[u8], out: &mut Vec<String>) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut piece = String::with_capacity(line.len().min(MAX_LINE));
    let mut add = |token: &str| {
        if piece.len() + token.len() > MAX_LINE {
            out.push(mem::take(&mut piece));
        }
        piece.push_str(token);
    };
    let mut rest = line;
    while !rest.is_empty() {
        let len = colour(rest);
        if len > 0 {
            rest = &rest[len..];
            continue;
        }
        // As far as one may begin.
        let end = memchr(ESCAPE, &rest[1..]).map_or(rest.len(), |at| at + 1);
        for chunk in rest[..end].utf8_chunks() {
            for c in chunk.valid().chars() {
                if breaks_log(c) {
                    add(&escaped(u32::from(c)));
                } else {
                    add(c.encode_utf8(&mut [0; 4]));
                }
            }
            for byte in chunk.invalid() {
                add(&escaped(u32::from(*byte)));
            }
        }
        rest = &rest[end..];
    }
    out.push(piece);
}

/// Length of the sequence that these bytes begin with, if it is one that sets colours or the like
/// (ECMA-48, "SGR"): made for a terminal, it says nothing in a log.
fn colour(bytes: &[u8]) -> usize {
    let [ESCAPE, b'[', rest @ ..] = bytes else { return 0 };
    let end = rest.iter().position(|byte| !is_parameter(*byte));
    end.filter(|end| rest[*end] == b'm' && end + 3 <= MAX_COLOUR).map_or(0, |end| end + 3)
}

fn is_parameter(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b';' || byte == b':'
}

/// C0 (but for the tab), DEL, C1, and the line ends of Unicode.
fn breaks_log(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}')
}

fn escaped(code: u32) -> String {
    if code < 0x100 { format!("\\x{code:02x}") } else { format!("\\u{code:04x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::new();
        let mut lines: Vec<_> = parts.iter().flat_map(|part| buffer.push(part)).collect();
        lines.extend(buffer.flush());
        lines
    }

    #[test]
    fn lines_are_put_together_from_parts() {
        assert_eq!(lines(&[b"a", b"b\nc\r\n", b"\n", b"d"]), ["ab", "c", "", "d"]);
        assert!(lines(&[b""]).is_empty());
        // One character in two writes.
        assert_eq!(lines(&[b"\xc3", b"\xa9\n"]), ["\u{e9}"]);
    }

    #[test]
    fn nothing_that_could_fake_a_log_line_gets_through() {
        let nasty = "\u{1b}[31\0\tx\u{7f}\u{85}\u{2028}\u{e9}\rz\n".as_bytes();
        assert_eq!(lines(&[nasty]), ["\\x1b[31\\x00\tx\\x7f\\x85\\u2028\u{e9}\\x0dz"]);
        assert_eq!(lines(&[b"a\xff\xfeb"]), ["a\\xff\\xfeb"]);
    }

    #[test]
    fn colours_are_left_out() {
        let text =
            "\u{1b}[31mred\u{1b}[0m \u{1b}[1;38:5:9mb\u{e9}\u{1b}[m\u{1b}[K\u{1b}\u{1b}[0mx\r\n";
        assert_eq!(lines(&[text.as_bytes()]), ["red b\u{e9}\\x1b[K\\x1bx"]);
        assert_eq!(lines(&[b"\x1b[3", b"1m", b"x\x1b", b"[0m\n"]), ["x"]);
        assert_eq!(lines(&[b"\x1b[0m\n\x1b[\n\x1b"]), ["", "\\x1b[", "\\x1b"]);
        let long = format!("\u{1b}[{}m", "1".repeat(30));
        assert_eq!(lines(&[long.as_bytes()]), [format!("\\x1b{}", &long[1..])]);
        // Not even where a line without an end is cut.
        let long = "x".repeat(MAX_PENDING - 2) + "\u{1b}[31m" + "y";
        let parts: Vec<_> = long.as_bytes().chunks(MAX_PENDING + 1).collect();
        assert!(lines(&parts).concat().ends_with("xy"));
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let long = "\u{e9}".repeat(1000) + "x\n";
        let got = lines(&[long.as_bytes()]);
        assert_eq!(got.iter().map(String::len).collect::<Vec<_>>(), [1024, 977]);
        assert_eq!(got.concat() + "\n", long);
        let escapes = lines(&[&[0x1b; 600]]);
        assert!(escapes.iter().all(|l| l.len() <= MAX_LINE && l.starts_with("\\x1b")));
        assert_eq!(lines(&[&[b'x'; MAX_LINE]]).len(), 1);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let mut buffer = LineBuffer::new();
        let mut got = Vec::new();
        for _ in 0..MAX_PENDING {
            got.extend(buffer.push("\u{20ac}".as_bytes()));
            assert!(buffer.pending.len() <= MAX_PENDING);
        }
        got.extend(buffer.flush());
        assert_eq!(got.concat(), "\u{20ac}".repeat(MAX_PENDING));
    }
}
