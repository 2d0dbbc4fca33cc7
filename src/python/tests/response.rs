//! start_response, chunks, write(), HEAD, Content-Length. PEP 3333, "Specification Details".

use super::{app, get, head, request, with_vars};
use crate::wsgi::error::Failure;
use crate::wsgi::mailbox::Level;

#[test]
fn a_list_goes_out_with_its_length() {
    let got = get("def application(e, s):\n    ok(s, ('X-A', 'b')); return [b'ab', b'', b'c']");
    got.is_clean();
    assert_eq!((got.body().as_str(), got.length()), ("abc", Some(3)));
    let head = got.head.unwrap();
    assert_eq!(head.status(), b"200 OK");
    let fields: Vec<_> = head.fields().collect();
    assert_eq!(fields, [(&b"Content-Type"[..], &b"text/plain"[..]), (b"X-A", b"b")]);
}

#[test]
fn tuples_bytes_and_nothing_have_a_length_too() {
    for (result, body) in [
        ("(b'a', b'b')", "ab"),
        ("b'abc'", "abc"),
        ("[]", ""),
        ("b''", ""),
        ("iter([b'a', b'b'])", "ab"),
        ("iter((b'a', b'', b'b'))", "ab"),
        ("type('R', (), {'__iter__': lambda self: iter([b'ab'])})()", "ab"),
    ] {
        let got = get(&format!("def application(e, s):\n    ok(s); return {result}"));
        got.is_clean();
        assert_eq!((got.body().as_str(), got.length()), (body, Some(body.len() as u64)));
        assert!(got.chunks.iter().all(|chunk| !chunk.is_empty()));
    }
}

#[test]
fn a_generator_has_no_length_and_may_start_late() {
    let got = get(
        "def application(e, s):\n    yield b''\n    ok(s)\n    yield b''\n    yield b'a'\n    yield b''\n    yield b'b'",
    );
    got.is_clean();
    assert_eq!(got.chunks, [b"a", b"b"]);
    assert_eq!(got.length(), None);
}

#[test]
fn only_what_is_left_of_a_sequence_is_sent() {
    let got = get(
        "def application(e, s):\n    ok(s); left = iter([b'a', b'b', b'c']); next(left); return left",
    );
    got.is_clean();
    assert_eq!((got.body().as_str(), got.length()), ("bc", Some(2)));
    // Its items are made one by one.
    let code = "class Made(list):
    def __iter__(self): yield from (b'a', b'b')
def application(e, s): ok(s); return Made([b'never'])";
    let got = get(code);
    got.is_clean();
    assert_eq!((got.body().as_str(), got.length()), ("ab", None));
}

#[test]
fn an_own_content_length_stays() {
    let got =
        get("def application(e, s):\n    ok(s, ('Content-Length', '2')); return iter([b'ab'])");
    got.is_clean();
    assert_eq!(got.length(), Some(2));
}

#[test]
fn write_comes_before_what_is_returned() {
    let got = get("def application(e, s):\n    w = ok(s); w(b'a'); w(b''); w(b'b'); return [b'c']");
    got.is_clean();
    assert_eq!((got.body().as_str(), got.length()), ("abc", None));
    let got = get("def application(e, s):\n    ok(s)('text'); return []");
    assert!(got.logged("TypeError: write() argument must be bytes, not str"));
    assert!(got.head.is_none());
}

#[test]
fn a_second_call_needs_exc_info() {
    let got = get("def application(e, s):\n    ok(s); ok(s); return []");
    assert_eq!(got.end, Some(Err(Failure::Application)));
    assert!(got.logged("AssertionError: start_response() called again without exc_info"));
    let code = "import sys
def application(e, s):
    ok(s, ('X-Old', '1'))
    try: 1 / 0
    except ZeroDivisionError: s('500 Oops', [('X-New', '1')], sys.exc_info())
    return [b'oops']";
    let got = get(code);
    got.is_clean();
    let head = got.head.unwrap();
    assert_eq!(head.status(), b"500 Oops");
    assert_eq!(head.fields().collect::<Vec<_>>(), [(&b"X-New"[..], &b"1"[..])]);
}

