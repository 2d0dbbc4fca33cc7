"""An application holds a WebSocket by its messages: what gets through, both ways, and the ends."""

import hashlib
import os
import struct
import threading

import pytest
import websockets
from lib import tls
from lib.poll import SLOWDOWN, until
from lib.websocket import ACCEPT, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from websockets.sync.client import connect

MAX = 1 << 20
SERVER = "listen 127.0.0.1:@PORT2@ ssl; " + tls.SERVER


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        prepare=lambda site: tls.make_certificate(site.dir),
        server=SERVER, apps=["messages"], app_directives="wsgi_websocket on;",
        main="thread_pool default threads=2;",
    )


def code(number, reason=b""):
    return CLOSE, struct.pack("!H", number) + reason


def test_the_head_is_a_handshake_as_nginx_sends_heads(site, dial):
    client = dial(site).ask("/messages/echo", {"Sec-WebSocket-Protocol": "a, b"})
    client.say(TEXT, b"x")
    head = client.read_head()
    assert (head.status, head.reason) == (101, "Switching Protocols")
    assert head.header("Sec-WebSocket-Accept") == ACCEPT
    assert head.header("Sec-WebSocket-Protocol") == "a"
    assert head.header("Connection") == "upgrade"
    assert head.header("Upgrade") == "websocket"
    assert head.header("Sec-WebSocket-Extensions") is None
    assert head.header("Content-Length") is None and head.header("Transfer-Encoding") is None
    assert client.hear() == (TEXT, b"x")


def test_the_object_says_what_the_client_asked_for(site, dial):
    headers = {"Origin": "http://x", "Sec-WebSocket-Protocol": "p"}
    client = dial(site, "/messages/knows?a=b", headers)
    assert client.hear() == (TEXT, b"13 http://x p /messages/knows")


@pytest.mark.parametrize("path", ["/messages/echo", "/messages/loop"])
def test_messages_of_any_size_go_both_ways(phone, path):
    client = phone(path)
    for size in (1, 125, 126, 65535, 65536, MAX):
        data = os.urandom(size)
        client.say(BINARY, data)
        assert client.hear() == (BINARY, data)
    client.say(TEXT, "größer".encode())
    assert client.hear() == (TEXT, "größer".encode())


def test_what_is_sent_behind_the_request_in_one_packet_arrives(phone):
    client = phone("/messages/echo", ahead=frame(TEXT, b"early") + frame(BINARY, b"bytes"))
    assert client.hear() == (TEXT, b"early")
    assert client.hear() == (BINARY, b"bytes")


def test_a_message_in_fragments_is_one_with_pings_in_between(site, dial):
    client = dial(site, "/messages/echo")
    client.say(TEXT, b"one ", fin=False)
    client.say(PING, b"there?")
    assert client.hear() == (PONG, b"there?")
    client.say(CONTINUATION, b"", fin=False)
    client.say(PONG, b"unasked for")
    client.say(CONTINUATION, "zwö".encode())
    assert client.hear() == (TEXT, "one zwö".encode())


def test_bytes_may_come_one_by_one(site, dial):
    client = dial(site, "/messages/echo")
    for byte in frame(TEXT, b"slow") + frame(PING, b"!"):
        client.send(bytes([byte]))
    # The one is the application's answer, the other the server's.
    assert sorted(client.hear() for _ in range(2)) == [(TEXT, b"slow"), (PONG, b"!")]


