"""Each chunk goes out as it comes, and, without a file, no further than the client follows."""

import zlib

import pytest
from lib import h2client, http, procs
from lib.poll import elapse, takes, until_stable

CHUNK = 65536
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    wsgi_max_temp_file_size 0;
    location = /parts { wsgi_app stream:parts; }
    location = /head_later { wsgi_app stream:head_later; }
    location = /writes { wsgi_app stream:writes; }
    location = /ticks { wsgi_app stream:ticks; }
    location = /fast { wsgi_app stream:fast; }
    location = /small { wsgi_app stream:fast; wsgi_buffer_size 4k; }
    location = /fast_writes { wsgi_app stream:fast_writes; }
    location = /zipped { gzip on; gzip_types *; wsgi_app stream:parts; }
    location = /limited { limit_rate 80k; wsgi_app stream:fast; }
    location = /burst { wsgi_app stream:burst; wsgi_buffer_size 16m; }
    location = /send_timeout { wsgi_app stream:burst; wsgi_buffer_size 16m; send_timeout 1500ms; }
    location = /impatient { wsgi_app stream:fast; wsgi_read_timeout 1500ms; }
"""


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER, apps=["plain"], main="thread_pool few threads=2;")


@pytest.mark.parametrize("path", ["/parts", "/writes"])
def test_each_chunk_is_on_the_wire_before_the_next_is_made(site, path):
    two, three = site.gate("two"), site.gate("three")
    with site.ask(path, close=False) as client:
        assert client.read_head().status == 200
        assert client.read_chunk() == b"one"
        two.open()
        assert client.read_chunk() == b"two"
        three.open()
        assert client.read_chunk() == b"three"
        assert client.read_chunk() == b""


def test_each_chunk_is_on_the_wire_over_http_1_0(site):
    two, three = site.gate("two"), site.gate("three")
    with site.ask("/parts", version="1.0") as client:
        client.read_head()
        for gate, part in ((two, b"one"), (three, b"two"), (three, b"three")):
            assert client.read_exactly(len(part)) == part
            gate.open()
        assert client.read_to_end() == (b"", "closed")


def test_each_chunk_is_on_the_wire_over_http_2(site):
    two, three = site.gate("two"), site.gate("three")
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        stream = client.send("GET", "/parts")
        assert client.wait(stream, lambda r: r.body == b"one").body == b"one"
        two.open()
        assert client.wait(stream, lambda r: r.body == b"onetwo").body == b"onetwo"
        three.open()
        assert client.wait(stream).body == b"onetwothree"


def test_the_head_waits_for_the_first_chunk_that_is_not_empty(site):
    two = site.gate("two")
    with site.ask("/head_later", close=False) as client:
        site.wait_event("waiting two")
        assert client.silent(0.2)
        two.open()
        assert client.read_response().body == b"two"


def test_gzip_does_not_hold_a_chunk_back(site):
    two, three = site.gate("two"), site.gate("three")
    unzip = zlib.decompressobj(wbits=31)
    with site.ask("/zipped", headers={"Accept-Encoding": "gzip"}, close=False) as client:
        assert client.read_head().header("Content-Encoding") == "gzip"
        for gate, part in ((two, b"one"), (three, b"two"), (three, b"three")):
            found = b""
            while len(found) < len(part):
                found += unzip.decompress(client.read_chunk())
            assert found == part
            gate.open()


def test_twenty_ticks_come_one_by_one(site):
    gates = [site.gate(f"tick{number}") for number in range(20)]
    with site.ask("/ticks", close=False) as client:
        for number, gate in enumerate(gates):
            site.wait_event(f"waiting tick{number}")
            gate.open()
            if number == 0:
                client.read_head()
            assert client.read_chunk() == b"tick %d\n" % number
        assert client.read_chunk() == b""


def produced(site):
    return len(site.events("produced")) * CHUNK


def test_a_fast_application_waits_for_a_slow_client(site):
    total = 1000
    # What the imports take is none of it.
    assert site.get("/plain").body == b"plain"
    before = procs.rss(site.worker())
    with site.ask(f"/fast?{total}", version="1.0", rcvbuf=16_384) as client:
        client.read_head()
        ahead = until_stable(lambda: produced(site), what="the application has stopped")
        # The socket buffers of the system hold some megabytes, the module's window 64 KiB.
        assert ahead < 16 << 20
        assert procs.rss(site.worker()) - before < 16 << 20
        body, how = client.read_to_end()
    assert how == "closed"
    assert len(body) == total * CHUNK
    assert body[::8 * 8192] == b"0" * total
    assert produced(site) == total * CHUNK


def test_a_fast_application_waits_for_an_http_2_window(site):
    with h2client.H2Connection(site.ports["PORT2"], window=1000) as client:
        stream = client.send("GET", "/fast?400")
        response = client.wait(stream, lambda response: len(response.body) >= 1000)
        ahead = until_stable(lambda: produced(site), what="the application has stopped")
        assert ahead <= 8 * CHUNK
        assert len(response.body) <= 1000


def test_a_smaller_buffer_lets_the_application_run_less_far_ahead(site):
    with h2client.H2Connection(site.ports["PORT2"], window=1000) as client:
        stream = client.send("GET", "/small?100")
        client.wait(stream, lambda response: len(response.body) >= 1000)
        # One chunk under way, one in the window of 4 KiB, one at the door.
        assert until_stable(lambda: produced(site)) <= 3 * CHUNK


def test_a_limited_rate_delays_and_loses_nothing(site):
    with takes(0.3):
        response = site.get("/limited?2")
    assert response.end == "chunked"
    assert len(response.body) == 2 * CHUNK


def test_a_write_waits_for_a_slow_client_too(site):
    with site.ask("/fast_writes?600", version="1.0", rcvbuf=16_384) as client:
        client.read_head()
        assert until_stable(lambda: produced(site)) < 16 << 20
        body, _ = client.read_to_end()
    assert len(body) == 600 * CHUNK


def test_slow_clients_leave_the_others_served(site):
    clients = [site.connect(rcvbuf=16_384) for _ in range(8)]
    for client in clients:
        client.send(http.build("GET", "/fast?300", version="1.0"))
        client.read_head()
    until_stable(lambda: produced(site))
    assert site.get("/plain").body == b"plain"
    assert site.get("/static").body == b"static"
    for client in clients:
        body, how = client.read_to_end()
        assert (len(body), how) == (300 * CHUNK, "closed")


def test_waiting_for_the_client_is_not_silence_of_the_application(site):
    site.ready("/impatient?1")
    with site.ask("/impatient?400", version="1.0", rcvbuf=16_384) as client:
        client.read_head()
        elapse(2.5)
        body, how = client.read_to_end()
    assert (len(body), how) == (400 * CHUNK, "closed")


def test_what_was_sent_before_an_exception_arrives(site):
    with site.ask("/burst?raise", rcvbuf=16_384) as client:
        site.log.wait_for("ValueError: after the burst")
        site.barrier()
        response = client.read_response()
    assert len(response.body) == 8_000_000
    assert not response.complete


def test_a_client_that_takes_nothing_is_cut_after_send_timeout(site):
    site.gate("two")
    with site.ask("/send_timeout", rcvbuf=16_384) as client:
        site.log.wait_for(r"\[info\].*client timed out")
        response = client.read_response()
    assert len(response.body) < 8_000_000
    assert not response.complete


def test_a_client_that_has_taken_all_is_not_cut_after_send_timeout(site):
    gate = site.gate("two")
    with site.ask("/send_timeout", rcvbuf=16_384) as client:
        client.read_head()
        site.wait_event("waiting two")
        assert len(client.read_chunks(8_000_000)) == 8_000_000
        elapse(2)
        gate.open()
        assert client.read_chunk() == b"end"
        assert client.read_chunk() == b""


def test_a_write_to_a_client_that_left_raises_an_os_error(site):
    client = site.ask("/fast_writes?100000")
    client.read_exactly(100_000)
    client.close()
    assert site.wait_event("raised") == ["raised BrokenPipeError True"]


def test_a_client_that_leaves_a_blocked_application_frees_its_thread(nginx):
    site = nginx(server=SERVER, apps=["plain"], main="thread_pool few threads=2;",
                 http="wsgi_thread_pool few;")
    for _ in range(3):
        clients = [site.connect(rcvbuf=16_384) for _ in range(2)]
        for client in clients:
            client.send(http.build("GET", "/fast?100000", version="1.0"))
            client.read_head()
        until_stable(lambda: produced(site), quiet=0.2)
        for client in clients:
            client.reset()
        assert site.get("/plain").body == b"plain"
    site.wait_event("closed", count=6)


def test_many_streams_at_once_arrive_whole(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        streams = [client.send("GET", "/fast?10") for _ in range(20)]
        for stream in streams:
            response = client.wait(stream)
            assert response.end == "stream"
            assert len(response.body) == 10 * CHUNK
