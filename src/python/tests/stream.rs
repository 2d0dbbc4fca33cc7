//! `wsgi.input` of a body that is still on its way.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::{Outcome, PythonApplication, app, request, worker};
use crate::wsgi::exchange::Progress;
use crate::wsgi::request::Request;
use crate::wsgi::request::body_pipe::{BodyError, BodyPipe};

fn pipe() -> Arc<BodyPipe> {
    Arc::new(BodyPipe::new(0, 1 << 16, Arc::clone(&worker().mailbox)))
}

/// A request whose body is what `send` does, once the application waits for it.
fn with_sender(app: &PythonApplication, send: impl FnOnce(&BodyPipe) + Send + 'static) -> Outcome {
    let pipe = pipe();
    let sender = Arc::clone(&pipe);
    let sender = thread::spawn(move || {
        let now = Instant::now();
        while sender.progress(Progress::Silent(now)) != Progress::Blocked {
            thread::yield_now();
        }
        // Nobody waits with the interpreter in its hands.
        worker().attached(|| ());
        send(&sender);
    });
    let outcome = request(app, Request { pipe: Some(pipe), ..Request::default() });
    sender.join().unwrap();
    outcome
}

#[test]
fn a_read_waits_without_the_interpreter() {
    let app = app("def application(e, s):
    ok(s)
    f = e['wsgi.input']
    assert f.read(0) == b'' and f.readlines(1) == [b'aa\\n'] and next(f) == b'bb\\n'
    assert f.read() == b'cc' and f.read() == f.readline() == f.read1() == b'' and list(f) == []
    return []");
    let outcome = with_sender(&app, |pipe| {
        for byte in b"aa\nbb\ncc" {
            pipe.append(&[*byte]);
            pipe.hand_over();
        }
        pipe.complete();
    });
    outcome.is_clean();
}

#[test]
fn what_goes_wrong_is_an_os_error_of_its_kind() {
    let app = app("def application(e, s):
    try: e['wsgi.input'].read()
    except OSError as error: ok(s); return [f'{type(error).__name__}: {error}'.encode()]");
    for (error, text) in [
        (BodyError::Gone, "ConnectionResetError: [Errno 104] the client is gone"),
        (BodyError::TimedOut, "TimeoutError: [Errno 110] the client timed out"),
        (BodyError::TooLarge, "OSError: [Errno 27] the request body is too large"),
        (BodyError::Malformed, "OSError: [Errno 71] the request body is malformed"),
    ] {
        let outcome = with_sender(&app, move |pipe| pipe.fail(error));
        assert_eq!(outcome.body(), text);
    }
}

#[test]
fn the_end_of_the_request_wakes_a_thread_that_reads() {
    let app = app("import threading
kept = {}
begun = threading.Event()
def read(f):
    f.read1(); begun.set()
    try: f.read(5)
    except ValueError as error: kept['error'] = error
def application(e, s):
    ok(s)
    if 'thread' not in kept:
        kept['f'] = e['wsgi.input']
        kept['thread'] = threading.Thread(target=read, args=(kept['f'],))
        kept['thread'].start()
        begun.wait(10)
        return []
    kept['thread'].join(10)
    assert kept['f'].closed and 'after the end' in str(kept['error'])
    for use in (kept['f'].read, kept['f'].readline, lambda: next(kept['f'])):
        try: use()
        except ValueError: pass
        else: raise AssertionError
    return []");
    let outcome = with_sender(&app, |pipe| {
        pipe.append(b"123");
        pipe.hand_over();
    });
    outcome.is_clean();
    request(&app, Request::default()).is_clean();
}
