"""What goes out: bodies of every kind, framing, exceptions (PEP 3333, Handling the Content)."""

import pytest
from lib import http
from lib.load import at_once
from lib.poll import until
from lib.respond import Expr, respond

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /raise { wsgi_app raising:application; }
    location = /raise_iterating { wsgi_app raising:iterating; }
    location = /raise_midway { wsgi_app raising:midway; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["respond", "plain"])


every_kind = pytest.mark.parametrize("kind", ["list", "generator"])
GOOD_BODIES = {
    "list": respond(body=[b"one", b"two"]),
    "tuple": respond(body=[b"one", b"two"], kind="tuple"),
    "generator": respond(body=[b"one", b"two"], kind="generator"),
    "late start": respond(body=[b"one", b"two"], kind="late"),
    "iterator": respond(body=[b"one", b"two"], kind="iterator"),
    "file object": respond(body=[b"one", b"two"], kind="file"),
    "write": respond(body=[b"one", b"two"], kind="write"),
    "write, then list": respond(body=[b"one", b"t", b"wo"], kind="both"),
    "bytes": respond(body=b"onetwo"),
    "empty chunks first": respond(body=[b"", b"", b"one", b"two"], kind="generator"),
    "empty chunks between": respond(body=[b"one", b"", b"", b"two", b""], kind="generator"),
    "empty list items": respond(body=[b"", b"one", b"", b"two", b""]),
    "empty writes": respond(body=[b"", b"one", b"", b"two"], kind="write"),
    "map": respond(body=Expr("map(bytes, [b'one', b'two'])")),
    "length": respond(body=[b"onetwo"], headers=[("Content-Length", "6")]),
    "length, generator": respond(
        body=[b"one", b"two"], headers=[("Content-Length", "6")], kind="generator"
    ),
    "length, write": respond(
        body=[b"one", b"two"], headers=[("Content-Length", "6")], kind="write"
    ),
}


@pytest.mark.parametrize("kind", GOOD_BODIES)
def test_a_body_arrives_whole(site, proto, kind):
    mark = site.log.mark()
    response = proto(site, "GET", GOOD_BODIES[kind])
    assert response.status == 200, response
    assert response.body == b"onetwo"
    assert response.complete
    # Nor is a body of exactly its Content-Length a reason to complain.
    assert site.log.matching(r"\[error\]", mark) == []


@pytest.mark.parametrize("body", [[], [b""], Expr("()"), Expr("iter([])"), b""], ids=repr)
def test_an_empty_body_is_a_complete_answer(site, proto, body):
    response = proto(site, "GET", respond(body=body))
    assert (response.status, response.body, response.complete) == (200, b"", True)


@pytest.mark.parametrize(
    "body",
    [None, Expr("5"), Expr("object()"), Expr("'text'"), ["text"], [5], [None],
     Expr("[bytearray(b'x')]"), Expr("[memoryview(b'x')]"), Expr("bytearray(b'x')"), [[b"x"]]],
    ids=repr,
)
def test_a_body_that_is_not_of_bytes_is_500_with_a_type_error(site, proto, body):
    mark = site.log.mark()
    response = proto(site, "GET", respond(body=body))
    assert response.status == 500
    site.log.wait_for(r"\[error\].* TypeError", start=mark)


def test_an_item_that_is_not_bytes_after_the_head_aborts(site, proto):
    mark = site.log.mark()
    response = proto(site, "GET", respond(body=[b"one", "two"], kind="generator"))
    assert b"two" not in response.body
    assert not response.complete
    site.log.wait_for(r"\[error\].* TypeError", start=mark)


def test_writing_text_is_a_type_error(site):
    mark = site.log.mark()
    assert site.get(respond(body=["text"], kind="write")).status == 500
    site.log.wait_for(r"\[error\].* TypeError", start=mark)


@pytest.mark.parametrize("kind", ["list", "tuple"])
def test_a_list_without_content_length_gets_the_total(site, proto, kind):
    response = proto(site, "GET", respond(body=[b"one", b"", b"two"], kind=kind))
    assert response.header("Content-Length") == "6"


