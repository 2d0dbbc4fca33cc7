//! What must hold for any bytes, told in another way than the code tells it.
//!
//! Each law is a function that panics where it is broken. The properties beside bring random
//! input, the fuzzers in `t/fuzz` input that reaches new branches.
//! RFC 9110 sections 5 and 8.6, RFC 9112 section 2; PEP 3333, "The start_response() Callable".

use std::ops::Range;

use crate::wsgi::arguments::Arguments;
use crate::wsgi::error::VarsError;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::request::vars::{Vars, VarsIter, VarsWriter};
use crate::wsgi::target::{Source, Target};

/// What is written is read back in its order, and a name that does not fit leaves no trace.
pub fn vars_come_back(list: &[(&[u8], &[u8])]) {
    let mut writer = VarsWriter::default();
    let mut kept: Vec<(&[u8], &[u8])> = Vec::new();
    for (name, value) in list {
        let pushed = writer.push(name, value);
        if name.len() > 0xffff {
            assert_eq!(pushed, Err(VarsError::NameTooLong(name.len())));
        } else {
            assert_eq!(pushed, Ok(()));
            kept.push((name, value));
        }
    }
    let vars = writer.finish();
    assert!(vars.iter().eq(kept.iter().copied()), "other vars than were written");
    for (name, _) in list {
        let first = kept.iter().find(|(kept, _)| kept == name).map(|(_, value)| *value);
        assert!(vars.get(name) == first, "not the first value of {name:?}");
    }
}

/// Any bytes can be read: whole variables up to the first that is not, and then no more. They are
/// vars if that is all.
pub fn any_columns_are_read(names: &[u8], values: &[u8]) {
    let mut vars = VarsIter::new(names, values);
    let (mut name_at, mut value_at) = (0, 0);
    while let (Some(name), Some(value)) =
        (field_at(names, 2, name_at), field_at(values, 4, value_at))
    {
        (name_at, value_at) = (name.end, value.end);
        let got = vars.next().expect("a whole variable");
        let want = (&names[name], &values[value]);
        assert_eq!(got.0.as_ptr_range(), want.0.as_ptr_range());
        assert_eq!(got.1.as_ptr_range(), want.1.as_ptr_range());
    }
    for _ in 0..3 {
        assert_eq!(vars.next(), None, "after the end of {names:?}, {values:?}");
    }
    let made = Vars::from_columns(names, values);
    assert_eq!(made.is_some(), (name_at, value_at) == (names.len(), values.len()));
    if let Some(made) = made {
        assert_eq!(made.columns(), (names, values));
    }
}

/// Where the field lies whose length of so many bytes is at `at`, in arithmetic that cannot
/// overflow.
fn field_at(column: &[u8], len_bytes: usize, at: usize) -> Option<Range<usize>> {
    let mut len = 0u64;
    for n in (0..len_bytes).rev() {
        len = len * 256 + u64::from(*column.get(at + n)?);
    }
    let start = at + len_bytes;
    let end = start as u64 + len;
    (end <= column.len() as u64).then_some(start..end as usize)
}

/// A head holds exactly what was asked for, or refuses it; on the wire it is that and no more.
pub fn a_head_is_what_was_asked_for(status: &[u8], fields: &[(&[u8], &[u8])]) {
    let made = ResponseHead::new(status);
    assert_eq!(made.is_ok(), is_status(status), "{status:?}: {made:?}");
    let Ok(mut head) = made else { return };
    let mut kept: Vec<(&[u8], &[u8])> = Vec::new();
    let mut length = None;
    for (name, value) in fields {
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        let good = is_name(name)
            && value.iter().all(|b| is_text(*b))
            && value.len() < 0x1_0000
            && (!is_length || length.is_none() && content_length(value).is_some());
        let pushed = head.push(name, value);
        assert_eq!(pushed.is_ok(), good, "{name:?}: {value:?}: {pushed:?}");
        if good && is_length {
            length = content_length(value);
        } else if good {
            // White space around a value is none of it.
            kept.push((name, value.trim_ascii()));
        }
    }
    assert_eq!(head.status(), status);
    assert_eq!(head.code().to_string().as_bytes(), &status[..3]);
    assert_eq!(head.content_length(), length);
    assert!(head.fields().eq(kept.iter().copied()), "other fields than were accepted");
    is_the_same_on_the_wire(&head);
}

