//! wsgi.errors, print() and the other ways to the log. PEP 3333, "Input and Error Streams".

use std::thread;

use super::{WINDOW, app, get, open, request, worker};
use crate::wsgi::application::Application;
use crate::wsgi::exchange::Progress;
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::Request;

#[test]
fn every_way_to_write_ends_in_the_request_s_log() {
    let got = get("import sys, io
def application(e, s):
    ok(s); w = e['wsgi.errors']
    assert w.write('on\\xe9\\n') == 4
    w.writelines(['t', 'wo\\n', 'three']); w.flush(); w.write('fo'); w.write('ur\\r\\nfive\\n')
    print('six', 'seven'); print('eight', file=sys.stderr); print('ni', end=''); print('ne', flush=True)
    sys.stdout.buffer.write(memoryview(b'ten\\n')); sys.stderr.buffer.write(bytearray(b'eleven\\n'))
    w.buffer.write(b'\\xc3'); w.buffer.write(b'\\xa9\\xff\\n')
    w.write('\\udc80\\x1b[0m\\x00\\n'); print('last', end=''); w.write('very last')
    return []");
    let want = [
        "on\u{e9}",
        "two",
        "three",
        "four",
        "five",
        "six seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "\u{e9}\\xff",
        "\\udc80\\x00",
        "very last",
        "last",
    ];
    assert_eq!(got.lines(), want);
    assert!(got.log.iter().all(|(level, _)| *level == Level::Error));
}

#[test]
fn a_line_of_100_kilobytes_is_split() {
    let got = get("def application(e, s):\n    ok(s); print('x' * 100_000); return []");
    assert!(got.lines().iter().all(|line| line.len() <= 1024));
    assert_eq!(got.lines().concat().len(), 100_000);
}

#[test]
fn the_streams_look_like_files() {
    get("import io, sys, logging
def application(e, s):
    ok(s)
    for w in (e['wsgi.errors'], sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        assert w.encoding == 'utf-8' and w.errors == 'backslashreplace' and not w.closed
        assert w.writable() and not w.readable() and not w.isatty() and not w.seekable()
        assert w.line_buffering and w.flush() is None and w.close() is None and not w.closed
        for bad in (b'x', 1, None):
            try: w.write(bad)
            except TypeError: pass
            else: raise AssertionError(bad)
    assert sys.stdout.fileno() == sys.stderr.fileno() == 2
    try: e['wsgi.errors'].fileno()
    except io.UnsupportedOperation: pass
    else: raise AssertionError
    sys.stdout.reconfigure(encoding='utf-8', errors='strict')
    assert sys.stdin.read() == ''
    return []")
    .is_clean();
}

#[test]
fn logging_and_warnings_reach_the_log() {
    let got = get("import logging, warnings
def application(e, s):
    ok(s); logging.getLogger('shop').warning('sold %s', 'out'); warnings.warn('old')
    return []");
    assert!(got.logged("sold out") && got.logged("UserWarning: old"), "{:?}", got.log);
}

#[test]
fn lines_of_other_threads_have_no_request() {
    let got = get("import threading
def application(e, s):
    ok(s); t = threading.Thread(target=print, args=('from another thread',)); t.start(); t.join()
    print('from this one'); return []");
    assert_eq!(got.lines(), ["from this one"]);
    assert!(worker().log(None).iter().any(|(_, line)| line == "from another thread"));
}

#[test]
fn what_a_thread_leaves_without_an_end_is_not_lost() {
    let app = app("import sys, threading
kept = []
def leave(errors):
    print('left in', end=' stdout'); sys.stderr.write('left in stderr'); errors.write(', and late')
def application(e, s):
    ok(s)
    if kept:
        t = threading.Thread(target=leave, args=(kept.pop(),)); t.start(); t.join()
        e['wsgi.errors'].write('own')
    else:
        kept.append(e['wsgi.errors'])
    return []");
    request(&app, Request::default()).is_clean();
    assert_eq!(request(&app, Request::default()).lines(), ["own"]);
    // The thread's own end comes after that of its Python.
    let all = |line: &str| worker().log(None).iter().any(|(_, logged)| logged == line);
    while !all("left in stdout") || !all("left in stderr, and late") {
        thread::yield_now();
    }
}

#[test]
fn a_flood_waits_for_the_log_and_loses_nothing() {
    let app = app("def application(e, s):
    ok(s)
    for n in range(4000): print('x' * 1000)
    return []");
    let (exchange, sender) = open(WINDOW);
    thread::scope(|scope| {
        scope.spawn(|| worker().attached(|| app.call(Request::default(), sender)));
        while exchange.progress() != Progress::Ended {
            worker().log(None);
            thread::yield_now();
        }
    });
    assert_eq!(worker().log(Some(exchange.id())).len(), 4000);
}
