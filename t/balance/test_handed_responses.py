"""Responses that another worker makes: all kinds of them arrive as from the worker itself."""

import hashlib
import socket

import pytest
from lib import http
from lib.buffered import digest, files, path
from lib.errorlog import context
from lib.poll import until
from lib.respond import Expr, respond

CONTENT = b"".join(b"%07d\n" % number for number in range(8192))
KINDS = ["list", "tuple", "generator", "iterator", "late", "write", "both", "file"]


@pytest.fixture(scope="module", autouse=True)
def content(shared):
    shared.site.write("content", CONTENT)
    shared.site.write("html/file.txt", CONTENT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", ["[b'']", "[b'a']", "[b'one', b'', b'two']", "[b'x' * 30000] * 5"])
def test_bodies_of_any_kind_arrive(shared, kind, body):
    response = shared.handed(respond(kind=kind, body=Expr(body), headers=[("X-Own", "\xe9")]))
    wanted = b"".join(eval(body))
    assert (response.status, response.body, response.complete) == (200, wanted, True)
    assert response.header("X-Own") == "\xe9"


def test_a_head_is_what_it_is_without_the_hand_over(shared):
    spec = respond(status="418 I'm a teapot", body=[b"short"], headers=[
        ("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
        ("ETag", '"tag"'), ("Cache-Control", "no-cache"), ("Content-Length", "5"),
        ("X-Long", "x" * 3000),
    ])
    handed = shared.handed(spec)
    own = shared.ask(spec, pid=shared.free).read_response()

    def head(response):
        return (response.status, response.reason, response.body,
                [field for field in response.headers if field[0] != "Date"])

    assert head(handed) == head(own)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_head_has_no_body(shared, kind):
    spec = respond(kind=kind, body=[b"body"], headers=[("Content-Length", "4")])
    response = shared.handed(spec, "HEAD")
    assert (response.status, response.header("Content-Length")) == (200, "4")
    assert (response.body, response.end) == (b"", "none")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_a_body(shared, status):
    since = len(shared.ran())
    client = shared.ask(respond(status=status, headers=[("ETag", '"tag"')]))
    response = client.read_response()
    assert (response.status, response.end) == (int(status[:3]), "none")
    # And the connection serves on.
    client.send(http.build("GET", "/plain", close=False))
    assert client.read_response().text == str(shared.free)
    assert shared.ran(since) == [shared.free] * 2


def test_not_modified_is_nginx_s_own_answer(shared):
    spec = respond(body=[b"body"], headers=[("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT")])
    headers = {"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}
    assert shared.handed(spec, headers=headers).status == 304


@pytest.mark.parametrize("kind", ["never", "list"])
def test_an_error_before_the_head_is_500(shared, kind):
    mark = shared.site.log.mark()
    spec = respond(kind=kind, fail=Expr("ValueError('before')"), body=[])
    assert shared.handed(spec).status == 500
    (line,) = shared.site.log.wait_for("Traceback|did not call start_response", start=mark)
    assert context(line)


@pytest.mark.parametrize("kind", ["generator", "iterator"])
def test_an_error_after_the_head_cuts_the_body(shared, kind):
    mark = shared.site.log.mark()
    closed = len(shared.site.events("close"))
    spec = respond(kind=kind, body=[b"first"] * 3, fail=Expr("ValueError('after')"))
    response = shared.handed(spec)
    assert response.status == 200 and not response.complete
    shared.site.log.wait_for("ValueError: after", start=mark)
    shared.site.wait_event("close", closed + 1)


@pytest.mark.parametrize("length, complete", [("5", True), ("9", False)])
def test_a_body_that_its_length_does_not_cover_is_cut(shared, length, complete):
    spec = respond(kind="generator", body=[b"12345"], headers=[("Content-Length", length)])
    assert shared.handed(spec).complete is complete


@pytest.mark.parametrize("how", ["generator", "write", "wrapper", "list"])
def test_fifty_megabytes_arrive_in_order(shared, how):
    response = shared.handed(path("/buffered", 800, 65536, how=how))
    found = hashlib.sha256(response.body).hexdigest()
    assert (response.complete, found) == (True, digest(800, 65536, how))


def test_streams_arrive_beside_each_other(shared):
    since = len(shared.ran())
    client = shared.connect_h2()
    sizes = [100, 30_000, 1_000_000, 7]
    streams = [client.send("GET", path("/buffered", 10, size)) for size in sizes]
    found = [hashlib.sha256(client.wait(stream).body).hexdigest() for stream in streams]
    assert found == [digest(10, size) for size in sizes]
    assert shared.ran(since) == [shared.free] * 4


@pytest.mark.parametrize("headers, status, wanted", [
    ({}, 200, CONTENT),
    ({"Range": "bytes=100-199"}, 206, CONTENT[100:200]),
    ({"Range": "bytes=-10"}, 206, CONTENT[-10:]),
], ids=["whole", "range", "end"])
def test_a_file_of_the_file_wrapper_arrives(shared, headers, status, wanted):
    since = len(shared.site.events("close plain"))
    query = f"h=Accept-Ranges:bytes&length={len(CONTENT)}"
    response = shared.handed(f"/files/plain?{query}", headers=headers)
    assert (response.status, response.body) == (status, wanted)
    shared.site.wait_event("close plain", since + 1)


@pytest.mark.parametrize("name", ["memory", "pipe", "unlinked", "spooled", "only_read", "zipped"])
def test_what_is_no_plain_file_arrives(shared, name):
    wanted = CONTENT[:4096] if name == "pipe" else CONTENT
    assert shared.handed(f"/files/{name}").body == wanted


def test_a_redirect_is_answered_with_what_is_at_its_target(shared):
    spec = respond(headers=[("X-Accel-Redirect", "/private/file.txt")], body=[b"not this"])
    response = shared.handed(spec)
    assert (response.status, response.body) == (200, CONTENT)


@pytest.mark.parametrize("how", ["generator", "write"])
def test_a_slow_client_holds_no_thread_of_the_other_worker(start, how):
    pair = start().occupy()
    since = len(pair.ran())
    clients = [pair.ask(path("/buffered", 160, 65536, how=how), rcvbuf=4096) for _ in range(3)]
    # More of them than the other worker has threads, and nobody has read a byte.
    pair.site.wait_event("done", 3)
    assert pair.ran(since) == [pair.free] * 3
    assert pair.handed("/plain").status == 200
    for client in clients:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        response = client.read_response()
        assert hashlib.sha256(response.body).hexdigest() == digest(160, 65536)
        assert response.end == "chunked"
    until(lambda: not any(files(pair.site, pid) for pid in pair.pids), what="the files are closed")


def test_without_buffering_a_slow_client_is_waited_for(start):
    """Nothing goes to a file; the other worker's thread waits until the client reads."""
    pair = start(http="wsgi_buffering off;").occupy()
    client = pair.ask(path("/buffered", 800, 65536), rcvbuf=4096)
    until(lambda: pair.ran() == [pair.free], what="the other worker runs it")
    assert pair.handed("/plain").status == 200
    assert pair.site.events("done") == []
    assert not any(files(pair.site, pid) for pid in pair.pids)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    found = hashlib.sha256(client.read_response().body).hexdigest()
    assert found == digest(800, 65536)
    pair.site.wait_event("done")


@pytest.mark.parametrize("how, end", [("printed", ""), ("write", "\\n"), ("to_stderr", "")])
def test_lines_have_the_context_of_their_request(shared, how, end):
    mark = shared.site.log.mark()
    response = shared.handed(f"/talk/{how}?'hello%20there{end}'")
    assert response.text == "said"
    (line,) = shared.site.log.wait_for("hello there", start=mark)
    assert f'request: "GET /talk/{how}?' in context(line)
    assert f" {shared.busy}#" in line


def test_many_lines_arrive_whole_and_in_order(shared):
    mark = shared.site.log.mark()
    assert shared.handed("/talk/many?'numbered'").text == "said"
    lines = shared.site.log.wait_for(r"numbered line \d+ \.{100}", start=mark, count=50)
    assert [int(line.split("numbered line ")[1].split()[0]) for line in lines] == list(range(50))


def test_what_only_nginx_is_told_comes_with_the_response(start):
    pair = start(
        http="log_format own '$upstream_http_x_secret $upstream_cookie_a $wsgi_cpu_time';",
        server="""
            location = /logged { access_log @DIR@/own.log own; wsgi_hide_header X-Secret;
                wsgi_app ran:respond; }
            location = /computed { access_log @DIR@/own.log own; wsgi_app ran:compute; }
        """,
    ).occupy()
    headers = [("X-Secret", "gold"), ("Set-Cookie", "a=b")]
    response = pair.handed(respond(headers=headers).replace("/respond", "/logged"))
    assert response.status == 200 and response.header("X-Secret") is None
    assert pair.handed("/computed?0.2").status == 200

    def lines():
        with open(f"{pair.site.dir}/own.log") as file:
            return [line.split() for line in file]

    first, second = until(lambda: lines() if len(lines()) == 2 else None)
    assert first[:2] == ["gold", "b"] and 0 < float(first[2]) < 0.2
    assert second[:2] == ["-", "-"] and 0.2 <= float(second[2]) < 2
