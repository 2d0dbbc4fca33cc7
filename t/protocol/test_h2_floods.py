"""HTTP/2 used against the server: streams reset at once, endless heads, windows, wrong lengths.

RFC 9113 sections 5.1.2, 6.5.2, 6.10 and 10.5. What nginx does not refuse must stay bounded in
the module: calls, queue, descriptors. TEST_NGINX_SEED: see scripts/test.
"""

import itertools
import json
import string

import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, RstStreamFrame
from lib import h2client, http
from lib.held import hold
from lib.load import Load
from lib.poll import until
from lib.storm import SEED, Baseline, choices, counts

pytestmark = pytest.mark.alone
MAIN = "thread_pool storm threads=2; thread_pool other threads=1; thread_pool one threads=1;"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    keepalive_requests 1000000;
    wsgi_thread_pool storm;
    location /storm/ { wsgi_app storm:application; }
    location = /counts { wsgi_app storm:counts; wsgi_thread_pool other; }
    location /held/ { wsgi_app storm:held; wsgi_thread_pool one; wsgi_queue 5; }
    location = /plain { wsgi_app plain:application; wsgi_thread_pool other; }
    location = /environ { wsgi_app environ:bare; }
"""
RESETS = 2000
LETTERS = string.ascii_lowercase + string.digits
# Names of three characters: with their values empty they are small for every limit of a size.
TINY = ["".join(name) for name in itertools.product(LETTERS, repeat=3)][:10_000]


@pytest.fixture
def site(nginx):
    return nginx(main=MAIN, server=SERVER)


def head(path, fields=()):
    return [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a"),
            *fields]


def resets(client, path, count):
    """So many streams, each reset at once."""
    return b"".join(
        client.headers(path) + RstStreamFrame(client.stream, 8).serialize() for _ in range(count)
    )


class Frames(h2client.H2Connection):
    """Frames as the test makes them; the h2 package only opens the connection."""

    def __init__(self, port):
        super().__init__(port)
        self.encoder = Encoder()
        self.stream = -1

    def headers(self, path, fields=(), flags=("END_STREAM", "END_HEADERS")):
        """A HEADERS frame of a new stream."""
        self.stream += 2
        data = self.encoder.encode(head(path, fields))
        return HeadersFrame(self.stream, data, flags=flags).serialize()

    def read_frames(self):
        """The frames that come until the server closes or another stream has ended."""
        buffer = b""
        while data := self._receive():
            buffer += data
            while len(buffer) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(buffer[:9]))
                if len(buffer) < 9 + length:
                    break
                frame.parse_body(memoryview(buffer[9 : 9 + length]))
                buffer = buffer[9 + length :]
                yield frame

    def _receive(self):
        try:
            return self.raw.sock.recv(65536)
        except ConnectionResetError:
            return b""


def answer_or_end(client):
    """The end of the last stream: its body, or None if nginx refused stream or connection."""
    body, refused = b"", False
    for frame in client.read_frames():
        if frame.type == 7:
            return None
        if frame.stream_id == client.stream:
            if frame.type == 3:
                return None
            if frame.type == 1:
                refused = client.h2.decoder.decode(frame.data)[0][1] != "200"
            if frame.type == 0:
                body += frame.data
            if "END_STREAM" in frame.flags:
                return None if refused else body
    return None


def test_streams_reset_at_once_never_reach_the_application_and_leave_the_queue(site):
    first, gate = hold(site)
    descriptors = site.fd_count()
    with Load(site.port, "/plain", clients=2) as others, Frames(site.ports["PORT2"]) as client:
        for _ in range(RESETS // 100):
            # No more before an answer: nginx ends connections with too many new streams at once.
            client.raw.send(resets(client, "/held/a?reset", 100) + client.headers("/plain"))
            assert answer_or_end(client) == b"plain"
        # All have left the queue of five: five fit again, and no more.
        waiting = [site.connect() for _ in range(5)]
        for number, connection in enumerate(waiting):
            connection.send(http.build("GET", f"/held/a?{number}"))
        site.barrier()
        assert site.get("/held/a?surplus").status == 503
    assert others.failures() == [] and others.answers
    gate.open()
    assert first.read_response().text == "first"
    assert [connection.read_response().text for connection in waiting] == list("01234")
    until(lambda: counts(site) == (6, 6), what="six calls, all closed")
    until(lambda: site.fd_count() <= descriptors, what="descriptors are as before")


def test_streams_reset_as_fast_as_they_can_be_sent_do_no_harm(site):
    baseline = Baseline(site)
    with Load(site.port, "/plain", clients=2) as others:
        for _ in range(5):
            with Frames(site.ports["PORT2"]) as client:
                try:
                    client.raw.send(resets(client, "/storm/100?x", RESETS))
                except OSError:
                    pass  # Refused by nginx.
    assert others.failures() == [] and others.answers
    baseline.assert_restored()
    assert counts(site)[0] <= 5 * RESETS


def test_streams_reset_while_they_run_are_closed_and_the_others_served(site):
    baseline = Baseline(site)
    with Load(site.port, "/storm/3?mine", clients=2) as others:
        with Frames(site.ports["PORT2"]) as client:
            for _ in range(RESETS // 100):
                frames = [client.headers("/storm/100?x") for _ in range(50)]
                streams = range(client.stream - 98, client.stream + 2, 2)
                client.raw.send(b"".join(frames))
                client.raw.send(b"".join(RstStreamFrame(s, 8).serialize() for s in streams))
    assert others.failures() == [] and others.answers
    baseline.assert_restored()
    assert counts(site)[0] <= RESETS // 2 + len(others.answers)


def test_a_flood_of_continuation_frames_is_refused(site):
    with Frames(site.ports["PORT2"]) as client:
        try:
            client.raw.send(client.headers("/environ", flags=["END_STREAM"]))
            for number in range(10_000):
                field = Encoder().encode([(f"x-{number}", "v" * 100)])
                client.raw.send(ContinuationFrame(client.stream, field).serialize())
        except OSError:
            pass  # nginx has closed before the end.
        assert answer_or_end(client) is None
    site.barrier()
    assert site.events("called") == []


def test_a_head_in_many_frames_arrives(site):
    with Frames(site.ports["PORT2"]) as client:
        client.raw.send(client.headers("/environ", flags=["END_STREAM"]))
        for number in range(100):
            field = Encoder().encode([(f"x-{number}", f"v{number}")])
            frame = ContinuationFrame(client.stream, field)
            if number == 99:
                frame.flags.add("END_HEADERS")
            client.raw.send(frame.serialize())
        values = json.loads(answer_or_end(client))["values"]
    assert all(values[f"HTTP_X_{number}"] == f"v{number}" for number in range(100))


def assert_refused_or_whole(site, fields, wanted):
    """Over HTTP/1.1 and HTTP/2: never seen by the application, or seen whole."""
    over_h1 = site.get("/environ", headers=fields)
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        over_h2 = client.wait(client.send("GET", "/environ", fields))
    for response in (over_h1, over_h2):
        if response.status == 200:
            values = json.loads(response.body)["values"]
            assert {name: values.get(name) for name in wanted} == wanted
        else:
            assert response.status in (0, 400, 431, 494), response
    seen = [over_h1.status, over_h2.status].count(200)
    assert len(site.events("called")) == seen
    return seen


def test_ten_thousand_tiny_headers_are_refused_or_all_arrive(site):
    wanted = {f"HTTP_{name.upper()}": "" for name in TINY}
    assert_refused_or_whole(site, [(name, "") for name in TINY], wanted)
    assert site.get("/plain").body == b"plain"


def test_ten_thousand_headers_of_one_name_are_refused_or_joined(site):
    assert_refused_or_whole(site, [("x", "")] * 10_000, {"HTTP_X": ", " * 9999})
    assert site.get("/plain").body == b"plain"


def test_as_many_tiny_headers_as_nginx_takes_arrive(site):
    fields = [(name, "v") for name in TINY[:900]]
    wanted = {f"HTTP_{name.upper()}": "v" for name in TINY[:900]}
    assert assert_refused_or_whole(site, fields, wanted) == 2


def test_a_head_over_the_limits_of_nginx_never_reaches_the_application(site):
    for fields in ([("x", "v" * 40_000)], [(f"x-{n}", "v" * 4000) for n in range(10)]):
        assert assert_refused_or_whole(site, fields, {}) == 0


def test_streams_without_a_window_do_not_hold_the_threads(site):
    """Their answers fit into the buffer: the threads go on to serve others."""
    descriptors = site.fd_count()
    stalled = [h2client.H2Connection(site.ports["PORT2"], window=0) for _ in range(3)]
    for client in stalled:
        for number in range(40):
            client.send("GET", f"/storm/10?{number:099}")
    until(lambda: counts(site) == (120, 120), what="every stalled stream has been called")
    for number in range(20):
        assert site.get(f"/storm/1?{number}").text == str(number)
    # Two of them get a window after all, the third one goes.
    for client in stalled[:2]:
        client.h2.update_settings({4: 1 << 20})
        client.acknowledge = True
        client.flush()
        for stream, number in zip(client.responses, range(40), strict=True):
            assert client.wait(stream).text == f"{number:099}" * 10
    for client in stalled:
        client.close()
    until(lambda: site.fd_count() <= descriptors, what="descriptors are as before")


def test_a_thread_held_by_a_closed_window_is_free_when_the_stream_is_reset(site):
    with h2client.H2Connection(site.ports["PORT2"], window=0) as client:
        # Both threads of the pool, with more than the buffer holds.
        streams = [client.send("GET", f"/storm/5000?{'x' * 400}") for _ in range(2)]
        until(lambda: counts(site)[0] == 2, what="both threads are at work")
        for stream in streams:
            client.reset(stream)
        assert site.get("/storm/1?free").text == "free"
        until(lambda: counts(site) == (3, 3), what="the two are closed")


def test_a_thousand_streams_one_after_another_and_a_hundred_at_once(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        for number in range(1000):
            assert client.wait(client.send("GET", f"/storm/1?{number}")).text == str(number)
        for _ in range(3):
            streams = {n: client.send("GET", f"/storm/2?{n:05}") for n in range(100)}
            for number, stream in reversed(streams.items()):
                assert client.wait(stream).text == f"{number:05}" * 2
    until(lambda: counts(site) == (1300, 1300), what="1300 calls, all closed")


def test_a_length_that_the_frames_do_not_keep_never_reaches_the_application(site):
    for length in ["0", "1", "4", "6", "50", "4294967301", "-5", "5x", "", "5, 5", "5"]:
        with Frames(site.ports["PORT2"]) as client:
            fields = [("content-length", length)]
            client.raw.send(
                client.headers("/storm/1?called", fields, flags=["END_HEADERS"])
                + DataFrame(client.stream, b"abc").serialize()
                + DataFrame(client.stream, b"de", flags=["END_STREAM"]).serialize()
            )
            assert answer_or_end(client) == (b"called" if length == "5" else None), length
    assert counts(site)[0] == 1


def test_damaged_frames_do_no_harm(site):
    print(f"TEST_NGINX_SEED={SEED}")
    baseline = Baseline(site)
    for number in range(300):
        choice = choices(number)
        with Frames(site.ports["PORT2"]) as client:
            data = b""
            for _ in range(3):
                data += client.headers("/storm/20?xyz", flags=["END_HEADERS"])
                data += DataFrame(client.stream, b"b" * choice.randrange(300)).serialize()
                data += DataFrame(client.stream, b"", flags=["END_STREAM"]).serialize()
            data = bytearray(data)
            for _ in range(choice.randrange(1, 5)):
                data[choice.randrange(len(data))] = choice.randrange(256)
            client.raw.send(bytes(data[: choice.randrange(1, len(data) + 1)]))
            if choice.random() < 0.5:
                client.raw.sock.settimeout(0.01)
                try:
                    client.raw.sock.recv(65536)
                except OSError:
                    pass
    baseline.assert_restored()
