//! What must hold for anything that is written to the log, told in another way than `lines` does.
//!
//! Used by the properties in `lines` and by the fuzzers in `t/fuzz`.

use crate::wsgi::lines::LineBuffer;

/// Beyond this many bytes without a line end, lines end where a write does.
const LONGEST: usize = 64 * 1024;

/// However the bytes are written, the log has the same lines, none of them harmful.
pub fn lines_do_not_depend_on_writes(writes: &[&[u8]]) {
    let mut buffer = LineBuffer::new();
    let mut got: Vec<String> = writes.iter().flat_map(|write| buffer.push(write)).collect();
    got.extend(buffer.flush());
    assert!(buffer.flush().is_empty());

    for line in &got {
        assert!(line.len() <= 1024, "a line of {} bytes", line.len());
        assert!(!line.contains(is_harmful), "{line:?}");
    }
    let text = writes.concat();
    let want: Vec<String> = log_of(&text);
    if text.split(|b| *b == b'\n').all(|line| line.len() <= LONGEST) {
        assert_eq!(got, want);
    } else if !text.contains(&b'\r') && std::str::from_utf8(&text).is_ok() {
        assert!(got.concat() == want.concat(), "lost or changed");
    }
}

/// The lines of a whole text.
fn log_of(text: &[u8]) -> Vec<String> {
    let mut lines: Vec<_> = text.split(|b| *b == b'\n').collect();
    // What follows the last line end is a line only if there is something.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let mut log = Vec::new();
    for line in lines {
        let mut pieces = vec![String::new()];
        for token in tokens(line.strip_suffix(b"\r").unwrap_or(line)) {
            let last = pieces.len() - 1;
            if pieces[last].len() + token.len() <= 1024 {
                pieces[last] += &token;
            } else {
                pieces.push(token);
            }
        }
        log.extend(pieces);
    }
    log
}

/// What stands for each character, and for each byte that belongs to none.
fn tokens(mut line: &[u8]) -> Vec<String> {
    let mut tokens = Vec::new();
    while let [first, ..] = line {
        if let Some(len) = (3..=32).find(|len| line.get(..*len).is_some_and(is_colour)) {
            line = &line[len..];
            continue;
        }
        let char_of = |len| std::str::from_utf8(line.get(..len)?).ok()?.chars().next();
        let (len, token) = match (1..=4).find_map(|len| Some((len, char_of(len)?))) {
            None => (1, format!("\\x{first:02x}")),
            Some((len, c @ ('\u{2028}' | '\u{2029}'))) => (len, format!("\\u{:x}", c as u32)),
            Some((len, c)) if is_harmful(c) => (len, format!("\\x{:02x}", c as u32)),
            Some((len, c)) => (len, c.to_string()),
        };
        tokens.push(token);
        line = &line[len..];
    }
    tokens
}

/// ESC [ 1;31 m
fn is_colour(sequence: &[u8]) -> bool {
    let inside = sequence.strip_prefix(b"\x1b[").and_then(|rest| rest.strip_suffix(b"m"));
    inside.is_some_and(|inside| inside.iter().all(|byte| b"0123456789:;".contains(byte)))
}

fn is_harmful(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\n'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}
