"""A body that goes to an application as it comes, and a kept connection to another server.

Whichever way a request gets there, the other server must be promised no body: it would take the
next client's request for it.
"""

import re
import socket
import threading

import pytest
from lib import http
from lib.poll import until
from lib.upload import Upload

PROXY = """
    proxy_pass http://backend;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 5s;
"""
HTTP = "upstream backend { server 127.0.0.1:%d; keepalive 4; }"
MAIN = "thread_pool default threads=8; thread_pool one threads=1;"
SERVER = f"""
    listen 127.0.0.1:@PORT2@ http2;
    client_max_body_size 0;
    lingering_timeout 500ms;
    wsgi_request_buffering off;
    location /off/ {{
        wsgi_app streamed:application;
        error_page 500 /proxied/error;
        location /off/named/ {{ error_page 500 = @proxied; wsgi_app streamed:application; }}
        location /off/intercepted/ {{ wsgi_intercept_errors on; error_page 404 /proxied/missing;
                                      wsgi_app streamed:application; }}
        location /off/silent/ {{ wsgi_read_timeout 600ms; error_page 504 /proxied/silent;
                                 wsgi_app streamed:application; }}
        location /off/queued/ {{ wsgi_thread_pool one; wsgi_queue 8 timeout=300ms;
                                 error_page 503 /proxied/queued; wsgi_app streamed:application; }}
        location /off/busy/ {{ wsgi_thread_pool one; wsgi_app streamed:application; }}
        location /off/full/ {{ wsgi_thread_pool one; wsgi_queue 0; error_page 503 /proxied/full;
                               wsgi_app streamed:application; }}
        location /off/after/ {{ post_action /proxied/after; wsgi_app streamed:application; }}
        location /off/including/ {{ ssi on; wsgi_app included:proxied; }}
    }}
    location /proxied/ {{ client_max_body_size 10; {PROXY} }}
    location = /slow {{ limit_rate 20k; alias @DIR@/html/slow; }}
    location @proxied {{ {PROXY} }}
"""


class Backend:
    """Answers at once, as many do to what they need no body for, and keeps its connections."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.requests = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b""
        with client, client.makefile("rb") as stream:
            while line := stream.readline():
                head += line
                if line != b"\r\n":
                    continue
                found = re.search(rb"(?i)\r\n(content-length: *(\d+)|transfer-encoding:)", head)
                self.requests.append((head.split()[1].decode(), bool(found)))
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")
                stream.read(int(found[2] or 0) if found else 0)
                head = b""


@pytest.fixture(scope="module")
def backend():
    backend = Backend()
    yield backend
    backend.socket.close()


@pytest.fixture(scope="module")
def site(shared_nginx, backend):
    return shared_nginx(main=MAIN, http=HTTP % backend.port, server=SERVER)


@pytest.fixture
def check(site, backend):
    """That the server was asked for so much, with no body, and that others are served after it."""
    del backend.requests[:]

    def check(*paths):
        until(lambda: len(backend.requests) >= len(paths), what="the other server is asked")
        assert site.get("/proxied/victim").body == b"up"
        assert backend.requests == [(path, False) for path in (*paths, "/proxied/victim")]

    return check


@pytest.mark.parametrize("path, arrives", [
    ("/off/redirect?/proxied/x", "/proxied/x"),
    ("/off/redirect?@proxied", "/off/redirect?@proxied"),
    ("/off/failing", "/proxied/error"),
    ("/off/named/failing", "/off/named/failing"),
    ("/off/intercepted/missing", "/proxied/missing"),
])
def test_what_another_server_gets_has_no_body(site, backend, check, kind, path, arrives):
    upload = Upload(site, kind, path, 1000)
    upload.send(b"x" * 10)
    assert upload.answer().body == b"up"
    check(arrives)
    if not upload.h2:
        # What comes now is the rest, and no request.
        upload.client.send(http.build("GET", "/proxied/smuggled", close=False))
        assert upload.client.at_eof()
        assert "/proxied/smuggled" not in dict(backend.requests)


def test_what_comes_while_another_location_answers_is_dropped(site, kind):
    """That one has not asked for a body, and nginx has begun to read it."""
    site.write("html/slow", "x" * 30_000)
    upload = Upload(site, kind, "/off/redirect?/slow", 1000)
    upload.send(b"x" * 10)
    site.barrier()
    upload.send(b"y" * 990)
    upload.end()
    answer = upload.answer()
    assert (answer.status, answer.body, answer.complete) == (200, b"x" * 30_000, True)


@pytest.mark.parametrize("target, arrives", [("/proxied/x", "/proxied/x"), ("@proxied", None)])
def test_nor_has_it_when_the_application_has_read_all(site, check, kind, target, arrives):
    path = f"/off/drained?{target}"
    begun = len(site.events("begun"))
    upload = Upload(site, kind, path, 1000)
    site.wait_event("begun", begun + 1)
    upload.send(b"x" * 1000)
    upload.end()
    assert upload.answer().body == b"up"
    check(arrives or path)


def test_nor_when_the_application_is_silent(site, check, kind):
    gate = site.gate("whole")
    try:
        upload = Upload(site, kind, "/off/silent/whole", 1000)
        upload.send(b"x" * 10)
        assert upload.answer().body == b"up"
        check("/proxied/silent")
    finally:
        gate.open()


@pytest.mark.parametrize("place", ["queued", "full"])
def test_nor_when_no_thread_takes_the_request(site, check, kind, place):
    gate = site.gate("whole")
    begun = len(site.events("begun"))
    try:
        other = Upload(site, "length", "/off/busy/whole", 1)
        site.wait_event("begun", begun + 1)
        upload = Upload(site, kind, f"/off/{place}/whole", 1000)
        upload.send(b"x" * 10)
        assert upload.answer().body == b"up"
        check(f"/proxied/{place}")
    finally:
        gate.open()
    other.client.close()


def test_nor_has_a_post_action(site, check, kind):
    upload = Upload(site, kind, "/off/after/missing", 1000)
    upload.send(b"x" * 10)
    assert upload.answer().status == 404
    check("/proxied/after")


def test_nor_have_subrequests_and_the_application_has_all_of_it(site, check, kind):
    upload = Upload(site, kind, "/off/including/", 8)
    upload.send(b"abc")
    # The first one is under way before the rest comes.
    check("/proxied/part")
    upload.send(b"defgh")
    upload.end()
    assert upload.answer().body == b"abcupdefghup"
