"""Bodies, exceptions and ends over every protocol, as list and as generator."""

import h2.events
import pytest
from lib import h2client, http
from lib.poll import until
from lib.respond import Expr, respond

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /head_later { wsgi_app stream:head_later; }
    location = /writes { wsgi_app stream:writes; }
    location = /fast_writes { wsgi_app stream:fast_writes; }
    location = /raise { wsgi_app raising:application; }
    location = /raise_iterating { wsgi_app raising:iterating; }
    location = /raise_midway { wsgi_app raising:midway; }
"""
KINDS = ["list", "tuple", "generator", "late", "iterator", "write", "both", "file"]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["respond", "plain"])


every_kind = pytest.mark.parametrize("kind", KINDS)


def framing(response):
    """The headers but for those that differ from answer to answer."""
    skipped = ("date", "transfer-encoding", "connection")
    return [(n.lower(), v) for n, v in response.headers if n.lower() not in skipped]


@every_kind
@pytest.mark.parametrize("body", [[], [b""], [b"", b""], [b"x"], [b"x", b"", b"yz"]], ids=repr)
@pytest.mark.parametrize("headers", [[], ["Content-Length"]], ids=["", "length"])
def test_head_is_answered_as_get_but_without_the_body(site, proto, kind, body, headers):
    headers = [(name, str(len(b"".join(body)))) for name in headers]
    body = body or [b""] if kind == "both" else body
    path = respond(headers=headers, body=body, kind=kind)
    get, head = proto(site, "GET", path), proto(site, "HEAD", path)
    assert (get.status, get.body, get.complete) == (200, b"".join(body), True)
    assert (head.status, head.body, head.rest, head.complete) == (200, b"", b"", True)
    length = get.header("Content-Length")
    assert length is None or length == str(len(get.body))
    # A length that only the end tells may be missing.
    if head.header("Content-Length"):
        assert framing(head) == framing(get)
    assert not headers or head.header("Content-Length") == headers[0][1]


@pytest.mark.parametrize("kind", ["list", "generator", "late", "write"])
def test_205_has_no_body(site, proto, kind):
    for headers in ([], [("Content-Length", "4")], [("Content-Type", "a/b")]):
        path = respond(status="205 Reset Content", headers=headers, body=[b"body"], kind=kind)
        for method in ("GET", "HEAD"):
            response = proto(site, method, path)
            assert (response.status, response.body, response.rest) == (205, b"", b"")
            assert response.header("Content-Length") == "0"
            assert response.header("Transfer-Encoding") is None


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_304_keeps_its_length_and_its_validators(site, proto, kind):
    date = "Thu, 01 Jan 2015 00:00:00 GMT"
    headers = [("Content-Length", "4"), ("ETag", 'W/"t"'), ("Last-Modified", date)]
    path = respond(status="304 Not Modified", headers=headers, body=[b"body"], kind=kind)
    response = proto(site, "GET", path)
    assert (response.status, response.body + response.rest, response.complete) == (304, b"", True)
    assert [response.header(name) for name, _ in headers] == [value for _, value in headers]


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
@pytest.mark.parametrize("kind", ["generator", "iterator"])
def test_close_runs_once_where_there_is_no_body(site, proto, status, kind):
    before = len(site.events("close"))
    endless = Expr("__import__('itertools').repeat(b'x')")
    assert proto(site, "GET", respond(status=status, body=endless, kind=kind)).complete
    until(lambda: len(site.events("close")) > before, what="close()")
    assert len(site.events("close")) == before + 1


@pytest.mark.parametrize("kind", ["generator", "iterator"])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_close_runs_once_when_a_client_of_http_1_0_leaves(site, kind, leave):
    before = len(site.events("close"))
    endless = Expr("__import__('itertools').repeat(b'x' * 10000)")
    client = site.ask(respond(body=endless, kind=kind), version="1.0")
    client.read_exactly(50_000)
    getattr(client, leave)()
    until(lambda: len(site.events("close")) > before, what="close()")
    site.barrier()
    assert len(site.events("close")) == before + 1


@pytest.mark.parametrize("path", ["/raise", "/raise_iterating"])
@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit",
                                  "RecursionError", "MemoryError", "Custom"])
def test_an_exception_before_the_head_is_500_over_every_protocol(site, proto, path, name):
    worker, mark = site.worker(), site.log.mark()
    response = proto(site, "GET", f"{path}?{name}")
    assert (response.status, response.complete) == (500, True)
    site.log.wait_for(rf"\[error\].*\b{name}\b", start=mark)
    assert site.worker() == worker


@pytest.mark.parametrize("kind", ["generator", "iterator", "late", "write"])
@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit",
                                  "RecursionError", "MemoryError", "BaseException"])
def test_an_exception_after_the_head_never_ends_cleanly(site, proto, kind, name):
    mark = site.log.mark()
    path = respond(body=[b"some"], kind=kind, fail=Expr(f"{name}('midway')"))
    response = proto(site, "GET", path)
    assert (response.status, response.complete) == (200, False)
    if proto.name == "h2":
        assert response.end == "reset"
    site.log.wait_for(rf"\[error\].*\b{name}\b", start=mark)
    assert proto(site, "GET", "/plain").body == b"plain"


@pytest.mark.parametrize("kind", ["list", "generator", "late", "write"])
def test_less_than_content_length_is_a_reset_of_the_http_2_stream(site, kind):
    path = respond(headers=[("Content-Length", "10")], body=[b"12345"], kind=kind)
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        assert client.wait(client.send("GET", path)).end == "reset"
        # Only the stream: the connection goes on.
        assert client.wait(client.send("GET", "/plain")).body == b"plain"


@pytest.mark.parametrize("kind", ["list", "generator", "late", "write", "both"])
def test_more_than_content_length_keeps_every_connection_in_step(site, kind):
    path = respond(headers=[("Content-Length", "5")], body=[b"123", b"4567890"], kind=kind)
    keep = {"Connection": "keep-alive"}
    with site.ask(path, headers=keep, version="1.0") as client:
        client.send(http.build("GET", "/plain", headers=keep, version="1.0"))
        assert client.read_response().body == b"12345"
        assert client.read_response().body == b"plain"
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        streams = [client.send("GET", path), client.send("GET", "/plain")]
        assert [client.wait(s).body for s in streams] == [b"12345", b"plain"]


# A list is looked through before the head is sent; an iteration cannot be.
BAD_ITEMS = ["None", "5", "'text'", "bytearray(b'x')", "memoryview(b'x')", "[b'x']", "object()"]


@pytest.mark.parametrize("kind", ["list", "tuple", "generator", "iterator", "late", "write"])
def test_an_item_that_is_not_bytes_is_a_type_error_first_and_later(site, proto, kind):
    for item in BAD_ITEMS:
        mark = site.log.mark()
        assert proto(site, "GET", respond(body=Expr(f"[{item}]"), kind=kind)).status == 500
        assert proto(site, "GET", respond(body=Expr(f"[b'', {item}]"), kind=kind)).status == 500
        response = proto(site, "GET", respond(body=Expr(f"[b'x', {item}]"), kind=kind))
        assert response.status == 500 or not response.complete
        site.log.wait_for(r"\[error\].* TypeError", start=mark, count=3)


@pytest.mark.parametrize("body", ["{b'onetwo': 1}", "{b'onetwo'}", "b'onetwo'", "[b'onetwo'][:]",
                                  "type('B', (bytes,), {})(b'onetwo')",
                                  "[type('B', (bytes,), {})(b'onetwo')]",
                                  "type('L', (list,), {})([b'one', b'two'])",
                                  "__import__('collections').deque([b'one', b'two'])"])
def test_other_iterables_of_bytes_are_bodies(site, proto, body):
    response = proto(site, "GET", respond(body=Expr(body)))
    assert (response.status, response.body, response.complete) == (200, b"onetwo", True)


def ask(site, proto, path):
    """A request whose answer is read bit by bit: a function that waits for so much of the body."""
    if proto.name == "h2":
        client = h2client.H2Connection(site.ports["PORT2"])
        site.connections.append(client)
        stream = client.send("GET", path)
        return lambda wanted: client.wait(stream, lambda r: len(r.body) >= len(wanted)).body

    client = site.ask(path, version=proto.name[-3:], close=False)
    seen = []

    def read(wanted):
        if not seen:
            assert client.read_head().status == 200
            seen.append(b"")
        if proto.name == "http/1.0":
            seen.append(client.read_exactly(len(wanted) - len(b"".join(seen))))
        else:
            seen.append(client.read_chunk())
        return b"".join(seen)

    return read


def test_the_head_waits_for_the_first_chunk_over_every_protocol(site, proto):
    two, waiting = site.gate("two"), len(site.events("waiting two"))
    read = ask(site, proto, "/head_later")
    site.wait_event("waiting two", count=waiting + 1)
    if proto.name == "h2":
        client = site.connections[-1]
        assert client.wait(client.send("GET", "/plain")).body == b"plain"
        assert client.responses[1].status == 0
    else:
        assert site.connections[-1].silent(0.1)
    two.open()
    assert read(b"two") == b"two"


def test_what_is_written_is_on_the_wire_before_the_return(site, proto):
    two, three = site.gate("two"), site.gate("three")
    read = ask(site, proto, "/writes")
    for wanted, gate in ((b"one", two), (b"onetwo", three), (b"onetwothree", three)):
        assert read(wanted) == wanted
        gate.open()


def test_a_write_to_a_stream_that_was_reset_raises_an_os_error(site):
    before = len(site.events("raised"))
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        stream = client.send("GET", "/fast_writes?100000")
        client.wait(stream, lambda response: len(response.body) > 20_000)
        client.reset(stream)
        site.wait_event("raised", count=before + 1)
    assert site.events("raised")[-1] == "raised BrokenPipeError True"


@pytest.mark.parametrize("kind", ["list", "generator", "write"])
def test_an_empty_chunk_is_no_frame_in_http_2(site, kind):
    """Only the end of the stream may be a frame without data."""
    path = respond(body=[b"", b"one", b"", b"", b"two", b""], kind=kind)
    frames = []
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        take = client._take

        def note(event):
            if isinstance(event, h2.events.DataReceived):
                frames.append((event.data, event.stream_ended is not None))
            take(event)

        client._take = note
        assert client.wait(client.send("GET", path)).body == b"onetwo"
    assert [data for data, last in frames if not data and not last] == []
