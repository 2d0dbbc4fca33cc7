//! The module `uwsgi`.

use super::websocket::{feed, frame, offered, open, run, sent, text};
use super::{get, worker};
use std::time::Instant;

#[test]
fn messages_are_bytes() {
    let conversation = offered();
    run(
        &conversation,
        "13",
        "\
import uwsgi
assert uwsgi.websocket_handshake(environ['HTTP_SEC_WEBSOCKET_KEY'], '') is None
assert uwsgi.websocket_recv_nb() == b''
assert uwsgi.websocket_send('ü') is None and uwsgi.websocket_send(b'u') is None
assert uwsgi.websocket_send_binary('ü') is None and uwsgi.websocket_send_binary(b'\\xff') is None
raises(ValueError, uwsgi.websocket_send, b'\\xff')
raises(TypeError, uwsgi.websocket_send, None)
raises(TypeError, uwsgi.websocket_send)",
    );
    assert_eq!(sent(&conversation), b"\x81\x02\xc3\xbc\x81\x01u\x82\x02\xc3\xbc\x82\x01\xff");
    feed(&conversation, &[text("ü"), frame(0x82, b"\xff"), text("last")].concat());
    run(
        &conversation,
        "13",
        "\
import uwsgi
assert uwsgi.websocket_recv() == 'ü'.encode() and uwsgi.websocket_recv_nb() == b'\\xff'
assert uwsgi.websocket_recv() == b'last'",
    );
    conversation.gone();
    run(
        &conversation,
        "13",
        "\
import uwsgi
assert raises(IOError, uwsgi.websocket_recv).startswith('unable to receive websocket message')
assert raises(IOError, uwsgi.websocket_recv_nb).startswith('unable to receive websocket message')
assert raises(IOError, uwsgi.websocket_send, 'x').startswith('unable to send websocket message')
raises(IOError, uwsgi.websocket_send_binary, 'x')
uwsgi.disconnect()",
    );
}

#[test]
fn the_handshake_takes_what_it_is_given() {
    for (arguments, accept, protocol) in [
        ("", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "chat"),
        ("b'', b'', 'superchat'", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "superchat"),
        (
            "'AQIDBAUGBwgJCgsMDQ4PEA==', 'http://example.com', b'x'",
            "C/0nmHhBztSRGR1CwL6Tf4ZjwpY=",
            "x",
        ),
    ] {
        let conversation = offered();
        let code = format!("import uwsgi; uwsgi.websocket_handshake({arguments})");
        run(&conversation, "13", &code);
        let accepted = conversation.look(Vec::new(), Instant::now()).accepted.unwrap();
        let fields: Vec<_> = accepted.fields().collect();
        let want = [("Sec-WebSocket-Accept", accept), ("Sec-WebSocket-Protocol", protocol)];
        assert_eq!(fields, want);
    }
    let conversation = offered();
    run(
        &conversation,
        "13",
        "\
import uwsgi
raises(ValueError, uwsgi.websocket_handshake, '', '', 'a\\r\\nb')
raises(TypeError, uwsgi.websocket_handshake, 3)
assert 'Sec-WebSocket-Key' in raises(IOError, uwsgi.websocket_handshake, 'short')",
    );
    run(
        &offered(),
        "12",
        "\
import uwsgi
assert 'Sec-WebSocket-Version' in raises(IOError, uwsgi.websocket_handshake)
assert 'Sec-WebSocket-Version' in raises(IOError, uwsgi.websocket_send, 'x')",
    );
}

#[test]
fn before_the_handshake_there_is_nothing_to_say() {
    run(
        &offered(),
        "13",
        "\
import uwsgi
for call in [uwsgi.websocket_recv, uwsgi.websocket_recv_nb]:
    assert 'handshake has not been done' in raises(IOError, call)
assert 'handshake has not been done' in raises(IOError, uwsgi.websocket_send, 'x')",
    );
}

#[test]
fn a_descriptor_says_whether_there_is_something() {
    let conversation = open();
    run(
        &conversation,
        "13",
        "\
import uwsgi, select
fd = uwsgi.connection_fd()
assert uwsgi.connection_fd() == fd and select.select([fd], [], [], 0)[0] == []
uwsgi.wait_fd_read(fd, 0.01); uwsgi.suspend()
assert uwsgi.ready_fd() == -1",
    );
    feed(&conversation, &[text("x"), text("y")].concat());
    run(
        &conversation,
        "13",
        "\
import uwsgi, select
fd = uwsgi.connection_fd()
for message in [b'x', b'y']:
    assert select.select([fd], [], [], 0)[0] == [fd]
    assert uwsgi.wait_fd_read(fd, 3) == b''; uwsgi.suspend()
    assert uwsgi.ready_fd() == fd
    assert uwsgi.websocket_recv_nb() == message
assert select.select([fd], [], [], 0)[0] == []",
    );
    feed(&conversation, &frame(0x88, b""));
    run(
        &conversation,
        "13",
        "\
import uwsgi, select
assert select.select([uwsgi.connection_fd()], [], [], 0)[0]
raises(IOError, uwsgi.websocket_recv_nb)",
    );
}