#[test]
fn exc_info_after_the_head_is_raised_again() {
    let code = "import sys
def fail(): raise LookupError('first')
def application(e, s):
    w = ok(s); w(b'a')
    try: fail()
    except LookupError: s('500 Oops', [], sys.exc_info())
    raise AssertionError('not reached')";
    let got = get(code);
    assert_eq!(got.end, Some(Err(Failure::Application)));
    assert_eq!(got.body(), "a");
    assert!(got.logged("LookupError: first") && got.logged("in fail"), "{:?}", got.log);
    let got = get("def application(e, s):\n    ok(s)(b'a'); s('500 X', [], 'nonsense')");
    assert!(got.logged("TypeError: exc_info must be the tuple of sys.exc_info(), not str"));
}

#[test]
fn wrong_types_of_the_head_are_type_errors() {
    for call in [
        "s(200, [])",
        "s(b'200 OK', [])",
        "s('200 OK', ())",
        "s('200 OK', {})",
        "s('200 OK', None)",
        "s('200 OK', ['ab'])",
        "s('200 OK', [['a', 'b']])",
        "s('200 OK', [('a', 'b', 'c')])",
        "s('200 OK', [('a', 1)])",
        "s('200 OK', [(b'a', 'b')])",
        "s('200 OK')",
    ] {
        let code = format!(
            "def application(e, s):\n    try: {call}\n    except TypeError: ok(s); return [b'x']"
        );
        let got = get(&code);
        assert_eq!(got.body(), "x", "{call}: {:?}", got.log);
    }
}

#[test]
fn wrong_contents_of_the_head_are_value_errors() {
    for call in [
        "s('OK', [])",
        "s('100 Continue', [])",
        "s('600 x', [])",
        "s('200 \\u20ac', [])",
        "s('200 O\\nK', [])",
        "s('200 OK', [('a b', 'c')])",
        "s('200 OK', [('\\u20ac', 'c')])",
        "s('200 OK', [('a', '\\u20ac')])",
        "s('200 OK', [('a', 'b\\r\\nc: d')])",
        "s('200 OK', [('Connection', 'close')])",
        "s('200 OK', [('Content-Length', '+5')])",
        "s('200 OK', [('Content-Length', '5'), ('content-length', '5')])",
        "s('200 OK', [('a', 'v' * 65536)])",
    ] {
        let code = format!(
            "def application(e, s):\n    try: {call}\n    except ValueError: ok(s); return [b'x']"
        );
        let got = get(&code);
        assert_eq!(got.body(), "x", "{call}: {:?}", got.log);
    }
}

#[test]
fn no_start_response_is_an_error_that_is_named() {
    for body in ["return [b'x']", "return []", "yield b'x'", "return iter([])"] {
        let got = get(&format!("def application(e, s):\n    {body}"));
        assert_eq!(got.end, Some(Err(Failure::Protocol)), "{body}");
        assert!(got.head.is_none() && got.chunks.is_empty());
        assert!(got.logged("did not call start_response()"), "{:?}", got.log);
        assert_eq!(got.log.len(), 1);
    }
}

#[test]
fn results_and_items_of_wrong_types_are_refused() {
    for result in ["None", "5", "'text'", "['a']", "[5]", "[bytearray(b'a')]", "[memoryview(b'a')]"]
    {
        let got = get(&format!("def application(e, s):\n    ok(s); return {result}"));
        assert!(matches!(got.end, Some(Err(_))), "{result}");
        assert!(got.head.is_none() && got.logged("TypeError"), "{result}: {:?}", got.log);
    }
    // After the head there is only the abort.
    let got = get("def application(e, s):\n    ok(s); return [b'a', 'b']");
    assert_eq!((got.body().as_str(), got.end), ("a", Some(Err(Failure::Protocol))));
}

#[test]
fn more_than_content_length_is_cut() {
    for result in ["[b'abc', b'defg', b'h']", "iter([b'abc', b'defg', b'h'])", "b'abcdefgh'"] {
        let got = get(&format!(
            "def application(e, s):\n    ok(s, ('Content-Length', '5')); return {result}"
        ));
        assert_eq!((got.body().as_str(), got.end), ("abcde", Some(Ok(()))), "{result}");
        assert_eq!(got.lines(), ["application returned more than Content-Length"]);
    }
    let got = get(
        "def application(e, s):\n    w = ok(s, ('Content-Length', '1')); w(b'ab'); w(b'c'); return [b'd']",
    );
    assert_eq!((got.body().as_str(), got.log.len()), ("a", 1));
}

