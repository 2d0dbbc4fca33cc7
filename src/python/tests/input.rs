//! `wsgi.input`. PEP 3333, "Input and Error Streams".

use bytes::Bytes;

use super::{app, in_file, request, with_body};
use crate::wsgi::segment::Segment;

fn memory(content: &'static [u8]) -> Segment {
    Segment::Memory(Bytes::from_static(content))
}

/// Runs statements on `i`, the input, for a body in memory, in a file and in both.
fn check(statements: &str) {
    let statements = statements.replace('\n', "\n    ");
    let app = app(&format!(
        "def application(e, s):\n    i = e['wsgi.input']\n    {statements}\n    ok(s); return []"
    ));
    for segments in [
        vec![memory(b"aa\nbb\ncc")],
        vec![in_file(b"aa\nbb\ncc")],
        vec![memory(b"aa\nb"), in_file(b"b\ncc")],
    ] {
        request(&app, with_body(segments)).is_clean();
    }
}

#[test]
fn read_in_all_sizes() {
    check("assert i.read() == b'aa\\nbb\\ncc' and i.read() == b'' and i.read(5) == b''");
    check("assert i.read(-1) == b'aa\\nbb\\ncc' and i.read(-1) == b''");
    check("assert i.read(None) == b'aa\\nbb\\ncc'");
    check("assert i.read(0) == b'' and i.read(4) == b'aa\\nb' and i.read(99) == b'b\\ncc'");
    check("assert i.read1(3) == b'aa\\n' and i.read1() == b'bb\\ncc'");
    check(
        "b = bytearray(6)\nassert i.readinto(b) == 6 and b == b'aa\\nbb\\n'\nassert i.readinto(b) == 2 and b[:2] == b'cc' and i.readinto(b) == 0",
    );
    check("try: i.read('x')\nexcept TypeError: pass\nelse: raise AssertionError");
}

#[test]
fn lines() {
    check(
        "assert i.readline() == b'aa\\n' and i.readline(-1) == b'bb\\n'\nassert i.readline(None) == b'cc' and i.readline() == b''",
    );
    check("assert i.readline(1) == b'a' and i.readline() == b'a\\n' and i.readline(0) == b''");
    check(
        "assert i.readline(2) == b'aa' and i.readline(1) == b'\\n' and i.readline(3) == b'bb\\n'",
    );
    check("assert list(i) == [b'aa\\n', b'bb\\n', b'cc'] and list(i) == []");
    check("assert i.readlines() == [b'aa\\n', b'bb\\n', b'cc'] and i.readlines() == []");
    check("i.readline()\nassert i.readlines(2) == [b'bb\\n'] and i.readlines(0) == [b'cc']");
    check(
        "i.readline()\nassert i.read(1) == b'b' and i.readline() == b'b\\n' and i.read() == b'cc'",
    );
}

#[test]
fn positions() {
    check(
        "assert i.tell() == 0 and i.seekable() and i.readable() and not i.writable()\ni.read(4)\nassert i.tell() == 4 and i.seek(0) == 0 and i.readline() == b'aa\\n' and i.tell() == 3",
    );
    check(
        "assert i.seek(-2, 2) == 6 and i.read() == b'cc' and i.seek(-3, 1) == 5 and i.readline() == b'\\n'",
    );
    check(
        "assert i.seek(100) == 100 and i.read() == b'' and i.readline() == b'' and i.seek(3) == 3 and i.readline() == b'bb\\n'",
    );
    check(
        "i.seek(2**62)\ntry: i.seek(2**62, 1)\nexcept OverflowError: pass\nelse: raise AssertionError",
    );
    check(
        "for bad in ((-1,), (0, 9), (-9, 2)):\n    try: i.seek(*bad)\n    except ValueError: pass\n    else: raise AssertionError(bad)",
    );
    check(
        "import io\nassert io.TextIOWrapper(io.BufferedReader(i)).read() == 'aa\\nbb\\ncc' and not i.closed",
    );
}

#[test]
fn a_descriptor_only_for_a_body_in_a_file() {
    let app = app("import io, os
def application(e, s):
    ok(s)
    try: fd = e['wsgi.input'].fileno()
    except io.UnsupportedOperation: return [b'none']
    return [os.pread(fd, 99, 0)]");
    let body = |segments| request(&app, with_body(segments)).body();
    assert_eq!(body(vec![in_file(b"abc")]), "abc");
    assert_eq!(body(vec![memory(b"abc")]), "none");
    assert_eq!(body(vec![memory(b"abc"), in_file(b"abc")]), "none");
    assert_eq!(body(vec![]), "none");
}

#[test]
fn long_lines_and_many_short_ones() {
    let app = app("import hashlib
def application(e, s):
    i = e['wsgi.input']; ok(s)
    first = i.readline()
    assert len(first) == 700_000 and first[-2:] == b'x\\n', len(first)
    i.seek(0)
    assert len(i.readline(650_000)) == 650_000 and len(i.readline()) == 50_000
    rest = list(i)
    assert len(rest) == 20_000 and set(rest) == {b'short\\n'}, len(rest)
    i.seek(0); return [str(len(i.read())).encode()]");
    let mut content = vec![b'x'; 699_999];
    content.push(b'\n');
    content.extend(b"short\n".repeat(20_000));
    let got = request(&app, with_body(vec![in_file(&content)]));
    got.is_clean();
    assert_eq!(got.body(), "820000");
    request(&app, with_body(vec![Segment::Memory(Bytes::from(content))])).is_clean();
}

#[test]
fn a_truncated_file_is_an_os_error() {
    let app = app("def application(e, s):
    ok(s)
    for use in (lambda i: i.read(), lambda i: i.readline()):
        try: use(e['wsgi.input'])
        except OSError: e['wsgi.input'].seek(0)
        else: raise AssertionError
    return []");
    let Segment::File { file, .. } = in_file(b"abc") else { unreachable!() };
    let segment = Segment::File { file, offset: 0, len: 10 };
    request(&app, with_body(vec![segment])).is_clean();
}

#[test]
fn other_threads_and_cycles_may_hold_it() {
    let app = app("import gc, threading
def application(e, s):
    ok(s); e['self'] = e
    got = []
    threads = [threading.Thread(target=lambda: got.append(e['wsgi.input'].readline())) for _ in 'abc']
    for t in threads: t.start()
    for t in threads: t.join()
    assert sorted(got) == [b'aa\\n', b'bb\\n', b'cc']
    del e; gc.collect(); return []");
    for _ in 0..3 {
        request(&app, with_body(vec![in_file(b"aa\nbb\ncc")])).is_clean();
    }
}