def test_a_generator_without_content_length_is_chunked_in_http_1_1(site):
    response = site.get(respond(body=[b"one", b"two"], kind="generator"))
    assert response.end == "chunked"
    assert response.header("Content-Length") is None


def test_a_generator_without_content_length_ends_with_the_connection_in_http_1_0(site):
    response = site.get(respond(body=[b"one"], kind="generator"), version="1.0")
    assert response.end == "close"
    assert response.header("Transfer-Encoding") is None


@every_kind
def test_more_than_content_length_is_cut_and_logged(site, proto, kind):
    mark = site.log.mark()
    headers = [("Content-Length", "5")]
    response = proto(site, "GET", respond(headers=headers, body=[b"123", b"4567890"], kind=kind))
    assert response.body == b"12345"
    assert response.complete
    site.log.wait_for(r"\[error\].*more than Content-Length", start=mark)


@pytest.mark.parametrize("kind", ["list", "generator", "write"])
def test_more_than_content_length_does_not_disturb_the_next_answer(site, kind):
    path = respond(headers=[("Content-Length", "5")], body=[b"123", b"4567890"], kind=kind)
    with site.connect() as client:
        client.send(http.build("GET", path, close=False) + http.build("GET", "/plain"))
        assert client.read_response().body == b"12345"
        assert client.read_response().body == b"plain"


@pytest.mark.parametrize("kind", ["list", "generator", "write"])
def test_less_than_content_length_breaks_the_connection_and_is_logged(site, proto, kind):
    mark = site.log.mark()
    path = respond(headers=[("Content-Length", "10")], body=[b"12345"], kind=kind)
    response = proto(site, "GET", path)
    assert not response.complete
    site.log.wait_for(r"\[error\].*less than Content-Length", start=mark)


def test_less_than_content_length_never_lets_the_next_answer_fill_the_gap(site):
    path = respond(headers=[("Content-Length", "10")], body=[b"12345"])
    with site.connect() as client:
        client.send(http.build("GET", path, close=False) + http.build("GET", "/plain"))
        response = client.read_response()
    assert response.end in ("truncated", "reset")
    assert b"HTTP/1.1" not in response.body


@pytest.mark.parametrize("kind", ["list", "generator", "late", "write", "iterator"])
def test_head_has_the_headers_and_no_body(site, proto, kind):
    path = respond(headers=[("Content-Length", "6"), ("X-A", "b")], body=[b"onetwo"], kind=kind)
    response = proto(site, "HEAD", path)
    assert response.status == 200
    assert response.header("X-A") == "b"
    assert response.header("Content-Length") == "6"
    assert response.body == b""


def test_head_stops_an_endless_generator(site, proto):
    before = len(site.events("close"))
    endless = Expr("__import__('itertools').repeat(b'x' * 1000)")
    response = proto(site, "HEAD", respond(body=endless, kind="generator"))
    assert response.status == 200
    # close() of an earlier test's answer may come after it, and be counted too.
    until(lambda: len(site.events("close")) > before, what="the generator is closed")


def test_head_keeps_the_connection_in_step(site):
    with site.connect() as client:
        for kind in ("list", "generator", "write"):
            client.send(http.build("HEAD", respond(body=[b"x" * 99], kind=kind), close=False))
            assert client.read_response("HEAD").rest == b""
        client.send(http.build("GET", "/plain", close=False))
        assert client.read_response().body == b"plain"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "4")], [("Content-Type", "a/b")]])
@pytest.mark.parametrize("kind", ["list", "generator", "write"])
def test_204_and_304_have_no_body(site, proto, status, headers, kind):
    path = respond(status=status, headers=headers, body=[b"body"], kind=kind)
    response = proto(site, "GET", path)
    assert response.status == int(status[:3])
    assert response.body + response.rest == b""
    assert response.header("Transfer-Encoding") is None


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "205 Reset Content"])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "4")]])
@pytest.mark.parametrize("kind", ["list", "generator"])
def test_an_answer_without_body_keeps_the_connection_in_step(site, status, headers, kind):
    path = respond(status=status, headers=headers, body=[b"body"], kind=kind)
    with site.connect() as client:
        client.send(http.build("GET", path, close=False) + http.build("GET", "/plain"))
        first = client.read_response()
        assert (first.status, first.body) == (int(status[:3]), b"")
        assert client.read_response().body == b"plain"


