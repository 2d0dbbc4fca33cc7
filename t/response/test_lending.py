"""Large chunks go out as they lie in memory; Python gets them back on one of its own threads."""

import os

import pytest
from lib import http
from lib.poll import until

MIB = 1 << 20
HTTP = "charset_map one two { 61 7A; }"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location / { wsgi_app lending:application; }
    location = /waited { wsgi_app lending:application; wsgi_max_temp_file_size 0; }
    location = /shared { wsgi_app lending:shared; }
    location = /recoded { charset two; override_charset on; wsgi_app lending:shared; }
"""


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER, http=HTTP, main="thread_pool default threads=2;")


def path(how, size, **more):
    return f"/?how={how}&size={size}" + "".join(f"&{name}={value}" for name, value in more.items())


def body(how, size):
    first = b"abcd" * (size // 4)
    return first + b"efgh" * (size // 4) if how == "generator" else first


def is_off_the_event_loop(site, freed):
    """The event loop is the thread whose number is that of the process."""
    return str(site.worker()) not in {line.split()[2] for line in freed}


@pytest.mark.parametrize("how", ["list", "write", "generator"])
@pytest.mark.parametrize("size", [32764, 32768, 65536, MIB, 5 * MIB])
def test_the_content_is_right(site, proto, how, size):
    response = proto(site, "GET", path(how, size))
    assert (response.body, response.complete) == (body(how, size), True)


@pytest.mark.parametrize("how", ["list", "write", "generator"])
def test_what_was_lent_comes_back_though_no_other_request_comes(site, how):
    assert site.get(path(how, 2 * MIB)).body == body(how, 2 * MIB)
    freed = site.wait_event("freed ", 2 if how == "generator" else 1)
    assert is_off_the_event_loop(site, freed)


def test_a_little_comes_back_with_the_next_request(site):
    assert site.get(path("list", 65536)).status == 200
    until(lambda: site.get(path("list", 4)).status == 200 and site.events("freed 65536"))


def test_what_a_client_does_not_wait_for_comes_back(site):
    for _ in range(5):
        with site.ask(path("generator", 4 * MIB), rcvbuf=4096) as client:
            client.read_head()
            client.reset()
    freed = site.wait_event("freed 4194304", 5)
    assert is_off_the_event_loop(site, freed)


def test_a_slow_client_holds_no_thread_for_the_last_chunk(site):
    slow = [site.connect(rcvbuf=4096) for _ in range(4)]
    for client in slow:
        client.send(http.build("GET", path("list", 8 * MIB)))
        client.read_head()
    # Both threads are free though four clients have not read.
    assert site.get(path("list", 65536)).body == body("list", 65536)
    for client in slow:
        assert client.read_to_end()[0] == body("list", 8 * MIB)


def test_no_chunk_is_asked_for_before_the_client_has_taken_the_last(site):
    with site.ask("/waited" + path("generator", 16 * MIB)[1:], close=False, rcvbuf=4096) as client:
        client.read_head()
        first = client.read_chunks(16 * MIB)
        # What was handed over is copied on the way: the second chunk may begin in the same piece.
        assert len(first) == 16 * MIB or "WSGI_BALANCE" in os.environ
        both = first + client.read_chunks(32 * MIB - len(first))
        assert both == body("generator", 16 * MIB)
        assert client.read_chunk() == b""


def test_a_large_chunk_is_cut_at_content_length(site, proto):
    response = proto(site, "GET", path("list", MIB, length=500_001))
    assert (response.body, response.complete) == ((b"abcd" * 125_001)[:500_001], True)


def test_filters_leave_the_object_as_it_was(site):
    """The charset filter writes into buffers that are its own to change."""
    plain = b"abcd" * 262_144
    assert site.get("/shared").body == plain
    assert site.get("/recoded").body == plain.replace(b"a", b"z")
    assert site.get("/shared").body == plain


def test_what_is_lent_when_the_worker_leaves_is_no_trouble(site):
    with site.ask(path("list", 8 * MIB), rcvbuf=4096) as client:
        client.read_head()
        assert site.stop() == 0
