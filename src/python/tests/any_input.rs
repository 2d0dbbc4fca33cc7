//! `wsgi.input` against `io.BytesIO` on the same bytes. PEP 3333, "Input and Error Streams".
//!
//! Left out is where the two differ: a seek in front of the start (BytesIO goes to the start),
//! and bodies over 1 MiB, of which `read1` and `readinto` hand out no more in one call.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};

use super::{PythonApplication, app, in_file, request, with_vars};
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::segment::Segment;
use crate::wsgi::tests::cases;

fn compare() -> &'static PythonApplication {
    static COMPARE: OnceLock<PythonApplication> = OnceLock::new();
    COMPARE.get_or_init(|| {
        app("import io
def lines(file, most):
    got = []
    for line in file:
        got.append(line)
        if len(got) > most: break
    return got
def into(file, size):
    buffer = bytearray(size)
    return file.readinto(buffer), bytes(buffer)
def seek(file, offset, whence):
    base = (0, file.tell(), len(body))[whence]
    return file.seek(max(offset, -base), whence)
def done(file, name, args):
    own = {'lines': lines, 'into': into, 'seek': seek, 'next': lambda f: next(f, None)}
    try: got = own[name](file, *args) if name in own else getattr(file, name)(*args)
    except Exception as error: got = type(error)
    return got, file.tell()
def application(e, s):
    global body
    ok(s)
    body = e['BODY'].encode('latin-1')
    model = io.BytesIO(body)
    for name, *args in eval(e['OPERATIONS']):
        got, want = (done(file, name, args) for file in (e['wsgi.input'], model))
        assert got == want, (name, args, repr(got)[:200], repr(want)[:200])
        kinds = [type(line) for line in got[0]] if type(got[0]) is list else []
        assert type(got[0]) is type(want[0]) and all(kind is bytes for kind in kinds)
    return []")
    })
}

/// The argument of a read: often small, often at a boundary of the reader, sometimes no limit.
fn size() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..40i64).prop_map(|size| size.to_string()),
        2 => select(&["16383", "16384", "16385", "65535", "65536", "262144", "262145"][..])
            .prop_map(str::to_owned),
        1 => select(&["0", "-1", "-7", "None", "True", "2**31", "2**63 - 1", "2**63", "-2**63 - 1",
            "1.5", "'1'", "[]"][..]).prop_map(str::to_owned),
        1 => (0..300_000i64).prop_map(|size| size.to_string()),
    ]
}

/// A tuple of Python: the name of a method and its arguments.
fn operation() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (select(&["read", "read1", "readline"][..]), size())
            .prop_map(|(name, size)| format!("('{name}', {size})")),
        1 => prop_oneof![size(), Just("0".to_owned())]
            .prop_map(|hint| format!("('readlines', {hint})")),
        1 => select(&["read", "readline", "readlines", "next", "tell", "readable", "seekable"][..])
            .prop_map(|name| format!("('{name}',)")),
        1 => (0..5).prop_map(|most| format!("('lines', {most})")),
        1 => (0..70_000).prop_map(|size| format!("('into', {size})")),
        2 => (prop_oneof![-40..40i64, -300_000..300_000i64, Just(1 << 56)], 0..3)
            .prop_map(|(offset, whence)| format!("('seek', {offset}, {whence})")),
    ]
}

/// Lines, some longer than what is read ahead, one sometimes longer than a step of the search.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        20 => 0..12usize,
        2 => select(&[16382, 16383, 16384, 16385, 65536][..]),
        1 => select(&[262_143, 262_144, 262_145, 300_000][..]),
    ];
    let line = (any::<u8>(), len, any::<bool>()).prop_map(|(byte, len, ends)| {
        let mut line = vec![byte; len];
        line.extend(ends.then_some(b'\n'));
        line
    });
    vec(line, 0..30).prop_map(|lines| {
        let mut content = lines.concat();
        content.truncate(1 << 20);
        content
    })
}

fn segment(part: &[u8], memory: bool) -> Segment {
    if memory { Segment::Memory(Bytes::copy_from_slice(part)) } else { in_file(part) }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn reading_is_as_from_a_bytes_io(
        content in content(),
        cuts in vec((any::<Index>(), any::<bool>()), 0..4),
        memory in any::<bool>(),
        operations in vec(operation(), 1..40),
    ) {
        let mut segments = Vec::new();
        let mut rest = &content[..];
        for (place, memory) in cuts {
            let (part, tail) = rest.split_at(place.index(rest.len() + 1));
            segments.push(segment(part, memory));
            rest = tail;
        }
        segments.push(segment(rest, memory));
        let operations = format!("[{}]", operations.join(", "));
        let mut input = with_vars(&[(b"BODY", &content), (b"OPERATIONS", operations.as_bytes())]);
        input.body = Some(Arc::new(RequestBody::new(segments)));
        request(compare(), input).is_clean();
    }
}
