//! Exceptions, close(), cancelled clients and slow ones. PEP 3333, "Error Handling".

use std::thread;

use super::{Outcome, WINDOW, app, content, get, open, request, worker};
use crate::wsgi::application::Application;
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{InFlight, Progress};
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::Request;
use crate::wsgi::segment::Segment;

#[test]
fn an_exception_is_logged_line_by_line() {
    let got = get("def application(e, s):\n    ok(s)\n    raise KeyError('a\\nb\\x1b')");
    assert_eq!(got.end, Some(Err(Failure::Application)));
    assert!(got.head.is_none());
    assert_eq!(got.lines()[0], "Traceback (most recent call last):");
    assert!(got.lines().last().unwrap().starts_with("KeyError: "));
    assert!(got.log.iter().all(|(level, line)| *level == Level::Error && !line.contains('\n')));
}

#[test]
fn no_exception_ends_the_process() {
    for raised in [
        "SystemExit(2)",
        "KeyboardInterrupt",
        "GeneratorExit",
        "MemoryError",
        "BaseException('x')",
        "type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
        "Exception('\\udc80')",
    ] {
        for code in [
            format!("def application(e, s):\n    raise {raised}"),
            format!("def application(e, s):\n    ok(s); yield b'a'\n    raise {raised}"),
        ] {
            let got = get(&code);
            assert_eq!(got.end, Some(Err(Failure::Application)), "{raised}");
            assert!(!got.log.is_empty());
        }
    }
    let got = get("def application(e, s): return application(e, s)");
    assert!(got.logged("RecursionError"), "{:?}", got.log);
}

/// An application whose result tells what is done with it, through wsgi.errors.
const TELLTALE: &str = "
class Result:
    def __init__(self, e, *items): self.e, self.items = e, list(items)
    def say(self, text): self.e['wsgi.errors'].write(text + '\\n')
    def __iter__(self): return self
    def __next__(self):
        if not self.items: self.say('stop'); raise StopIteration
        item = self.items.pop(0)
        if isinstance(item, BaseException): raise item
        return item
    def close(self): self.say('close ' + str(self.e['wsgi.input'].read()))
";

#[test]
fn close_comes_once_and_last() {
    let got =
        get(&format!("{TELLTALE}def application(e, s):\n    ok(s); return Result(e, b'a', b'b')"));
    assert_eq!(got.end, Some(Ok(())));
    // The request's objects are still alive in close().
    assert_eq!(got.lines(), ["stop", "close b''"]);
}

#[test]
fn close_runs_after_failures_too() {
    for (result, last) in [
        ("Result(e, b'a', ValueError('x'))", "close b''"),
        ("Result(e, SystemExit(2))", "close b''"),
        ("Result(e, 'text')", "close b''"),
    ] {
        let got = get(&format!("{TELLTALE}def application(e, s):\n    ok(s); return {result}"));
        assert!(matches!(got.end, Some(Err(_))));
        assert_eq!(got.lines().last(), Some(&last), "{result}");
    }
}

#[test]
fn close_runs_after_the_response_is_complete() {
    let code = "import threading
go = threading.Event()
class Result(list):
    def close(self): assert go.wait(60)
def application(e, s):
    if e.get('GO'): go.set()
    ok(s); return Result([b'a'])";
    let app = app(code);
    let (exchange, sender) = open(WINDOW);
    thread::scope(|scope| {
        scope.spawn(|| worker().attached(|| app.call(Request::default(), sender)));
        while exchange.progress() != Progress::Ended {
            thread::yield_now();
        }
        assert_eq!(exchange.take().end, Some(Ok(())));
        request(&app, super::with_vars(&[(b"GO", b"1")])).is_clean();
    });
}

