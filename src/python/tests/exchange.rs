//! Exceptions, close(), cancelled clients and slow ones. PEP 3333, "Error Handling".

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::{Outcome, PythonApplication, WINDOW, app, content, get, open, request, worker};
use crate::wsgi::application::Application;
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{InFlight, Progress};
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::Request;
use crate::wsgi::request::body_pipe::BodyPipe;
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

/// An application that waits when it has sent all of its Content-Length, for another request with
/// `GO`; then it does `late`.
fn goes_on(late: &str) -> PythonApplication {
    let code = format!(
        "import threading
go = threading.Event()
def body(e):
    yield b'a'
    e['wsgi.errors'].write('begun')
    yield b'bc'
    assert go.wait(60)
    {late}
def application(e, s):
    if e.get('GO'): go.set(); ok(s); return [b'']
    ok(s, ('Content-Length', '3')); e['REQUEST_METHOD'] = 'GET'; e['REQUEST_URI'] = '/x'
    return body(e)"
    );
    app(&code)
}

/// What is logged of a request whose client has had all of its response before `late`.
fn logged_late(late: &str) -> Vec<(Level, String)> {
    let app = goes_on(late);
    let (exchange, sender) = open(WINDOW);
    thread::scope(|scope| {
        scope.spawn(|| worker().attached(|| app.call(Request::default(), sender)));
        while exchange.progress() != Progress::Ended {
            thread::yield_now();
        }
        // The thread may be interrupted, and its exchange is not used again.
        assert!(!exchange.has_returned() && Arc::strong_count(&exchange) > 1);
        let got = Outcome::new(exchange.id(), exchange.take());
        assert_eq!((got.body().as_str(), got.end), ("abc", Some(Ok(()))));
        assert_eq!(got.lines(), ["begun"]);
        // As the event loop does it.
        exchange.cancel();
        request(&app, super::with_vars(&[(b"GO", b"1")])).is_clean();
    });
    assert!(exchange.has_returned() && exchange.take().end.is_none());
    worker().log(Some(exchange.id())).split_off(1)
}

#[test]
fn a_response_of_its_whole_length_does_not_wait_for_the_application() {
    assert_eq!(logged_late("pass"), []);
    assert_eq!(logged_late("yield b''"), []);
    let errors = |lines: &[&str]| -> Vec<_> {
        lines.iter().map(|line| (Level::Error, (*line).to_owned())).collect()
    };
    assert_eq!(logged_late("e['wsgi.errors'].write('late')"), errors(&["late"]));
    let too_long = "application returned more than Content-Length: \"GET /x\"";
    assert_eq!(logged_late("yield b'd'; print('never')"), errors(&[too_long]));
    let wrong = "TypeError: application yielded str instead of bytes: \"GET /x\"";
    assert_eq!(logged_late("yield 'd'"), errors(&[wrong]));
}

#[test]
fn an_exception_after_the_whole_length_is_only_logged() {
    for raised in ["ValueError('late')", "SystemExit(2)", "BrokenPipeError(32, 'late')"] {
        let log = logged_late(&format!("raise {raised}"));
        let first = "application after the end of its response for \"GET /x\":";
        assert_eq!(log[0], (Level::Error, first.to_owned()));
        assert!(log.last().unwrap().1.contains(raised.split('(').next().unwrap()), "{log:?}");
    }
}

#[test]
fn an_application_that_still_reads_ends_its_response_itself() {
    let code = "def application(e, s):
    ok(s, ('Content-Length', '1')); yield b'a'
    e['wsgi.errors'].write(e['wsgi.input'].read().decode())";
    let mailbox = Arc::clone(&worker().mailbox);
    let pipe = Arc::new(BodyPipe::new(0, 1 << 16, mailbox));
    let app = app(code);
    let (exchange, sender) = open(WINDOW);
    thread::scope(|scope| {
        let asked = Request { pipe: Some(Arc::clone(&pipe)), ..Request::default() };
        scope.spawn(|| worker().attached(|| app.call(asked, sender)));
        let now = Instant::now();
        while pipe.progress(Progress::Silent(now)) != Progress::Blocked {
            thread::yield_now();
        }
        assert_ne!(exchange.progress(), Progress::Ended);
        pipe.append(b"rest");
        pipe.complete();
    });
    let got = Outcome::new(exchange.id(), exchange.take());
    assert_eq!((got.body().as_str(), got.end), ("a", Some(Ok(()))));
    assert_eq!(got.lines(), ["rest"]);
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