#[test]
fn disconnect_closes() {
    let conversation = open();
    run(
        &conversation,
        "13",
        "import uwsgi; uwsgi.disconnect(); uwsgi.disconnect(); assert ws.closed",
    );
    assert_eq!(sent(&conversation), b"\x88\x02\x03\xe8");
}

#[test]
fn a_request_of_another_kind_has_no_websocket() {
    let outcome = get("import uwsgi
def application(e, s):
    uwsgi.disconnect()
    for call in [uwsgi.websocket_handshake, uwsgi.websocket_recv, uwsgi.connection_fd]:
        try: call()
        except OSError as error: assert 'no request of a WebSocket' in str(error)
        else: raise AssertionError(call)
    ok(s)
    return []");
    outcome.is_clean();
}

#[test]
fn the_server_is_told_of() {
    let outcome = get("import uwsgi, os
def application(e, s):
    assert (uwsgi.worker_id(), uwsgi.numproc, uwsgi.masterpid()) == (2, 3, os.getppid())
    assert uwsgi.workers()[0]['pid'] == os.getpid() and uwsgi.mule_id() == 0
    opt = uwsgi.opt
    assert (opt['enable-threads'], opt['threads'], opt['lazy-apps']) == (b'true', b'4', b'true')
    assert uwsgi.version.startswith(b'2.0') and uwsgi.version_info[:2] == (2, 0)
    assert uwsgi.log('said') is True
    ok(s)
    return []");
    assert_eq!(outcome.end, Some(Ok(())), "{:?}", outcome.log);
    assert_eq!(outcome.lines(), ["said"]);
}

#[test]
fn what_is_not_there_says_what_to_use() {
    let outcome = get("import uwsgi, uwsgidecorators
def application(e, s):
    for module, name, word in [
        (uwsgi, 'cache_get', 'Redis'), (uwsgi, 'spool', 'Celery'), (uwsgi, 'send_to_spooler', 'Celery'),
        (uwsgi, 'add_timer', 'systemd'), (uwsgi, 'sharedarea_read', 'shared_memory'),
        (uwsgi, 'request_context', '2.1'), (uwsgi, 'what', 'migrating'),
        (uwsgidecorators, 'spool', 'Celery'), (uwsgidecorators, 'timer', 'systemd'),
        (uwsgidecorators, 'what', 'no attribute'),
    ]:
        assert not hasattr(module, name), name
        try: getattr(module, name)
        except AttributeError as error: assert name in str(error) and word in str(error), error
    ok(s)
    return []");
    outcome.is_clean();
}

#[test]
fn hooks_of_a_fork_run_at_once() {
    let outcome = get("import uwsgi, uwsgidecorators
ran = []
@uwsgidecorators.postfork
def first(): ran.append(1)
@uwsgidecorators.postfork(2)
def second(): ran.append(2)
@uwsgidecorators.postfork(1)
def other(): ran.append('other worker')
uwsgi.post_fork_hook = lambda: ran.append(3)
first()
uwsgi.atexit = lambda: None
def application(e, s):
    assert ran == [1, 2, 3, 1], ran
    ok(s)
    return []");
    outcome.is_clean();
}

#[test]
fn locks_exclude_each_other_by_number() {
    let outcome = get("import threading, uwsgi, uwsgidecorators
@uwsgidecorators.lock
def locked(): return uwsgi.is_locked()
def application(e, s):
    uwsgi.lock(); uwsgi.lock(1)
    assert uwsgi.is_locked() and uwsgi.is_locked(1) and not uwsgi.is_locked(2)
    got = []
    waits = threading.Thread(target=lambda: (uwsgi.lock(), got.append(1), uwsgi.unlock()))
    waits.start()
    assert not got
    uwsgi.unlock(); waits.join(); uwsgi.unlock(1)
    assert got == [1] and not uwsgi.is_locked(1) and locked() and not uwsgi.is_locked()
    for number in [-1, 8]:
        try: uwsgi.lock(number)
        except ValueError: pass
        else: raise AssertionError(number)
    ok(s)
    return []");
    outcome.is_clean();
}

#[test]
fn variables_for_the_log_are_those_of_one_request() {
    let code = "import uwsgi
def application(e, s):
    assert uwsgi.get_logvar('user') is None
    assert uwsgi.set_logvar('user', 'joe') is None and uwsgi.get_logvar(b'user') == b'joe'
    ok(s)
    return []";
    let app = super::app(code);
    for _ in 0..2 {
        super::request(&app, crate::wsgi::request::Request::default()).is_clean();
    }
    assert!(worker().log(None).iter().all(|(_, line)| !line.contains("joe")));
}