#[test]
fn a_failing_close_is_only_logged() {
    for raised in ["ValueError('x')", "SystemExit(2)"] {
        let got = get(&format!(
            "class R(list):\n    def close(self): raise {raised}\ndef application(e, s):\n    ok(s); return R([b'a'])"
        ));
        assert_eq!((got.body().as_str(), got.end), ("a", Some(Ok(()))));
        assert!(got.lines()[0].starts_with("close() of the application's result for "));
    }
}

#[test]
fn a_client_that_is_gone_stops_the_iteration_quietly() {
    let app =
        app(&format!("{TELLTALE}def application(e, s):\n    ok(s); return Result(e, b'a', b'b')"));
    let (exchange, sender) = open(WINDOW);
    exchange.cancel();
    worker().attached(|| app.call(Request::default(), sender));
    let got = Outcome::new(exchange.id(), exchange.take());
    assert!(got.end.is_none() && got.chunks.is_empty());
    assert_eq!(got.lines(), ["close b''"]);
}

#[test]
fn write_to_a_client_that_is_gone_is_a_broken_pipe() {
    for (body, lines) in [
        ("w(b'x'); return []", &["application stopped at write(): the client is gone"][..]),
        (
            "import errno\n    try: w(b'x')\n    except OSError as x: assert isinstance(x, BrokenPipeError) and x.errno == errno.EPIPE\n    return []",
            &[],
        ),
    ] {
        let app = app(&format!("def application(e, s):\n    w = ok(s); {body}"));
        let (exchange, sender) = open(WINDOW);
        exchange.cancel();
        worker().attached(|| app.call(Request::default(), sender));
        let got = Outcome::new(exchange.id(), exchange.take());
        assert_eq!(got.lines(), lines);
        assert!(got.log.iter().all(|(level, _)| *level == Level::Info));
    }
}

#[test]
fn big_chunks_go_out_in_pieces_as_the_client_takes_them() {
    let app = app("def application(e, s):\n    ok(s); yield b'x' * 25; yield b'y' * 3");
    let (exchange, sender) = open(10);
    let mut body = Vec::new();
    let mut end = None;
    thread::scope(|scope| {
        scope.spawn(|| worker().attached(|| app.call(Request::default(), sender)));
        while end.is_none() {
            let batch = exchange.take();
            let taken: usize = batch.chunks.iter().map(Segment::held).sum();
            assert!(batch.chunks.iter().all(|chunk| chunk.held() <= 10) && taken <= 20);
            exchange.consumed(InFlight { chunks: batch.chunks.len(), bytes: taken, spooled: 0 });
            body.extend(batch.chunks.into_iter().flat_map(content));
            end = batch.end;
            thread::yield_now();
        }
    });
    assert_eq!(end, Some(Ok(())));
    assert_eq!(body, [&[b'x'; 25][..], b"yyy"].concat());
}

#[test]
fn what_the_application_keeps_is_dead_after_the_request() {
    let code = "kept = {}
def application(e, s):
    if not kept:
        kept.update(e, start=s, write=ok(s)); kept['wsgi.errors'].write('half')
        return [b'1']
    ok(s)
    for use in (lambda: kept['wsgi.input'].read(), lambda: kept['write'](b'x'),
                lambda: kept['start']('200 OK', []), lambda: next(kept['wsgi.input'])):
        try: use()
        except ValueError: pass
        else: raise AssertionError
    assert kept['wsgi.input'].closed
    kept['wsgi.errors'].write('late\\n')
    return [b'2']";
    let app = app(code);
    let (exchange, sender) = open(WINDOW);
    worker().attached(|| app.call(Request::default(), sender));
    let first = Outcome::new(exchange.id(), exchange.take());
    assert_eq!((first.body().as_str(), first.lines()), ("1", vec!["half"]));
    let second = request(&app, Request::default());
    assert_eq!((second.end, second.body().as_str()), (Some(Ok(())), "2"));
    // It is this request that says it, as with sys.stderr.
    assert_eq!(second.lines(), ["late"]);
    assert_eq!(worker().log(Some(exchange.id())).len(), 1);
}
