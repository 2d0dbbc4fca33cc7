//! `wsgi.websocket`, with a client that is made of bytes.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::worker;
use crate::python::websocket::socket::WebSocket;
use crate::python::websocket::uwsgi::Serving;
use crate::wsgi::websocket::handshake::Refusal;
use crate::wsgi::websocket::{Conversation, Limits, Outcome};

/// A masked frame; the mask changes nothing.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    bytes.extend(payload);
    bytes
}

pub fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// A conversation whose handshake has not been done.
pub fn offered() -> Arc<Conversation> {
    let limits = Limits { max_message: 1000, ping: None };
    Arc::new(Conversation::new(limits, Instant::now(), || ()))
}

fn environ<'py>(py: Python<'py>, version: &str) -> Bound<'py, PyDict> {
    let environ = PyDict::new(py);
    for (name, value) in [
        ("HTTP_SEC_WEBSOCKET_KEY", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("HTTP_SEC_WEBSOCKET_VERSION", version),
        ("HTTP_SEC_WEBSOCKET_PROTOCOL", "chat, superchat"),
        ("HTTP_ORIGIN", "http://example.com"),
        ("PATH_INFO", "/echo"),
    ] {
        environ.set_item(name, value).unwrap();
    }
    environ
}

/// Runs Python code with the WebSocket as `ws`; its frames go to the client.
pub fn run(conversation: &Arc<Conversation>, version: &str, code: &str) {
    worker().attached(|| {
        Python::attach(|py| {
            let environ = environ(py, version);
            let socket = WebSocket::new(Arc::clone(conversation), &environ).unwrap();
            let socket = Bound::new(py, socket).unwrap();
            let serving = Serving::enter(&socket);
            let space = PyDict::new(py);
            space.set_item("ws", &socket).unwrap();
            space.set_item("environ", environ).unwrap();
            let prelude = "from nginx_wsgi import WebSocketError\n\
                def raises(kind, call, *args):\n\
                \x20   try: call(*args)\n\
                \x20   except kind as error: return str(error)\n\
                \x20   raise AssertionError(f'{kind} not raised')\n";
            let code = std::ffi::CString::new(format!("{prelude}{code}")).unwrap();
            let ran = py.run(&code, Some(&space), None);
            drop(serving);
            if let Err(err) = ran {
                let text = crate::python::interpreter::exception::text(py, &err);
                panic!("{text}");
            }
        });
    });
}

/// What the server has sent since.
pub fn sent(conversation: &Conversation) -> Vec<u8> {
    let now = Instant::now();
    let output = conversation.look(Vec::new(), now).output;
    conversation.sent(output.len(), now);
    output
}

pub fn feed(conversation: &Conversation, bytes: &[u8]) {
    assert_eq!(conversation.feed(bytes, Instant::now()), bytes.len());
}

/// One whose handshake has been done.
pub fn open() -> Arc<Conversation> {
    let conversation = offered();
    run(&conversation, "13", "assert ws.send('') is None");
    assert_eq!(sent(&conversation), b"\x81\x00");
    conversation
}

#[test]
fn the_object_says_what_the_client_asked_for() {
    let conversation = offered();
    run(
        &conversation,
        "13",
        "\
assert (ws.version, ws.origin, ws.path) == ('13', 'http://example.com', '/echo')
assert ws.protocol == 'chat, superchat' and ws.closed is False",
    );
    assert!(conversation.look(Vec::new(), Instant::now()).accepted.is_none());
    run(&conversation, "13", "ws.send('x')");
    let accepted = conversation.look(Vec::new(), Instant::now()).accepted.unwrap();
    assert_eq!(accepted.protocol(), Some("chat"));
}

#[test]
fn text_is_str_and_the_rest_bytes() {
    let conversation = open();
    feed(&conversation, &[text("größe"), frame(0x82, b"\xff"), text("")].concat());
    run(
        &conversation,
        "13",
        "\
assert ws.receive() == 'größe' and ws.receive() == b'\\xff' and ws.receive() == ''
for message in ['ü', b'u', bytearray(b'u'), memoryview(b'u')]: ws.send(message)
ws.send(b'u', False); ws.send('u', binary=True)
assert 'UTF-8' in raises(ValueError, ws.send, b'\\xff', False)
for wrong in [None, 3, ['x']]: assert 'message must be' in raises(TypeError, ws.send, wrong)
raises(UnicodeEncodeError, ws.send, '\\udc80')",
    );
    let want = b"\x81\x02\xc3\xbc\x82\x01u\x82\x01u\x82\x01u\x81\x01u\x82\x01u";
    assert_eq!(sent(&conversation), want);
}