/// One line for the status, one for each field, one that is empty: with one reading only.
fn is_the_same_on_the_wire(head: &ResponseHead) {
    let length = head.content_length().map(|length| length.to_string());
    let length = length.iter().map(|length| (&b"Content-Length"[..], length.as_bytes()));
    let fields: Vec<_> = head.fields().chain(length).collect();
    let mut wire = [b"HTTP/1.1 ", head.status(), b"\r\n"].concat();
    for (name, value) in &fields {
        wire.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    wire.extend(b"\r\n");

    // Each of these bytes ends a line, or the field, for some client.
    let mut lines = wire.split(|b| matches!(b, b'\r' | b'\n' | 0));
    let mut line = || {
        let line = lines.next().expect("a line");
        assert_eq!(lines.next(), Some(&b""[..]), "a line end that is not CR LF: {wire:?}");
        line
    };
    assert_eq!(line().strip_prefix(b"HTTP/1.1 "), Some(head.status()));
    for field in &fields {
        let text = line();
        let colon = text.iter().position(|b| *b == b':').expect("a colon");
        let got = (&text[..colon], text[colon + 1..].trim_ascii());
        assert_eq!(got, *field);
    }
    assert_eq!(line(), b"");
    assert!(lines.eq([&b""[..]]), "more than the head: {wire:?}");
}

/// `[2-5][0-9][0-9]( [\t -~\x80-\xff]*)?`
fn is_status(status: &[u8]) -> bool {
    match status {
        [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', rest @ ..] => {
            rest.is_empty() || rest[0] == b' ' && rest.iter().all(|b| is_text(*b))
        }
        _ => false,
    }
}

/// HTAB, SP, VCHAR, obs-text.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A token, and none of those that belong to the connection.
fn is_name(name: &[u8]) -> bool {
    const TOKEN: &str = "!#$%&'*+-.^_`|~0123456789\
                         ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const CONNECTION: &str = " connection keep-alive proxy-authenticate proxy-authorization \
                              proxy-connection te trailer transfer-encoding upgrade ";
    let Ok(name) = std::str::from_utf8(name) else { return false };
    !name.is_empty()
        && name.chars().all(|c| TOKEN.contains(c))
        && !CONNECTION.contains(&format!(" {} ", name.to_lowercase()))
}

/// `[0-9]+`, and not above 2^63-1.
pub fn content_length(value: &[u8]) -> Option<u64> {
    const MOST: &str = "9223372036854775807";
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty())?;
    if !text.chars().all(|c| "0123456789".contains(c)) {
        return None;
    }
    // Decimals of the same length compare as their numbers do.
    let digits = text.trim_start_matches('0');
    if digits.len() > MOST.len() || digits.len() == MOST.len() && digits > MOST {
        return None;
    }
    Some(format!("0{digits}").parse().expect("it fits"))
}

/// Module or file, callable, factory: as docs/directives.md tells. Written out, the target means
/// the same.
pub fn a_target_means_what_it_says(text: &str) {
    let parsed = Target::parse(text);
    let want = target(text);
    assert_eq!(parsed.as_ref().ok(), want.as_ref(), "{text:?}");
    match parsed {
        Ok(target) => assert_eq!(Target::parse(&target.to_string()), Ok(target)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A colon divides place and call if all that follows it is a name, with or without parentheses.
/// What is in them is told apart by the tests of [`Arguments`].
fn target(text: &str) -> Option<Target> {
    if text.contains('$') || text == "paste" {
        return None;
    }
    if let Some(rest) = text.strip_prefix("paste:") {
        let (path, name) = match rest.find('#') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, "main"),
        };
        let is_fine = path.contains('/') && !name.is_empty() && !name.contains(char::is_control);
        let callable = name.to_owned();
        return is_fine.then(|| Target {
            source: Source::Paste(path.into()),
            callable,
            factory: None,
        });
    }
    // Name, and what stands in the parentheses if there are some.
    let call = |call: &str| match call.find('(') {
        None => is_dotted(call).then(|| (call.to_owned(), None)),
        Some(at) => (is_dotted(&call[..at]) && call.ends_with(')'))
            .then(|| (call[..at].to_owned(), Some(call[at + 1..call.len() - 1].to_owned()))),
    };
    let colons = || text.match_indices(':').map(|(at, _)| at);
    let (place, (callable, inside)) = match colons().find(|at| call(&text[at + 1..]).is_some()) {
        Some(at) => (&text[..at], call(&text[at + 1..])?),
        None => {
            // A colon behind the last slash is a slip.
            let after = text.rfind('/').map_or(0, |slash| slash + 1);
            if colons().any(|at| at >= after) {
                return None;
            }
            (text, ("application".to_owned(), None))
        }
    };
    let source = if place.contains('/') {
        Source::File(place.into())
    } else {
        let is_module = is_dotted(place) && !place.ends_with(".py");
        is_module.then(|| Source::Module(place.to_owned()))?
    };
    let factory = match inside {
        Some(inside) => Some(Arguments::parse(&inside).ok()?),
        None => None,
    };
    Some(Target { source, callable, factory })
}

/// Names with single dots between them; one state for each character.
fn is_dotted(text: &str) -> bool {
    let mut starts = true;
    for c in text.chars() {
        let fits = c == '_' || c.is_alphabetic() || !starts && (c == '.' || c.is_numeric());
        if !fits {
            return false;
        }
        starts = c == '.';
    }
    !starts
}
