"""wsgi_request_buffering: the body complete before the call, or read as it comes."""

import contextlib
import hashlib
import os
import re
import socket
from urllib.parse import quote

import pytest
from lib import h2client, http, procs
from lib.poll import elapse, takes, until
from test_input import BODY, READS

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    client_max_body_size 0;
    lingering_timeout 500ms;
    location /on/ {
        location /on/read { wsgi_app reader:application; }
        location /on/upload { wsgi_app upload:application; }
        location /on/lines { wsgi_app lines:application; }
        location /on/calls { wsgi_app calls:application; }
        wsgi_app streamed:application;
    }
    location /off/ {
        wsgi_request_buffering off;
        location /off/read { wsgi_app reader:application; }
        location /off/upload { wsgi_app upload:application; }
        location /off/lines { wsgi_app lines:application; }
        location /off/calls { wsgi_app calls:application; }
        location /off/small/ { client_max_body_size 100; wsgi_app streamed:application; }
        location /off/quick/ { client_body_timeout 1s; wsgi_app streamed:application; }
        location /off/silent/ { wsgi_read_timeout 400ms; wsgi_app streamed:application; }
        location /off/mirrored/ { mirror /copy/report; wsgi_app streamed:application; }
        location /off/asked/ { auth_request /off/whole; wsgi_app streamed:application; }
        location /off/excused/ { error_page 413 500 /off/report; client_max_body_size 100;
                                 wsgi_app streamed:application; }
        location /off/including/ { ssi on; client_body_timeout 1s; wsgi_app included:application; }
        location = /off/included { wsgi_app included:part; }
        location /off/one/ { wsgi_thread_pool one; wsgi_app streamed:application; }
        wsgi_app streamed:application;
    }
    location /copy/ { wsgi_request_buffering off; wsgi_app streamed:application; }
    location /page { alias @DIR@/html/page.html; }
    location = /static_page { alias @DIR@/html/page.html; }