def test_204_has_no_header_of_a_body(site, proto):
    """nginx knows by the code that there is none; it would not by a status line of our own."""
    headers = [("Content-Type", "a/b"), ("Content-Length", "0")]
    response = proto(site, "GET", respond(status="204 No Content", headers=headers, body=[]))
    assert response.header("Content-Length") is None
    assert response.header("Content-Type") is None


def test_304_keeps_its_etag(site, proto):
    response = proto(site, "GET", respond(status="304 Not Modified", headers=[("ETag", '"t"')]))
    assert response.header("ETag") == '"t"'


EXCEPTIONS = ["ValueError", "SystemExit", "sys.exit", "KeyboardInterrupt", "GeneratorExit",
              "RecursionError", "MemoryError", "Custom", "StopIteration", "BrokenPipeError"]


@pytest.mark.parametrize("path", ["/raise", "/raise_iterating"])
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_before_the_head_is_500_and_logged(site, path, name):
    worker, mark = site.worker(), site.log.mark()
    assert site.get(f"{path}?{name}").status == 500
    logged = "SystemExit" if name == "sys.exit" else name
    if path == "/raise_iterating" and name == "StopIteration":
        logged = "RuntimeError"  # Python turns it into this one inside a generator.
    site.log.wait_for(rf"\[error\].*\b{logged}\b", start=mark)
    assert site.get("/plain").body == b"plain"
    assert site.worker() == worker


@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "Custom"])
def test_an_exception_after_the_head_aborts_without_a_clean_end(site, proto, name):
    mark = site.log.mark()
    response = proto(site, "GET", f"/raise_midway?{name}")
    assert response.status == 200
    assert not response.complete
    site.log.wait_for(rf"\[error\].*\b{name}\b", start=mark)


def test_an_exception_after_the_head_sends_no_last_chunk(site):
    with site.ask("/raise_midway?ValueError", close=False) as client:
        answer, _ = client.read_to_end()
    assert b"some" in answer
    assert b"\r\n0\r\n" not in answer


def test_an_exception_with_content_length_leaves_the_answer_short(site):
    path = respond(headers=[("Content-Length", "9")], body=[b"12345"], kind="generator",
                   fail=Expr("ValueError('late')"))
    assert site.get(path).end in ("truncated", "reset")
    # HTTP/1.0 can show it too when there is a length.
    assert site.get(path, version="1.0").end in ("truncated", "reset")


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 1 << 20, 8 << 20])
@every_kind
def test_a_body_of_any_size_arrives(site, proto, size, kind):
    response = proto(site, "GET", respond(body=Expr(f"[b'x' * {size}]"), kind=kind))
    assert response.complete
    assert len(response.body) == size
    assert response.body.count(b"x") == size


def test_many_small_chunks_arrive_in_order(site, proto):
    body = Expr("[b'%d ' % n for n in range(20000)]")
    response = proto(site, "GET", respond(body=body, kind="generator"))
    assert response.complete
    assert response.body == b"".join(b"%d " % n for n in range(20000))


def test_answers_at_once_are_never_mixed_up(site):
    def ask(number):
        tag = f"tag{number}"
        status = f"{200 + number % 90} {tag}"
        headers = [("Content-Type", f"text/{tag}"), ("Set-Cookie", tag), (f"X-{tag}", tag)]
        kind = ["list", "generator", "write", "late"][number % 4]
        if number % 90 == 4 or number % 90 == 5:
            status = f"200 {tag}"  # 204 and 205 have no body.
        response = site.get(respond(status=status, headers=headers, body=[tag.encode()], kind=kind))
        return (
            response.reason == response.header("Set-Cookie") == response.text == tag
            and response.header("Content-Type") == f"text/{tag}"
            and response.header(f"X-{tag}") == tag
        )

    assert all(at_once(ask, range(400), threads=16))
