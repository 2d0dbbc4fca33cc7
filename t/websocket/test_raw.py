"""An application answers on the connection itself: what gets through, both ways."""

import hashlib
import os
import threading

import pytest
from lib import tls
from lib.errorlog import context
from lib.load import at_once
from lib.poll import SLOWDOWN, until
from lib.websocket import ACCEPT, build

SERVER = "listen 127.0.0.1:@PORT2@ ssl; " + tls.SERVER + """
    location /slow { wsgi_app raw_socket:application; wsgi_websocket on; limit_rate 200;
                     rewrite ^/slow(.*)$ /raw_socket$1 break; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        prepare=lambda site: tls.make_certificate(site.dir),
        server=SERVER, apps=["raw_socket"], app_directives="wsgi_websocket on;",
        main="thread_pool default threads=2;",
    )


def test_the_applications_head_is_sent_as_nginx_sends_heads(site, dial):
    head = dial(site).ask("/raw_socket/echo").read_head()
    assert (head.status, head.reason) == (101, "Switching Protocols")
    assert head.header("Sec-WebSocket-Accept") == ACCEPT
    assert head.header("X-Application") == "raw"
    assert head.header("Connection") == "upgrade"
    assert head.header("Upgrade") == "websocket"
    assert head.header("Server") and head.header("Date")
    assert head.header("Content-Length") is None and head.header("Transfer-Encoding") is None


def test_bytes_go_both_ways(phone):
    client = phone("/raw_socket/echo")
    for size in (1, 100, 16384, 16385, 1_000_000):
        data = os.urandom(size)
        client.send(data)
        assert client.read_exactly(size) == data


def test_what_is_sent_behind_the_request_in_one_packet_arrives(phone):
    client = phone("/raw_socket/echo", ahead=b"early bytes")
    assert client.read_exactly(11) == b"early bytes"
    client.send(b"later")
    assert client.read_exactly(5) == b"later"


def test_a_head_in_pieces_and_what_follows_in_the_same_piece(phone):
    assert phone("/raw_socket/pieces").read_exactly(6) == b"behind"


@pytest.mark.parametrize("key", ["werkzeug", "gunicorn"])
@pytest.mark.parametrize("ending", ["", "start", "stop", "drop"])
def test_whatever_the_application_says_in_the_end_is_swallowed(site, dial, key, ending):
    mark = site.log.mark()
    client = dial(site, f"/raw_socket/once:{key}?{ending}")
    client.send(b"one")
    assert client.read_to_end() == (b"one", "closed")
    site.settle()
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


@pytest.mark.parametrize("ending, error", [("raise", "ValueError"), ("refused", "ConnectionError")])
def test_an_exception_is_logged_and_ends_the_connection(site, dial, ending, error):
    mark = site.log.mark()
    client = dial(site, f"/raw_socket/once?{ending}")
    client.send(b"one")
    assert client.read_to_end() == (b"one", "closed")
    site.log.wait_for(rf"\[error\].*{error}: on purpose", start=mark)


def test_an_exception_behind_the_head_has_its_request(site, dial):
    """The event loop may find the end when it finds the head."""
    mark = site.log.mark()

    def ask(_):
        dial(site, "/raw_socket/hasty?raise").read_to_end()

    at_once(ask, range(200), threads=8)
    lines = site.log.wait_for("Traceback", count=200, start=mark)
    assert [line for line in lines if not context(line)] == []


def test_one_line_in_the_access_log_at_the_end(site, dial):
    path = "/raw_socket/once?line"
    client = dial(site, path)
    lines = lambda: [line for line in open(f"{site.dir}/access.log") if path in line]  # noqa: E731
    site.settle()
    assert lines() == []
    client.send(b"12345")
    client.read_to_end()
    (line,) = until(lines)
    assert '" 101 ' in line
    status, sent = line.split('" ')[1].split()[:2]
    assert (status, int(sent)) == ("101", 5)


def test_the_keys_are_the_same_socket(site):
    answer = site.get("/raw_socket/keys", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert (answer.status, answer.text) == (200, "True")


@pytest.mark.parametrize("path, status", [("/raw_socket/nothing?start", 200),
                                          ("/raw_socket/nothing", 500),
                                          ("/raw_socket/nothing?stop", 500),
                                          ("/raw_socket/nothing?raise", 500)])
def test_an_application_that_leaves_the_socket_alone_answers_as_any_other(site, dial, path, status):
    client = dial(site).ask(path)
    answer = client.read_response()
    assert answer.status == status and answer.complete
    if status == 200:
        # The connection is kept.
        client.send(build("/raw_socket/echo"))
        assert client.read_head().status == 101


def test_another_response_goes_to_the_client_as_it_is(phone):
    client = phone().ask("/raw_socket/other?start")
    data, how = client.read_to_end()
    assert how == "closed"
    assert data == b"HTTP/1.1 418 I'm a teapot\r\nX-Own: yes\r\nContent-Length: 3\r\n\r\ntea"


@pytest.mark.parametrize("path, why", [("garbage", "it begins with no status line of HTTP/1"),
                                       ("part", "its head is not complete"),
                                       ("long", "its head is longer than 16384 bytes")])
def test_what_is_no_response_is_a_502(site, dial, path, why):
    mark = site.log.mark()
    answer = dial(site).ask(f"/raw_socket/{path}").read_response()
    assert answer.status == 502
    site.log.wait_for(f"application wrote no HTTP response to its socket: {why}", start=mark)
    site.wait_event(f"over /{path}")


@pytest.mark.parametrize("headers", [
    {"Upgrade": None}, {"Upgrade": "h2c"}, {"Connection": None}, {"Connection": "keep-alive"},
])
def test_what_is_no_upgrade_is_a_request_as_any_other(site, dial, headers):
    client = dial(site).ask("/raw_socket/echo", headers | {"X": "y"})
    assert client.read_response().status == 403


def test_over_http_1_0_it_is_a_request_as_any_other(site, dial):
    client = dial(site)
    client.send(build("/raw_socket/echo", version="1.0"))
    assert client.read_response().status == 403


def test_a_post_is_a_request_as_any_other(site):
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert site.post("/raw_socket/echo", b"body", headers=headers).status == 403


@pytest.mark.parametrize("headers", [{"Connection": "keep-alive, Upgrade"},
                                     {"Upgrade": "WebSocket"}, {"Content-Length": "0"}])
def test_other_spellings_of_an_upgrade(site, dial, headers):
    client = dial(site, "/raw_socket/echo", headers)
    client.send(b"x")
    assert client.read_exactly(1) == b"x"


def test_limit_rate_is_for_the_head_alone(site, dial):
    client = dial(site, "/slow/echo")
    data = os.urandom(100_000)
    client.send(data)
    assert client.read_exactly(len(data)) == data


def test_a_client_that_takes_nothing_holds_its_application_back(phone, site):
    before = len(site.events("sent"))
    client = phone("/raw_socket/flood", rcvbuf=4096)
    site.wait_event("sent", before + 1)
    site.settle()
    assert len(site.events("sent")) - before < 60
    data, how = client.read_to_end()
    assert how == "closed"
    assert hashlib.sha256(data).digest() == hashlib.sha256(
        b"".join(bytes([n]) * (1 << 18) for n in range(64))).digest()


def test_an_application_that_takes_nothing_holds_its_client_back(phone, site):
    gate = site.gate("sink")
    before = len(site.events("waiting sink"))
    client = phone("/raw_socket/sink")
    site.wait_event("waiting sink", before + 1)
    data = os.urandom(1 << 20) * 32
    sender = threading.Thread(target=client.send, args=[data])
    sender.start()
    site.settle()
    assert sender.is_alive(), "it takes any number of bytes"
    gate.open()
    sender.join(20 * SLOWDOWN)
    client.close()
    site.wait_event(f"received {len(data)} {hashlib.sha256(data).hexdigest()}")