"""
MAIN = "thread_pool default threads=8; thread_pool one threads=1;"
APPS = ["plain"]
NEXT = http.build("GET", "/plain", close=False)
KINDS = ["length", "chunked", "h2", "h2 with length"]
H1 = KINDS[:2]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        server=SERVER, main=MAIN, apps=APPS,
        prepare=lambda nginx: nginx.write("html/page.html", "page"),
    )


@pytest.fixture
def hold(site):
    """Gates that are open after the test, whatever its outcome."""
    with contextlib.ExitStack() as stack:
        def close(name):
            gate = site.gate(name)
            stack.callback(gate.open)
            return gate

        yield close


@pytest.fixture(params=["on", "off"])
def mode(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


class Upload:
    """A request whose body is sent piece by piece."""

    def __init__(self, site, kind, path, size=None, method="POST", **options):
        self.kind, self.h2 = kind, kind.startswith("h2")
        fields = {}
        if "length" in kind:
            fields["Content-Length"] = str(size)
        if self.h2:
            self.client = h2client.H2Connection(site.ports["PORT2"], **options)
            site.connections.append(self.client)
            self.stream = self.client.send(method, path, fields, end=False)
            return
        self.client = site.connect(**options)
        self.client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind == "chunked":
            fields["Transfer-Encoding"] = "chunked"
        self.client.send(http.build(method, path, fields, close=False))

    def send(self, data):
        if self.h2:
            data = memoryview(data)
            while data:
                room = min(self.client.h2.local_flow_control_window(self.stream),
                           self.client.h2.max_outbound_frame_size)
                if not room:
                    self.client.pump()
                    continue
                self.client.h2.send_data(self.stream, bytes(data[:room]))
                self.client.flush()
                data = data[room:]
        elif self.kind == "chunked":
            self.client.send(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            self.client.send(data)

    def end(self):
        if self.h2:
            self.client.h2.end_stream(self.stream)
            self.client.flush()
        elif self.kind == "chunked":
            self.client.send(b"0\r\n\r\n")

    def fill(self, body):
        """Send as much of a large body as nginx and the sockets take; what is left."""
        sock = self.client.raw.sock if self.h2 else self.client.sock
        data = b"%x\r\n%s\r\n" % (len(body), body) if self.kind == "chunked" else body
        sock.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                if not self.h2:
                    sent += sock.send(data[sent:sent + 65536])
                elif room := self.client.h2.local_flow_control_window(self.stream):
                    part = data[sent:sent + min(room, 16384)]
                    self.send(part)
                    sent += len(part)
                else:
                    self.client.pump()
        sock.settimeout(20)
        return data[sent:]

    def go_on(self, rest):
        """Send what fill() has left, and the end."""
        if self.h2:
            self.send(rest)
        else:
            self.client.send(rest)
        self.end()

    def answer(self):
        if self.h2:
            return self.client.wait(self.stream)
        return self.client.read_response()

    def vanish(self, how):
        if how == "reset of the stream":
            self.client.reset(self.stream)
        elif how == "reset":
            (self.client.raw if self.h2 else self.client).reset()
        else:
            self.client.close()


def whole(site, kind, path, body):
    upload = Upload(site, kind, path, len(body))
    upload.send(body)
    upload.end()
    return upload.answer()


def told(body):
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


# -- reading, where both do the same


STREAM_READS = [row for row in READS if not re.search(r"seek|tell", row[0])] + [
    ("[f.read1(3), f.read1()]", [b"aa\n", b"bb\ncc"]),
    ("[(lambda b: (f.readinto(b), bytes(b)))(bytearray(5)), f.read()]",
     [(5, b"aa\nbb"), b"\ncc"]),
    ("io.BufferedReader(f).read()", BODY),
    ("list(io.TextIOWrapper(io.BufferedReader(f)))", ["aa\n", "bb\n", "cc"]),
    ("[f.readable(), f.writable(), f.isatty(), f.closed]", [True, False, False, False]),
]


def test_reading_means_the_same(site, mode, kind):
    for expression, expected in STREAM_READS:
        response = whole(site, kind, f"/{mode}/read?{quote(expression, safe='')}", BODY)
        assert response.text == repr(expected), expression


def test_reading_waits_for_the_rest(site, kind):
    """Each byte in a packet of its own."""
    for expression, expected in READS[:16]:
        upload = Upload(site, kind, f"/off/read?{quote(expression, safe='')}", len(BODY))
        for n in range(len(BODY)):
            upload.send(BODY[n:n + 1])
        upload.end()
        assert upload.answer().text == repr(expected), expression


def test_a_request_without_a_body_gives_nothing(site, mode):
    query = quote("[f.read(), f.readline(), f.readlines(), list(f), f.read(5), f.read1()]")
    assert site.get(f"/{mode}/read?{query}").text == "[b'', b'', [], [], b'', b'']"


def test_an_empty_chunked_body_gives_nothing(site, mode):
    assert whole(site, "chunked", f"/{mode}/report", b"").text.endswith(" b''")


READINGS = ["f.read()", "b''.join(iter(lambda: f.read(777), b''))", "b''.join(f)",
            "b''.join(f.readlines())", "b''.join(iter(lambda: f.readline(50), b''))",
            "b''.join(iter(f.read1, b''))", "io.BufferedReader(f).read()"]


def test_a_body_arrives_unchanged_however_it_is_read(site, mode, kind):
    body = bytes(range(256)) * 2000
    for reading in READINGS:
        expression = quote(f"__import__('hashlib').sha256({reading}).hexdigest()", safe="")
        response = whole(site, kind, f"/{mode}/read?{expression}", body)
        assert response.text == repr(hashlib.sha256(body).hexdigest()), reading


def test_the_validator_finds_no_fault(site, mode, kind):
    found = whole(site, kind, f"/{mode}/lines", BODY).text
    assert found == repr([b"aa\n", b"b", [b"b\n", b"cc"], [], b""])
    body = os.urandom(300_000)
    assert whole(site, kind, f"/{mode}/upload", body).text == told(body)


def test_the_next_request_of_the_connection_is_in_step(site, mode):
    for kind in H1:
        body = os.urandom(200_000)
        upload = Upload(site, kind, f"/{mode}/whole", len(body))
        upload.send(body)
        upload.end()
        upload.client.send(NEXT)
        assert upload.answer().text == told(body)
        assert upload.client.read_response().body == b"plain"


def test_a_client_that_expects_100_continue_gets_it(site, mode):
    with site.connect() as client:
        client.send(http.build("POST", f"/{mode}/whole", close=False,
                               headers={"Expect": "100-continue", "Content-Length": "8"}))
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(BODY)
        assert client.read_response().text == told(BODY)


def test_http_1_0(site, mode):
    response = site.post(f"/{mode}/whole", body=BODY, version="1.0")
    assert response.text == told(BODY)


# -- what is different


def test_the_application_starts_before_the_body_is_there(site, kind):
    before = len(site.events("begun"))
    upload = Upload(site, kind, "/off/whole", 8)
    site.wait_event("begun", before + 1)
    upload.send(BODY[:4])
    site.barrier()
    upload.send(BODY[4:])
    upload.end()
    assert upload.answer().text == told(BODY)


def test_buffered_it_does_not(site, kind):
    before = len(site.events("begun"))
    upload = Upload(site, kind, "/on/whole", 8)
    upload.send(BODY[:4])
    site.barrier()
    assert len(site.events("begun")) == before
    upload.send(BODY[4:])
    upload.end()
    assert upload.answer().text == told(BODY)


def test_read_returns_as_soon_as_it_has_what_it_asks_for(site, kind):
    upload = Upload(site, kind, "/off/some", 1000)
    upload.send(b"x" * 9)
    site.barrier()
    upload.send(b"yz")
    assert upload.answer().body == b"x" * 9 + b"y"


@pytest.mark.parametrize("method", ["f.seek(0)", "f.seek(0, 2)", "f.tell()", "f.fileno()"])
def test_a_stream_has_no_position_and_no_descriptor(site, method):
    expression = quote(f"[raised(lambda: {method}), f.seekable()]", safe="")
    expected = repr(["UnsupportedOperation", False])
    assert site.post(f"/off/read?{expression}", body=BODY).text == expected
    assert site.get(f"/off/read?{expression}").text == expected


LENGTHS = {"length": "8", "chunked": None, "h2": None, "h2 with length": "8"}


def test_content_length_is_what_the_client_has_sent(site, kind):
    keys = ["CONTENT_LENGTH", "wsgi.input_terminated", "HTTP_TRANSFER_ENCODING"]
    expression = quote(f"[environ.get(k) for k in {keys}]", safe="")
    response = whole(site, kind, f"/off/read?{expression}", BODY)
    assert response.text == repr([LENGTHS[kind], True, None])


def test_content_length_is_absent_without_a_body(site):
    assert site.get("/off/read?environ.get('CONTENT_LENGTH')").text == "None"
    assert site.post("/off/read?environ.get('CONTENT_LENGTH')",
                     headers={"Content-Length": "0"}).text == "'0'"


@pytest.mark.parametrize("kind", ["chunked", "h2", "h2 with length"])
def test_what_is_read_can_be_answered_at_once(site, kind):
    """A conversation: each answer comes before the next question is sent."""
    upload = Upload(site, kind, "/off/echo", 5 * 8)
    if not upload.h2:
        upload.send(b"line 0\r\n")
        assert upload.client.read_head().status == 200
        assert upload.client.read_chunk() == b"line 0\r\n"
    for n in range(0 if upload.h2 else 1, 5):
        line = b"line %d\r\n" % n
        upload.send(line)
        if upload.h2:
            wanted = n * 8 + 8
            got = upload.client.wait(upload.stream, lambda r: len(r.body) >= wanted)
            assert got.body[-8:] == line
        else:
            assert upload.client.read_chunk() == line
    upload.end()
    if upload.h2:
        assert upload.answer().end == "stream"
    else:
        assert upload.client.read_chunk() == b""
        upload.client.send(NEXT)
        assert upload.client.read_response().body == b"plain"


# -- clients that go away


GIVEN_UP = r'"POST /off/watched HTTP/\S+" (400|499) '


def accesses(site, pattern):
    with open(f"{site.dir}/access.log") as file:
        return [line for line in file if re.search(pattern, line)]


WAYS = [(kind, how) for kind in KINDS for how in ("close", "reset", "reset of the stream")
        if kind.startswith("h2") or how != "reset of the stream"]


@pytest.mark.parametrize("kind, how", WAYS)
def test_a_client_that_goes_away_ends_a_read_that_waits(site, kind, how):
    mark, before = site.log.mark(), len(site.events())
    upload = Upload(site, kind, "/off/watched", 1000)
    upload.send(b"x" * 25)
    until(lambda: "read 20" in site.events()[before:], what="the application waits")
    upload.vanish(how)
    until(lambda: "raised ConnectionResetError 104" in site.events()[before:], what="OSError")
    assert not [event for event in site.events()[before:] if event.startswith("end")]
    assert not site.log.matching("Traceback", mark)


@pytest.mark.parametrize("kind, how", WAYS)
def test_a_client_that_goes_away_is_found_by_the_next_read(site, hold, kind, how):
    before = len(site.events())
    gate, known = hold("watched"), len(accesses(site, GIVEN_UP))
    upload = Upload(site, kind, "/off/watched", 1000)
    upload.send(b"x" * 25)
    until(lambda: "waiting watched" in site.events()[before:], what="the application computes")
    upload.vanish(how)
    until(lambda: len(accesses(site, GIVEN_UP)) > known, what="nginx has given up the request")
    gate.open()
    until(lambda: "raised ConnectionResetError 104" in site.events()[before:], what="OSError")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_goes_away_while_the_pipe_is_full_is_noticed(site, hold, kind):
    before = len(site.events())
    gate, known = hold("watched"), len(accesses(site, GIVEN_UP))
    upload = Upload(site, kind, "/off/watched", 10_000_000)
    # More than the window, less than fills the sockets too.
    upload.send(b"x" * 65535)
    until(lambda: "waiting watched" in site.events()[before:], what="the application computes")
    # In HTTP/2 the window ends here; otherwise a little more, so that the FIN is not held back.
    upload.send(b"x" * (1 if upload.h2 else 20_000))
    upload.vanish("close")
    until(lambda: len(accesses(site, GIVEN_UP)) > known, what="nginx has given up the request")
    gate.open()
    until(lambda: "raised ConnectionResetError 104" in site.events()[before:], what="OSError")


def test_an_application_that_does_not_catch_it_leaves_no_traceback(site):
    mark, before = site.log.mark(), len(site.events("begun"))
    upload = Upload(site, "length", "/off/lost", 1000)
    site.wait_event("begun", before + 1)
    upload.vanish("close")
    site.log.wait_for(r"\[info\].*application stopped at wsgi.input: .*the client is gone",
                      start=mark)
    assert not site.log.matching("Traceback", mark)


def test_a_client_that_goes_away_in_the_queue_never_reaches_the_application(site, hold):
    gate = hold("whole")
    before = len(site.events())
    first = Upload(site, "length", "/off/one/whole", 8)
    until(lambda: "waiting whole" in site.events()[before:], what="the only thread is busy")
    descriptors = site.fd_count()
    second = Upload(site, "length", "/off/one/watched", 8)
    second.send(BODY[:4])
    third = Upload(site, "chunked", "/off/one/whole")
    third.send(BODY)
    until(lambda: site.fd_count() == descriptors + 2, what="both wait")
    second.vanish("close")
    until(lambda: site.fd_count() == descriptors + 1, what="one is gone")
    gate.open()
    first.send(BODY)
    third.end()
    assert first.answer().text == third.answer().text == told(BODY)
    assert [event for event in site.events()[before:] if "begun" in event] == ["begun 8"] + [
        "begun None"]


# -- slow clients, slow applications


def test_a_client_that_is_too_slow_is_cut_off(site, kind):
    before = len(site.events())
    upload = Upload(site, kind, "/off/quick/watched", 1000)
    upload.send(b"x" * 25)
    with contextlib.suppress(http.Closed):
        answer = upload.answer()
        # As for an upstream: no response, the connection is closed.
        assert answer.end in ("nothing", "reset", "truncated") and answer.status == 0
    until(lambda: "raised TimeoutError 110" in site.events()[before:], what="OSError")
    until(lambda: accesses(site, r'"POST /off/quick/watched HTTP/\S+" 408 '), what="408")


def test_a_slow_client_that_goes_on_is_not(site, kind):
    upload = Upload(site, kind, "/off/quick/whole", 8)
    for n in range(0, 8, 2):
        upload.send(BODY[n:n + 2])
        # nginx does not move a timer by less than 300 ms.
        elapse(0.4)
    upload.end()
    assert upload.answer().text == told(BODY)


def test_a_slow_application_is_not_the_clients_fault(site, hold, kind):
    """client_body_timeout does not run while the pipe is full."""
    gate, before = hold("whole"), len(site.events())
    body = os.urandom(1 << 20) * 40
    upload = Upload(site, kind, "/off/quick/whole", len(body))
    until(lambda: "waiting whole" in site.events()[before:], what="the application computes")
    rest = upload.fill(body)
    elapse(1.5)
    gate.open()
    upload.go_on(rest)
    assert upload.answer().text == told(body)


def test_waiting_for_the_client_is_no_silence_of_the_application(site, kind):
    upload = Upload(site, kind, "/off/silent/whole", 8)
    with takes(1):
        upload.send(BODY[:4])
        elapse(1)
        upload.send(BODY[4:])
        upload.end()
        assert upload.answer().text == told(BODY)


def test_an_application_that_is_silent_is_given_up(site, hold, kind):
    gate, before = hold("whole"), len(site.events())
    upload = Upload(site, kind, "/off/silent/whole", 8)
    until(lambda: "waiting whole" in site.events()[before:], what="the application computes")
    assert upload.answer().status == 504
    gate.open()


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_pipe_holds_the_client_back_and_costs_nothing(site, hold, kind):
    gate, before = hold("whole"), len(site.events())
    body = os.urandom(1 << 20) * 40
    upload = Upload(site, kind, "/off/whole", len(body))
    until(lambda: "waiting whole" in site.events()[before:], what="the application computes")
    rss = procs.rss(site.worker())
    rest = upload.fill(body)
    assert len(rest) > 20 << 20
    if upload.h2:
        assert len(body) - len(rest) < 1 << 18
    site.barrier()
    used = procs.cpu_nanoseconds(site.worker())
    elapse(0.5)
    assert procs.cpu_nanoseconds(site.worker()) - used < 50_000_000
    assert procs.rss(site.worker()) - rss < 4 << 20
    gate.open()
    upload.go_on(rest)
    assert upload.answer().text == told(body)


# -- bodies that are wrong


@pytest.mark.parametrize("kind", ["chunked", "h2"])
def test_a_body_that_turns_out_too_long_is_413(site, kind):
    before = len(site.events())
    upload = Upload(site, kind, "/off/small/watched")
    upload.send(b"x" * 60)
    until(lambda: "read 60" in site.events()[before:], what="the application reads")
    upload.send(b"x" * 60)
    assert upload.answer().status == 413
    until(lambda: "raised OSError 27" in site.events()[before:], what="OSError")


def test_a_length_that_is_too_large_is_413_without_the_application(site):
    before = len(site.events())
    assert site.post("/off/small/watched", body=b"x" * 101).status == 413
    assert site.events()[before:] == []


@pytest.mark.parametrize("kind", ["chunked", "h2"])
def test_a_body_that_turns_out_too_long_cuts_a_response_that_has_begun(site, kind):
    before = len(site.events())
    upload = Upload(site, kind, "/off/small/answered")
    if upload.h2:
        upload.client.wait(upload.stream, lambda response: response.body)
    else:
        assert upload.client.read_head().status == 200
        assert upload.client.read_chunk() == b"first\n"
    upload.send(b"x" * 200)
    if upload.h2:
        assert upload.answer().end == "reset"
    else:
        assert upload.client.read_to_end()[0] == b""
    until(lambda: "raised OSError" in site.events()[before:], what="OSError")


def test_a_malformed_chunk_is_400(site):
    before = len(site.events())
    upload = Upload(site, "chunked", "/off/watched")
    upload.send(b"x" * 20)
    until(lambda: "read 20" in site.events()[before:], what="the application reads")
    upload.client.send(b"zz\r\n" + NEXT)
    assert upload.answer().status == 400
    assert upload.client.read_to_end()[0] == b""
    until(lambda: "raised OSError 71" in site.events()[before:], what="OSError")


def test_an_http_2_body_of_another_length_than_it_says_is_an_error(site):
    for size in (10, 30):
        before = len(site.events())
        upload = Upload(site, "h2 with length", "/off/watched", 20)
        until(lambda: "begun 20" in site.events()[before:], what="the application reads")
        upload.send(b"x" * size)
        upload.end()
        assert upload.answer().status == 400
        until(lambda: "raised OSError 71" in site.events()[before:], what="OSError")


# -- bodies that are not read


@pytest.mark.parametrize("size", [10, 300_000])
def test_what_the_application_does_not_read_is_no_request(site, size):
    """A small body has been read by nginx; a large one costs the connection."""
    evil = http.build("GET", "/off/calls/evil", close=False)
    body = evil * (size // len(evil) + 1)
    for kind in H1:
        before = len(site.events("call "))
        upload = Upload(site, kind, "/off/unread", len(body))
        upload.send(body)
        upload.end()
        with contextlib.suppress(OSError):
            upload.client.send(http.build("GET", "/off/calls/next", close=True))
        assert upload.answer().body == b"unread"
        rest, _ = upload.client.read_to_end()
        calls = site.events("call ")[before:]
        assert "evil" not in "".join(calls)
        # Either in step or closed.
        assert rest == b"" or calls == ["call GET '/off/calls/next' b''"]
        if size == 300_000:
            assert rest == b"" and calls == []


def test_an_answer_before_the_body_ends_the_connection(site):
    """The rest, which comes later, is thrown away."""
    for kind in H1:
        before = len(site.events("call "))
        evil = http.build("GET", "/off/calls/evil", close=False)
        upload = Upload(site, kind, "/off/unread", 10 * len(evil))
        assert upload.answer().body == b"unread"
        with contextlib.suppress(OSError):
            upload.send(evil)
            upload.client.send(evil * 9)
        assert upload.client.at_eof()
        site.barrier()
        assert site.events("call ")[before:] == []


@pytest.mark.parametrize("kind", ["h2", "h2 with length"])
def test_an_answer_before_the_body_ends_the_stream_and_not_the_connection(site, kind):
    upload = Upload(site, kind, "/off/unread", 1000)
    assert upload.answer().body == b"unread"
    upload.stream = upload.client.send("POST", "/off/whole", body=BODY)
    assert upload.answer().text == told(BODY)


def test_an_application_that_fails_before_the_body_is_500(site, kind):
    upload = Upload(site, kind, "/off/failing", 1000)
    assert upload.answer().status == 500


# -- together with the rest of nginx


def test_a_body_that_a_mirror_has_read_is_complete(site, kind):
    before = len(site.events("begun"))
    body = os.urandom(100_000)
    upload = Upload(site, kind, "/off/mirrored/whole", len(body))
    upload.send(body[:50_000])
    site.barrier()
    assert len(site.events("begun")) == before
    upload.send(body[50_000:])
    upload.end()
    assert upload.answer().text == told(body)


@pytest.mark.parametrize("seconds", [0, 1.2])
def test_what_comes_while_a_subrequest_has_the_connection_is_read_after_it(
    site, hold, kind, seconds
):
    gate = hold("part")
    before = len(site.events("waiting part"))
    upload = Upload(site, kind, "/off/including/", 8)
    upload.send(BODY[:3])
    site.wait_event("waiting part", before + 1)
    upload.send(BODY[3:8])
    upload.end()
    site.barrier()
    # The client has been in time, also if client_body_timeout is over now.
    elapse(seconds)
    gate.open()
    assert upload.answer().body == BODY[:3] + b"part" + BODY[3:8]


def test_auth_request_leaves_the_body_to_the_application(site, kind):
    before = len(site.events("begun"))
    upload = Upload(site, kind, "/off/asked/whole", 8)
    # The subrequest has none, and does not wait for one.
    site.wait_event("begun", before + 2)
    upload.send(BODY)
    upload.end()
    assert upload.answer().text == told(BODY)


@pytest.mark.parametrize("target, expected", [
    ("/page", "page"), ("/off/report", "GET 0 b''"), ("/on/report", "GET 0 b''"),
])
def test_a_redirect_while_the_body_is_on_its_way_leaves_it_behind(site, kind, target, expected):
    upload = Upload(site, kind, f"/off/redirect?{target}", 1000)
    upload.send(b"x" * 10)
    answer = upload.answer()
    assert answer.status == 200
    assert answer.text == expected
    if not upload.h2:
        upload.client.send(NEXT)
        assert upload.client.read_to_end()[0] == b""


def test_a_redirect_of_a_complete_body_keeps_it(site, mode):
    response = site.post(f"/{mode}/redirect?/on/report", body=BODY)
    assert response.text == f"GET 8 {BODY!r}"


def test_error_page_may_be_an_application(site, kind):
    upload = Upload(site, kind, "/off/excused/failing", 50)
    answer = upload.answer()
    assert (answer.status, answer.text) == (500, "GET 0 b''")
    if kind in ("chunked", "h2"):
        upload = Upload(site, kind, "/off/excused/watched")
        upload.send(b"x" * 200)
        answer = upload.answer()
        assert (answer.status, answer.text) == (413, "GET 0 b''")


def test_a_forked_child_does_not_wait_for_the_body(site):
    upload = Upload(site, "length", "/off/forked", 8)
    upload.send(BODY[:4])
    # The child must be done before the rest comes.
    site.barrier()
    upload.send(BODY[4:])
    assert upload.answer().text == "7 8"


@pytest.mark.parametrize("how", ["quit", "reload"])
def test_a_worker_that_leaves_takes_the_rest_of_the_body(nginx, how):
    site = nginx(server=SERVER, main=MAIN, apps=APPS)
    worker = site.worker()
    upload = Upload(site, "length", "/off/whole", 200_000)
    body = os.urandom(200_000)
    upload.send(body[:100_000])
    site.wait_event("begun")
    site.signal("HUP" if how == "reload" else "QUIT")
    until(lambda: "shutting down" in procs.title(worker), what="the worker leaves")
    upload.send(body[100_000:])
    assert upload.answer().text == told(body)
    until(lambda: (site.process.poll(), not procs.alive(worker))[1], what="the worker's end")


@pytest.mark.parametrize("master", [True, False])
def test_a_stop_wakes_a_read_that_waits(nginx, master):
    site = nginx(server=SERVER, main=MAIN, apps=APPS, master=master)
    for kind in KINDS:
        before = len(site.events())
        upload = Upload(site, kind, "/off/watched", 1000)
        upload.send(b"x" * 25)
        until(lambda: "read 20" in site.events()[before:], what="the application waits")
    site.stop(timeout=2)
    assert len(site.events("raised ConnectionResetError")) == 4


def test_worker_shutdown_timeout_ends_a_read_that_waits(nginx):
    site = nginx(server=SERVER, main=MAIN + "worker_shutdown_timeout 300ms;", apps=APPS)
    upload = Upload(site, "length", "/off/watched", 1000)
    site.wait_event("begun")
    site.allow_alert("open socket")
    site.quit(timeout=5)
    assert site.events("raised") == ["raised ConnectionResetError 104"]
    upload.vanish("close")


def test_many_clients_that_go_away_leave_nothing_behind(site):
    descriptors = site.fd_count()
    for round_number in range(20):
        uploads = [Upload(site, kind, "/off/watched", 100_000) for kind in KINDS]
        for upload in uploads:
            upload.send(b"x" * (round_number * 1000))
        for upload in uploads:
            upload.vanish("reset" if round_number % 2 else "close")
    until(lambda: site.fd_count() <= descriptors, what="the connections are closed")
    body = os.urandom(100_000)
    assert whole(site, "length", "/off/whole", body).text == told(body)


# -- the directive


@pytest.mark.parametrize("value, text", [
    ("maybe", 'invalid value "maybe"'), ("", "invalid number of arguments"),
    ("on off", "invalid number of arguments"),
    ("on; wsgi_request_buffering off", "is duplicate"),
])
def test_a_wrong_value_is_refused(make_nginx, value, text):
    site = make_nginx(server=f"wsgi_request_buffering {value};")
    status, said = site.test_config()
    assert status == 1
    assert re.search(rf"\[emerg\].*wsgi_request_buffering.*{text}|{text}.*"
                     r"wsgi_request_buffering", said), said
    assert re.search(rf"{re.escape(site.conf)}:\d+", said)


def test_it_is_inherited(nginx):
    site = nginx(
        http="wsgi_request_buffering off;", apps=["reader"],
        server="""location /here { wsgi_app reader:application; }
                  location /there { wsgi_request_buffering ON; wsgi_app reader:application; }""",
    )
    assert site.post("/here?f.seekable()", body=BODY).text == "False"
    assert site.post("/there?f.seekable()", body=BODY).text == "True"
