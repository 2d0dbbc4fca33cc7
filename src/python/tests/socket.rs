//! `werkzeug.socket` and `gunicorn.socket`: what an application has of them, and how it ends.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::websocket::offered;
use super::{Outcome, app, request};
use crate::wsgi::error::Failure;
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::Request;
use crate::wsgi::upgrade::Upgrade;
use crate::wsgi::upgrade::raw::Raw;

/// Serves a request for a WebSocket; also what the application has written to its end, which counts
/// as `used` or not.
fn upgrade(code: &str, used: bool) -> (Outcome, Vec<u8>) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let has_bytes = if used { |_| true } else { |_| false };
    let raw = Raw::new(theirs.into(), ours.as_raw_fd(), has_bytes);
    let upgrade = Some(Arc::new(Upgrade { raw, frames: offered() }));
    let outcome = request(&app(code), Request { upgrade, ..Request::default() });
    let mut written = Vec::new();
    // Up to the end: nobody has the other end any more.
    ours.read_to_end(&mut written).unwrap();
    (outcome, written)
}

#[test]
fn both_keys_are_one_socket_which_is_closed_with_the_request() {
    let code = "import socket
kept = []
def application(e, s):
    kept.append(e['werkzeug.socket'])
    assert e['gunicorn.socket'] is kept[0] and type(kept[0]) is socket.socket
    assert kept[0].gettimeout() is None and not kept[0].get_inheritable()
    kept[0].sendall(b'bytes')
    return []";
    let (outcome, written) = upgrade(code, true);
    outcome.is_clean();
    assert_eq!(written, b"bytes");
}

#[test]
fn what_else_an_application_says_that_has_used_it_is_nobodys() {
    for end in ["return []", "ok(s); return [b'x']", "raise StopIteration", "return 'no bytes'"] {
        let (outcome, _) = upgrade(&format!("def application(e, s):\n    {end}"), true);
        outcome.is_clean();
    }
}

#[test]
fn an_exception_is_logged_all_the_same() {
    let (outcome, _) = upgrade("def application(e, s): raise ValueError('on purpose')", true);
    assert_eq!(outcome.end, Some(Err(Failure::Application)));
    assert_eq!(outcome.log.last(), Some(&(Level::Error, "ValueError: on purpose".to_owned())));
}

#[test]
fn one_that_has_not_used_it_answers_as_any_other() {
    let (outcome, written) = upgrade("def application(e, s): ok(s); return [b'plain']", false);
    outcome.is_clean();
    assert_eq!((outcome.body().as_str(), written), ("plain", Vec::new()));
    let (outcome, _) = upgrade("def application(e, s): raise StopIteration", false);
    assert_eq!(outcome.end, Some(Err(Failure::Application)));
    let (outcome, _) = upgrade("def application(e, s): return []", false);
    assert_eq!(outcome.end, Some(Err(Failure::Protocol)));
}

#[test]
fn an_application_may_close_or_detach_it() {
    let code = "import os
def application(e, s):
    sock = e['werkzeug.socket']
    sock.send(b'x')
    if e.get('REQUEST_METHOD') is None: os.close(sock.detach())
    return []";
    let (outcome, written) = upgrade(code, true);
    outcome.is_clean();
    assert_eq!(written, b"x");
}
