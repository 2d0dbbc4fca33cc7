"""Storms: many replies at once, clients that leave at any moment.

TEST_NGINX_REPLIES and TEST_NGINX_ABORTS are the numbers of requests, TEST_NGINX_SEED the seed
of the aborts (a random one is printed).
"""

import os

import h2.exceptions
import pytest
from apps.replies import reply
from lib import h2client, http
from lib.load import at_once
from lib.storm import SEED, Baseline, choices, counts

REPLIES = int(os.environ.get("TEST_NGINX_REPLIES", 3000))
ABORTS = int(os.environ.get("TEST_NGINX_ABORTS", 1500))
pytestmark = [pytest.mark.alone, pytest.mark.timeout(60 + (REPLIES + ABORTS) // 100)]
MAIN = "thread_pool storm threads=4; thread_pool other threads=1;"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    keepalive_requests 10000000;
    wsgi_thread_pool storm;
    location /storm/ { wsgi_app storm:application; }
    location /replies { wsgi_app replies:application; }
    location = /counts { wsgi_app storm:counts; wsgi_thread_pool other; }
"""


@pytest.fixture
def site(nginx):
    site = nginx(main=MAIN, server=SERVER)
    assert counts(site) == (0, 0)
    return site


def expected(number):
    status, headers, body = reply(number)
    code, _, reason = status.partition(" ")
    return int(code), reason, headers, body


def of_application(response):
    ours = {"Date", "Server", "Connection", "Content-Length", "Transfer-Encoding"}
    return [field for field in response.headers if field[0] not in ours]


def in_order(headers):
    """nginx sends the fields it knows first; those of one name stay in order."""
    return sorted(((name.lower(), value) for name, value in headers), key=lambda field: field[0])


def test_every_reply_on_64_connections_has_its_own_head(site):
    clients = [site.connect() for _ in range(64)]
    mixed = []
    for start in range(0, REPLIES, len(clients)):
        for number, client in enumerate(clients, start):
            client.send(http.build("GET", f"/replies?{number}", close=False))
        for number, client in enumerate(clients, start):
            response = client.read_response()
            code, reason, headers, body = expected(number)
            found = response.status, response.reason, response.body
            if found != (code, reason, body) or in_order(of_application(response)) != in_order(
                headers
            ):
                mixed.append((number, response))
    assert mixed == []


def test_every_reply_on_8_http_2_connections_has_its_own_head(site):
    count = REPLIES // 8
    clients = [h2client.H2Connection(site.ports["PORT2"]) for _ in range(8)]
    mixed = []
    for start in range(0, count, 64):
        streams = [
            (number, clients[number % 8], clients[number % 8].send("GET", f"/replies?{number}"))
            for number in range(start, start + 64)
        ]
        for number, client, stream in streams:
            response = client.wait(stream)
            code, _, headers, body = expected(number)
            ours = {"date", "server", "content-length"}
            found = [field for field in response.headers if field[0] not in ours]
            if (response.status, response.body) != (code, body) or in_order(found) != in_order(
                headers
            ):
                mixed.append((number, response))
    for client in clients:
        client.close()
    assert mixed == []


def some_request(choice):
    """Bytes of a request: small or long answers, bodies of both kinds, two in a row."""
    times = choice.choice([0, 1, 3, 200, 5000])
    path = f"/storm/{times}?{'x' * choice.randrange(1, 500)}"
    kind = choice.randrange(4)
    if kind == 0:
        return http.build("GET", path, close=False)
    if kind == 1:
        return http.build("POST", path, body=b"b" * choice.randrange(1, 40_000), close=False)
    if kind == 2:
        body = http.chunked(*[b"c" * choice.randrange(1, 9000) for _ in range(4)])
        return http.build("POST", path, headers={"Transfer-Encoding": "chunked"}, body=body)
    return http.build("GET", path, close=False) + http.build("HEAD", path)


def abort(site, number):
    """A client that leaves at a random byte of its request or of the answer."""
    choice = choices(number)
    data = some_request(choice)
    # However busy the machine is, so many reach the application.
    served = number % 4 == 0
    if not served and choice.random() < 0.5:
        data = data[: choice.randrange(len(data))]
    client = http.Connection(site.port)
    try:
        client.send(data)
        if served:
            client.read_head()
        elif choice.random() < 0.7:
            client.sock.settimeout(choice.choice([0.001, 0.003, 0.01]))
            left = choice.choice([1, 100, 4000, 300_000])
            while left > 0 and (found := client.sock.recv(min(left, 65536))):
                left -= len(found)
    except OSError:
        pass  # It was not quick enough, or nginx has closed.
    (client.reset if choice.random() < 0.5 else client.close)()


def test_nothing_is_left_after_clients_leave_at_any_byte(site):
    print(f"TEST_NGINX_SEED={SEED}")
    baseline = Baseline(site)
    at_once(lambda number: abort(site, number), range(ABORTS), threads=16)
    baseline.assert_restored()
    assert counts(site)[0] >= ABORTS / 4
    assert site.get("/storm/1?still").body == b"still"


def abort_h2(site, number):
    """A connection with several streams, some of them reset, that ends at a random moment."""
    choice = choices(number)
    client = h2client.H2Connection(site.ports["PORT2"], window=choice.choice([None, 0, 1000]))
    try:
        client.raw.sock.settimeout(choice.choice([0.001, 0.01]))
        streams = []
        for _ in range(choice.randrange(1, 8)):
            path = f"/storm/{choice.choice([0, 1, 200, 5000])}?{'x' * choice.randrange(1, 500)}"
            body = b"b" * choice.choice([0, 0, 10, 20_000])
            streams.append(client.send("POST", path, body=body, end=choice.random() < 0.8))
            if choice.random() < 0.3:
                client.reset(choice.choice(streams))
            if choice.random() < 0.3:
                client.pump()
    except (OSError, h2.exceptions.H2Error):
        pass
    (client.raw.reset if choice.random() < 0.5 else client.close)()


def test_nothing_is_left_after_http_2_clients_leave_at_any_moment(site):
    print(f"TEST_NGINX_SEED={SEED}")
    baseline = Baseline(site)
    at_once(lambda number: abort_h2(site, number), range(ABORTS // 4), threads=8)
    baseline.assert_restored()


@pytest.mark.parametrize("port", ["PORT", "PORT2"], ids=["http/1", "h2"])
def test_nothing_is_left_after_clients_reset_right_after_connecting(site, port):
    baseline = Baseline(site)
    for _ in range(ABORTS):
        http.Connection(site.ports[port]).reset()
    site.barrier()
    baseline.assert_restored()
    assert counts(site)[0] == 0