#[test]
fn the_end_is_none_once_and_then_an_error() {
    let conversation = open();
    feed(&conversation, &[text("last"), frame(0x88, b"\x03\xe8")].concat());
    run(
        &conversation,
        "13",
        "\
assert ws.closed is False and ws.receive() == 'last'
assert ws.closed is True and ws.receive() is None and ws.closed is True
assert raises(WebSocketError, ws.receive) == 'Connection is already closed'
assert 'the client has closed' in raises(OSError, ws.send, 'x')
assert ws.close() is None",
    );
    assert_eq!(sent(&conversation), b"\x88\x02\x03\xe8");
}

#[test]
fn an_application_closes_with_code_and_message() {
    for (call, frame) in [
        ("ws.close()", &b"\x88\x02\x03\xe8"[..]),
        ("ws.close(4001, 'so')", b"\x88\x04\x0f\xa1so"),
        ("ws.close(code=1001, message=b'so')", b"\x88\x04\x03\xe9so"),
    ] {
        let conversation = open();
        run(
            &conversation,
            "13",
            &format!(
                "{call}
assert ws.closed and raises(WebSocketError, ws.receive) == 'Connection is already closed'
assert raises(WebSocketError, ws.send, 'x') == 'Connection is already closed'
ws.close(1002)"
            ),
        );
        assert_eq!(sent(&conversation), frame);
    }
    let conversation = open();
    run(
        &conversation,
        "13",
        "\
for code in [0, 999, 1005, 1006, 1015, 5000]: raises(ValueError, ws.close, code)
assert '123' in raises(ValueError, ws.close, 1000, 'x' * 124)
assert not ws.closed; ws.close(1000, 'x' * 123)",
    );
}

#[test]
fn a_bad_handshake_is_an_error_of_the_application() {
    let conversation = offered();
    run(
        &conversation,
        "8",
        "\
assert 'Sec-WebSocket-Version' in raises(WebSocketError, ws.receive)
assert 'Sec-WebSocket-Version' in raises(WebSocketError, ws.send, 'x')
assert 'Sec-WebSocket-Version' in raises(WebSocketError, ws.close)",
    );
    assert_eq!(conversation.refusal(), Some(Refusal::Version));
    let conversation = offered();
    conversation.withdraw();
    run(&conversation, "13", "assert 'otherwise' in raises(WebSocketError, ws.receive)");
}

#[test]
fn waiting_lets_others_run() {
    let conversation = open();
    let client = Arc::clone(&conversation);
    let helper = thread::spawn(move || {
        // Nobody waits with the interpreter in its hands.
        worker().attached(|| ());
        feed(&client, &text("x"));
        let mut got = 0;
        while got < 1_000_000 {
            worker().attached(|| ());
            got += sent(&client).len();
        }
    });
    run(
        &conversation,
        "13",
        "\
assert ws.receive() == 'x'
ws.send(b'x' * 1_000_000); ws.send('y')",
    );
    helper.join().unwrap();
}

#[test]
fn another_thread_is_woken_by_the_end() {
    let conversation = open();
    run(
        &conversation,
        "13",
        "\
import threading
got = []
def receive():
    # It may come too late to wait.
    try: got.append(ws.receive())
    except WebSocketError: got.append(None)
threads = [threading.Thread(target=receive) for _ in range(2)]
for thread in threads: thread.start()
ws.close()
for thread in threads: thread.join()
assert got == [None, None], got",
    );
    conversation.ended(Outcome::Returned);
}

#[test]
fn the_class_of_an_error_is_the_one_that_the_application_has() {
    let conversation = open();
    conversation.gone();
    run(
        &conversation,
        "13",
        "\
import sys, types
assert issubclass(WebSocketError, OSError)
raises(WebSocketError, ws.send, 'x')
module = types.ModuleType('geventwebsocket.exceptions')
module.WebSocketError = type('WebSocketError', (OSError,), {})
sys.modules[module.__name__] = module
try: raises(module.WebSocketError, ws.send, 'x')
finally: del sys.modules[module.__name__]",
    );
}