BROKEN = {
    "reserved bits": (frame(TEXT, b"x", reserved=4), 1002),
    "no mask": (frame(TEXT, b"x", mask=b""), 1002),
    "no mask of a ping": (frame(PING, mask=b""), 1002),
    "no such opcode": (frame(3, b"x"), 1002),
    "no such control frame": (frame(11), 1002),
    "a ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "nothing to continue": (frame(CONTINUATION, b"x"), 1002),
    "no continuation": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    "not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "UTF-8 that ends too early": (frame(TEXT, b"\xe2\x82"), 1007),
    "a surrogate in fragments": (frame(TEXT, b"\xed", fin=False) + frame(0, b"\xa0\x80"), 1007),
    "a close reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "too large by a byte": (frame(BINARY, b"", length=MAX + 1), 1009),
    "1 GiB": (frame(BINARY, b"", length=1 << 30), 1009),
    "2^63 bytes": (frame(BINARY, b"", length=1 << 63), 1009),
    "too large in fragments": (frame(BINARY, bytes(MAX), fin=False) + frame(0, b"x"), 1009),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_client_may_not_send_closes_with_its_code(phone, site, name):
    data, number = BROKEN[name]
    over, mark = len(site.events("over /echo")), site.log.mark()
    client = phone("/messages/echo", ahead=frame(TEXT, b"before"))
    assert client.hear() == (TEXT, b"before")
    client.send(data + b"more of it" * 1000)
    assert client.hear() == code(number)
    assert client.at_eof()
    site.wait_event("over /echo", over + 1)
    site.log.wait_for(r"\[info\].*websocket is closed: the client sent", start=mark)
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


@pytest.mark.parametrize("number", [1000, 1001, 1011, 3000, 4999])
def test_a_client_that_closes_is_answered_with_its_code(phone, site, number):
    over, mark = len(site.events("over /echo")), site.log.mark()
    client = phone("/messages/echo", ahead=frame(TEXT, b"last"))
    assert client.hear() == (TEXT, b"last")
    client.say(*code(number, b"why"))
    assert client.hear() == code(number, b"why")
    assert client.at_eof()
    site.wait_event("over /echo", over + 1)
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


@pytest.mark.parametrize("number", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_no_frame_may_have_is_1002(site, dial, number):
    client = dial(site, "/messages/echo", ahead=frame(TEXT, b"x"))
    assert client.hear() == (TEXT, b"x")
    client.say(*code(number))
    opcode, payload = client.hear()
    assert (opcode, payload[:2]) == (CLOSE, b"\x03\xea")
    assert client.at_eof()


@pytest.mark.parametrize("path, number, reason", [("returns", 1000, b""), ("raises", 1011, b""),
                                                  ("closes", 4001, b"enough")])
def test_the_application_ends_it(phone, site, path, number, reason):
    mark = site.log.mark()
    client = phone(f"/messages/{path}")
    if path != "closes":
        assert client.hear() == (TEXT, b"bye")
    assert client.hear() == code(number, reason)
    # It waits for the answer; what comes before that is for nobody.
    client.say(TEXT, b"late")
    client.say(*code(number))
    assert client.at_eof()
    site.wait_event(f"over /{path}")
    if path == "raises":
        site.log.wait_for(r"\[error\].*ValueError: on purpose", start=mark)
    else:
        assert site.log.matching(r"\[(error|warn)\]", mark) == []


def test_what_is_sent_after_closing_is_an_error(site, dial):
    dial(site, "/messages/closes")
    site.wait_event("late Connection is already closed")


@pytest.mark.parametrize("end", ["close", "reset", "shutdown"])
def test_a_client_that_goes_away_is_the_end(phone, site, end):
    over, mark = len(site.events("over /echo")), site.log.mark()
    client = phone("/messages/echo", ahead=frame(TEXT, b"x"))
    assert client.hear() == (TEXT, b"x")
    client.sock.shutdown(1) if end == "shutdown" else getattr(client, end)()
    site.wait_event("over /echo", over + 1)
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


@pytest.mark.parametrize("headers, status", [
    ({"Sec-WebSocket-Version": "8"}, 426), ({"Sec-WebSocket-Version": None}, 426),
    ({"Sec-WebSocket-Key": None}, 400), ({"Sec-WebSocket-Key": "short"}, 400),
    ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
])
def test_a_bad_handshake_is_refused(site, dial, headers, status):
    mark = site.log.mark()
    answer = dial(site).ask("/messages/echo", headers).read_response()
    assert answer.status == status and answer.complete
    assert answer.header("Sec-WebSocket-Version") == ("13" if status == 426 else None)
    assert answer.header("Upgrade") == ("websocket" if status == 426 else None)
    options = [value for name, value in answer.headers if name.lower() == "connection"]
    assert ("upgrade" in options) == (status == 426)
    name = "Version" if status == 426 else "Key"
    site.log.wait_for(rf"\[info\].*\"Sec-WebSocket-{name}\" header", start=mark)
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


def test_an_application_may_answer_a_bad_handshake_itself(site, dial):
    answer = dial(site).ask("/messages/answers", {"Sec-WebSocket-Key": "x"}).read_response()
    assert (answer.status, answer.header("X-Why")) == (400, "handshake")
    assert b"Sec-WebSocket-Key" in answer.body


def test_an_application_that_leaves_it_alone_answers_as_any_other(site, dial):
    client = dial(site).ask("/messages/none")
    assert client.read_response().status == 403
    client.ask("/messages/echo", ahead=frame(TEXT, b"x"))
    assert client.read_head().status == 101
    assert client.hear() == (TEXT, b"x")


def test_what_is_no_upgrade_has_no_websocket(site):
    assert site.get("/messages/echo").status == 403


def test_one_line_in_the_access_log_at_the_end(site, dial):
    client = dial(site, "/messages/echo?line", ahead=frame(TEXT, b"12345"))
    lines = lambda: [line for line in open(f"{site.dir}/access.log") if "?line" in line]  # noqa: E731
    assert client.hear() == (TEXT, b"12345")
    site.settle()
    assert lines() == []
    client.say(*code(1000))
    assert client.hear() == code(1000)
    assert client.at_eof()
    (line,) = until(lines)
    status, sent = line.split('" ')[1].split()[:2]
    assert (status, int(sent)) == ("101", 7 + 4)


def test_an_application_that_has_begun_a_response_has_no_websocket(phone, site):
    gate = site.gate("begins")
    client = phone().ask("/messages/begins")
    assert client.read_head().status == 200
    assert client.read_exactly(12) == b"7\r\nbegun, \r\n"
    gate.open()
    why = b"the application has answered otherwise than by a WebSocket"
    assert client.read_exactly(len(why) + 11) == b"%x\r\n%s\r\n0\r\n\r\n" % (len(why), why)


def test_a_client_that_takes_nothing_holds_its_application_back(phone, site):
    before = len(site.events("sent"))
    client = phone("/messages/flood", rcvbuf=4096)
    site.wait_event("sent", before + 1)
    site.settle()
    assert len(site.events("sent")) - before < 60
    for n in range(64):
        # A pong comes between messages.
        client.say(PING, b"%d" % n)
        opcode, data = client.hear()
        while opcode == PONG:
            opcode, data = client.hear()
        assert (opcode, data) == (BINARY, bytes([n]) * (1 << 18))


def test_an_application_that_takes_nothing_holds_its_client_back(phone, site):
    gate = site.gate("sink")
    before = len(site.events("waiting sink"))
    client = phone("/messages/sink")
    assert client.hear() == (TEXT, b"begin")
    site.wait_event("waiting sink", before + 1)
    data = os.urandom(1 << 19)
    sender = threading.Thread(target=lambda: [client.say(BINARY, data) for _ in range(64)])
    sender.start()
    site.settle()
    assert sender.is_alive(), "it takes any number of messages"
    gate.open()
    sender.join(20 * SLOWDOWN)
    client.say(*code(1000))
    assert client.hear() == code(1000)
    site.wait_event(f"received {64 * len(data)} {hashlib.sha256(data * 64).hexdigest()}")


def test_a_client_that_takes_nothing_is_heard(site, phone):
    gate = site.gate("both")
    before = [len(site.events(event)) for event in ("waiting both", "heard")]
    client = phone("/messages/both", rcvbuf=4096)
    site.wait_event("waiting both", before[0] + 1)
    message = frame(BINARY, bytes(1 << 12))
    sender = threading.Thread(target=lambda: [client.send(message) for _ in range(1 << 10)])
    sender.start()
    site.settle()
    gate.open()
    sender.join(20 * SLOWDOWN)
    site.wait_event(f"heard {4 << 20}", before[1] + 1)


def test_a_client_that_resets_what_waits_both_ways_is_no_alert(site, phone):
    gate = site.gate("both")
    before = [len(site.events(event)) for event in ("waiting both", "heard")]
    client = phone("/messages/both", rcvbuf=4096)
    site.wait_event("waiting both", before[0] + 1)
    client.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            client.say(BINARY, bytes(1 << 12))
    client.reset()
    gate.open()
    site.wait_event("heard", before[1] + 1)


@pytest.mark.parametrize("path", ["echo", "loop"])
def test_the_library_websockets_is_content(site, path):
    patience = {"open_timeout": 10 * SLOWDOWN, "close_timeout": 10 * SLOWDOWN}
    url = f"ws://127.0.0.1:{site.port}/messages"
    with connect(f"{url}/{path}", max_size=None, **patience) as client:
        for message in ("a", "ä" * 100, b"\x00\xff" * 1000, "b" * 65536, b"c" * MAX):
            client.send(message)
            assert client.recv() == message
        client.send(["one ", "two ", "three"])
        assert client.recv() == "one two three"
        assert client.ping().wait(10 * SLOWDOWN)
    with connect(f"{url}/returns", **patience) as client:
        assert client.recv() == "bye"
        with pytest.raises(websockets.ConnectionClosedOK) as closed:
            client.recv()
        assert closed.value.rcvd.code == 1000
