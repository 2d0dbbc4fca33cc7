"""Requests that another worker runs: their environ, and bodies of all kinds."""

import json
import random

import pytest
from lib import http
from lib.upload import told

IN_FILE = "location /upload/file { client_body_in_file_only clean; wsgi_app ran:upload; }"
IN_MEMORY = """
    location /upload/memory { client_body_buffer_size 4m; client_max_body_size 0;
                              wsgi_app ran:upload; }
    location /unbuffered { wsgi_request_buffering off; wsgi_app ran:upload; }
"""

GUARDED = """
    location = /guarded { auth_request /auth; alias @DIR@/html/page; }
    location = /auth { internal; wsgi_app ran:plain; }
"""


def content(size):
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 100, 4000, 8192, 16_385])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_in_memory_is_handed_over(shared, size, version):
    body = content(size)
    response = shared.handed("/upload", "POST", body=body, version=version)
    assert response.text == told(body)


@pytest.mark.parametrize("size", [100_000, 1_000_000, 20_000_000])
def test_a_body_in_a_temporary_file_is_handed_over(shared, size):
    body = content(size)
    assert shared.handed("/upload", "POST", body=body).text == told(body)


def test_chunks_are_handed_over_as_a_body(shared):
    parts = [content(size) for size in (1, 5000, 100_000)]
    response = shared.handed("/upload", "POST", headers={"Transfer-Encoding": "chunked"},
                             body=http.chunked(*parts))
    assert response.text == told(b"".join(parts))


def test_a_body_of_a_stream_is_handed_over(shared):
    since = len(shared.ran())
    client = shared.connect_h2()
    bodies = [content(size) for size in (0, 10, 5000, 300_000)]
    streams = [client.send("POST", "/upload", body=body) for body in bodies]
    assert [client.wait(stream).text for stream in streams] == [told(body) for body in bodies]
    assert shared.ran(since) == [shared.free] * 4


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_file_that_nginx_was_told_to_keep_is_handed_over(start, size):
    pair = start(server=IN_FILE).occupy()
    body = content(size)
    for _ in range(5):
        assert pair.handed("/upload/file", "POST", body=body).text == told(body)


def environ(text):
    return json.loads(text)["environ"]


def test_the_environ_is_the_same(shared):
    headers = [("X-Latin", "\xe9\xff"), ("X-Long", "x" * 3000), ("Cookie", "a=b"), ("X-Empty", "")]
    path = "/whereabouts/a%20b/%E9?q=1&r=%20"
    handed = shared.handed(path, headers=headers)
    own = shared.ask(path, pid=shared.free, headers=headers).read_response()
    assert environ(handed.text) == environ(own.text)


def test_many_headers_are_handed_over_or_wait(start):
    """More than a message may hold, all of them together: then the busy worker has to run it."""
    pair = start(server="large_client_header_buffers 40 32k;").occupy()
    headers = [(f"X-Long-{number}", "x" * 30_000) for number in range(30)]
    client = pair.ask("/whereabouts", headers=headers)
    assert pair.ask("/plain").read_response().text == str(pair.free)
    pair.release().read_response()
    found = environ(client.read_response().text)
    assert [found[f"HTTP_X_LONG_{number}"] for number in range(30)] == [repr("x" * 30_000)] * 30


@pytest.mark.parametrize("path, body", [
    ("/upload/memory", content(3_000_000)),
    ("/unbuffered", content(10)),
], ids=["large", "unbuffered"])
def test_what_no_message_holds_waits_for_its_own_worker(start, path, body):
    pair = start(server=IN_MEMORY).occupy()
    client = pair.ask(path, "POST", body=body)
    assert pair.handed("/plain").text == str(pair.free)
    since = len(pair.ran())
    pair.release().read_response()
    assert client.read_response().text == told(body)
    assert pair.ran(since) == [pair.busy]


def test_a_subrequest_waits_for_its_own_worker(start):
    pair = start(server=GUARDED).occupy()
    pair.site.write("html/page", "page")
    client = pair.ask("/guarded")
    assert pair.handed("/plain").text == str(pair.free)
    since = len(pair.ran())
    pair.release().read_response()
    assert client.read_response().text == "page"
    assert pair.ran(since) == [pair.busy]