#[test]
fn less_than_content_length_is_a_failure() {
    let got = get("def application(e, s):\n    ok(s, ('Content-Length', '5')); return [b'abc']");
    assert_eq!((got.body().as_str(), got.end), ("abc", Some(Err(Failure::Underrun))));
    // Before the head it can still become a 500.
    let got = get("def application(e, s):\n    ok(s, ('Content-Length', '5')); return []");
    assert_eq!(got.end, Some(Err(Failure::Underrun)));
    assert!(got.head.is_none());
}

#[test]
fn head_has_a_head_and_no_body() {
    let got = head("def application(e, s):\n    ok(s); return [b'abc']");
    got.is_clean();
    assert_eq!((got.body().as_str(), got.length()), ("", None));
    let got = head("def application(e, s):\n    ok(s, ('Content-Length', '9')); return []");
    got.is_clean();
    assert_eq!(got.length(), Some(9));
    // It would never end, and close() is called.
    let code = "def application(e, s):
    ok(s)
    try:
        while True: yield b'x'
    finally: e['wsgi.errors'].write('closed')";
    let got = head(code);
    assert_eq!((got.body().as_str(), got.end), ("", Some(Ok(()))));
    assert_eq!(got.lines(), ["closed"]);
}

#[test]
fn codes_without_a_body_have_none() {
    for status in ["204 No Content", "205 Reset Content", "304 Not Modified"] {
        let got = get(&format!(
            "def application(e, s):\n    ok(s, status='{status}')(b'x'); return [b'abc']"
        ));
        assert_eq!(got.end, Some(Ok(())));
        let warning = format!("application returned a body with status {}", &status[..3]);
        assert_eq!(got.log, [(Level::Warn, warning)]);
        assert_eq!((got.body().as_str(), got.length()), ("", None), "{status}");
    }
    let got = get(
        "def application(e, s):\n    ok(s, ('Content-Length', '9'), status='304 x'); return []",
    );
    got.is_clean();
    assert_eq!(got.length(), Some(9));
}

#[test]
fn a_regular_file_crosses_as_a_file() {
    let code = "import os, tempfile
def application(e, s):
    f = tempfile.TemporaryFile(); f.write(b'0123456789'); f.seek(3)
    f.flush()
    ok(s, *[('Content-Length', v) for v in e['QUERY_STRING'].split()])
    return e['wsgi.file_wrapper'](f)";
    let ask = |length: &[u8]| request(&app(code), with_vars(&[(b"QUERY_STRING", length)]));
    for (length, body) in [(&b""[..], "3456789"), (b"4", "3456"), (b"7", "3456789")] {
        let got = ask(length);
        got.is_clean();
        assert!(got.head.as_ref().unwrap().is_file());
        assert_eq!((got.length(), got.body()), (Some(body.len() as u64), body.to_owned()));
        assert_eq!(got.chunks.len(), 1);
    }
    let got = ask(b"8");
    assert_eq!(got.end, Some(Err(Failure::Underrun)));
    assert!(!got.head.unwrap().is_file());
}

#[test]
fn the_file_wrapper_iterates_and_closes() {
    let code = "import io
class File(io.BytesIO):
    def close(self): super().close(); self.errors.write('closed')
def application(e, s):
    ok(s)
    f = File(b'x' * 10); f.errors = e['wsgi.errors']
    return e['wsgi.file_wrapper'](f, 4)";
    let got = get(code);
    assert_eq!(got.chunks, [&b"xxxx"[..], b"xxxx", b"xx"]);
    assert_eq!(got.lines(), ["closed"]);
    let code = "class Reader:
    def __init__(self): self.left = [b'a', b'b', b'']
    def read(self, n): assert n == 8192; return self.left.pop(0)
def application(e, s):
    ok(s); w = e['wsgi.file_wrapper'](Reader()); assert next(w) == b'a'; return w";
    let got = get(code);
    got.is_clean();
    assert_eq!(got.body(), "b");
}
