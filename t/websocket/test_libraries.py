"""Libraries for WebSockets in threads, unmodified: Flask-Sock and Flask-SocketIO."""

import contextlib
import json
import os
import sys

import pytest
import websockets
from lib import http, tls
from lib.poll import SLOWDOWN
from lib.websocket import CLOSE, PING, PONG, TEXT
from websockets.sync.client import connect

SERVER = "listen 127.0.0.1:@PORT2@ ssl; " + tls.SERVER + """
    location /socket.io { wsgi_app socketio_site:application; wsgi_websocket on; }
    location /off/ { wsgi_app flask_sock_site:application; wsgi_mount /off; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    # The virtualenv lies where the checkout lies, which may be closed to another user.
    return shared_nginx(
        http=f'wsgi_python_home "{sys.prefix}";',
        main="user root;" if os.getuid() == 0 else "",
        prepare=lambda site: tls.make_certificate(site.dir),
        server=SERVER + "location / { wsgi_app flask_sock_site:application; wsgi_websocket on; }",
    )


@pytest.fixture
def call(site):
    """A client of the library `websockets`."""
    with contextlib.ExitStack() as opened:
        yield lambda path, **options: opened.enter_context(
            connect(f"ws://127.0.0.1:{site.port}{path}", open_timeout=10 * SLOWDOWN, **options))


@pytest.mark.parametrize("compression", ["deflate", None])
def test_flask_sock_echoes_messages_of_any_size(call, compression):
    client = call("/echo", compression=compression, max_size=None)
    for message in ("a", "ä" * 100, b"\x00\xff" * 1000, "b" * 65536, b"c" * 1_000_000):
        client.send(message)
        assert client.recv() == message


def test_a_message_in_fragments_is_one(call):
    client = call("/echo")
    client.send(["one ", "two ", "three"])
    assert client.recv() == "one two three"


def test_a_route_that_returns_closes_with_1000(call):
    client = call("/count/3")
    assert [client.recv() for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(websockets.ConnectionClosedOK) as closed:
        client.recv()
    assert closed.value.rcvd.code == 1000


def test_pings_are_answered_and_a_close_is(site, dial):
    # simple-websocket tells a route of the close before it answers: /echo may be over by then.
    client = dial(site, "/answered")
    client.say(PING, b"there?")
    assert client.hear() == (PONG, b"there?")
    client.say(TEXT, b"x")
    assert client.hear() == (TEXT, b"x")
    client.say(CLOSE, b"\x03\xe8bye")
    assert client.hear() == (CLOSE, b"\x03\xe8bye")
    assert client.at_eof()


def test_a_client_that_goes_away_ends_its_route(site, dial):
    before = len(site.events("left"))
    for end in ("close", "reset"):
        client = dial(site, "/wait")
        getattr(client, end)()
    site.wait_event("left", before + 2)


def test_an_exception_of_a_route_is_flasks_to_log(site, dial):
    mark = site.log.mark()
    client = dial(site, "/fail")
    client.say(TEXT, b"x")
    assert client.read_to_end() == (b"", "closed")
    site.log.wait_for("ValueError: on purpose", start=mark)


def test_plain_routes_beside_it_are_plain(site):
    assert site.get("/plain").text == "plain"
    assert site.get("/off/plain").text == "plain"


def test_without_the_directive_flask_sock_finds_no_socket(site, dial):
    mark = site.log.mark()
    assert dial(site).ask("/off/echo").read_response().status == 500
    site.log.wait_for("Cannot obtain socket from WSGI environment", start=mark)


def test_a_bad_handshake_is_an_error_of_the_application(site, dial):
    answer = dial(site).ask("/echo", {"Sec-WebSocket-Version": "8"}).read_response()
    assert 400 <= answer.status <= 500 and answer.complete


def polled(site, path, body=None):
    answer = site.post(path, body) if body else site.get(path)
    assert answer.status == 200, answer
    return answer.text


def packet(client):
    """The next packet of Engine.IO that is neither a ping, which is answered, nor a noop."""
    while (text := client.recv(timeout=10 * SLOWDOWN)) in ("2", "6"):
        if text == "2":
            client.send("3")
    return text


def connected(call, path="/socket.io/?EIO=4&transport=websocket"):
    client = call(path)
    assert packet(client).startswith("0{")
    client.send("40")
    assert packet(client).startswith("40{")
    return client


def test_flask_socketio_over_websockets(call):
    one, other = connected(call), connected(call)
    one.send('42["shout","hello"]')
    assert json.loads(packet(one)[2:]) == ["heard", "HELLO"]
    one.send('42["tell","all"]')
    for client in (one, other):
        assert json.loads(packet(client)[2:]) == ["told", "all"]


def test_flask_socketio_begins_by_polling_and_upgrades(site, call):
    opened = json.loads(polled(site, "/socket.io/?EIO=4&transport=polling")[1:])
    assert opened["upgrades"] == ["websocket"]
    path = f"/socket.io/?EIO=4&sid={opened['sid']}&transport="
    assert polled(site, path + "polling", b"40") == "OK"
    assert polled(site, path + "polling").startswith("40{")
    client = call(path + "websocket")
    client.send("2probe")
    assert client.recv(timeout=10 * SLOWDOWN) == "3probe"
    client.send("5")
    client.send('42["shout","up"]')
    assert json.loads(packet(client)[2:]) == ["heard", "UP"]


def test_over_tls(site):
    context = http.ssl.SSLContext(http.ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, http.ssl.CERT_NONE
    url = f"wss://127.0.0.1:{site.ports['PORT2']}/echo"
    with connect(url, ssl=context, max_size=None, open_timeout=10 * SLOWDOWN) as client:
        for message in ("a", b"b" * 1_000_000):
            client.send(message)
            assert client.recv() == message
