"""wsgi_buffering: a slow client costs disk and no thread; off, and at the limit, it is waited for.

TEST_NGINX_BUFFERED_MB is the size of the large answers; 1024 takes a minute or two.
"""

import contextlib
import hashlib
import os
import socket
import threading
import zlib

import pytest
from lib import h2client, http, procs
from lib.buffered import (
    HTTP,
    MAIN,
    MIB,
    WAYS,
    ask,
    buffered,
    digest,
    drain,
    files,
    path,
    prepared,
    sha,
)
from lib.poll import elapse, takes, until, until_stable

LARGE = int(os.environ.get("TEST_NGINX_BUFFERED_MB", 64))
# More than the buffers of two sockets hold, less than twice that.
BEYOND_SOCKETS = 200_000


@pytest.fixture
def site(make_nginx):
    return prepared(make_nginx).start()


def test_slow_readers_hold_no_thread(site):
    """More readers than threads."""
    clients = [ask(site, path("/", 160, 65536)) for _ in range(3)]
    site.wait_event("done", 3)
    assert site.get("/plain").body == b"plain"
    assert len(files(site)) == 3
    assert os.listdir(f"{site.dir}/wsgi") == []
    for client in clients:
        response = drain(client)
        assert (response.end, sha(response.body)) == ("chunked", digest(160, 65536))
    until(lambda: files(site) == [], what="the files are closed")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("size", [1000, 20_000, 100_000, 3_000_000])
def test_every_way_and_size_arrives_in_order(site, how, size):
    n = 12_000_000 // size
    site.settle()
    descriptors = site.fd_count()
    client = ask(site, path("/sendfile", n, size, how=how))
    until(lambda: files(site), what="a file is in use")
    if how != "list":
        site.wait_event("done")
    response = drain(client)
    assert (response.complete, sha(response.body)) == (True, digest(n, size, how))
    client.close()
    until(lambda: site.fd_count() <= descriptors, what="no descriptor is left")


@pytest.mark.parametrize("place", ["/", "/sendfile", "/threads", "/read", "/gzip", "/sub"])
@pytest.mark.parametrize("secure", [False, True])
def test_whatever_takes_it_from_the_file(site, place, secure):
    client = site.connect(port=site.ports["PORT3"] if secure else None, rcvbuf=4096, tls=secure)
    headers = {"Accept-Encoding": "gzip"} if place == "/gzip" else {}
    client.send(http.build("GET", path(place, 180, 65536), headers=headers))
    site.wait_event("done")
    response = drain(client)
    body = response.body
    if place == "/gzip":
        assert response.header("Content-Encoding") == "gzip"
        body = zlib.decompress(body, wbits=31)
    assert (response.complete, sha(body)) == (True, digest(180, 65536))
    assert site.get("/plain").body == b"plain"


def test_over_http_1_0(site):
    with site.ask(path("/sendfile", 160, 65536), version="1.0", rcvbuf=4096) as client:
        site.wait_event("done")
        client.read_head()
        body, how = client.read_to_end()
    assert (how, sha(body)) == ("closed", digest(160, 65536))


@pytest.mark.parametrize("secure", [False, True])
def test_slow_streams_of_http_2_hold_no_thread(site, secure):
    port = site.ports["PORT4" if secure else "PORT2"]
    with h2client.H2Connection(port, tls=secure, window=1000) as client:
        streams = [client.send("GET", path("/sendfile", 20, 65536)) for _ in range(5)]
        for stream in streams:
            client.wait(stream, lambda response: len(response.body) >= 1000)
        site.wait_event("done", 5)
        assert len(files(site)) == 5
        client.h2.increment_flow_control_window(8 << 20)
        for stream in streams:
            client.h2.increment_flow_control_window(2 << 20, stream)
        client.flush()
        for stream in streams:
            response = client.wait(stream)
            assert (response.end, sha(response.body)) == ("stream", digest(20, 65536))
    until(lambda: files(site) == [], what="the files are closed")


def test_what_follows_a_file_that_http_2_has_just_sent_is_not_forgotten(make_nginx):
    """The socket can be written to and the application has more, both in one turn of the loop."""
    site = make_nginx(main=MAIN, http=HTTP, server="""
        listen 127.0.0.1:@PORT2@ http2 sndbuf=64k;
        location = /word { wsgi_buffer_size 4k; wsgi_app buffered:word; }
        location = /blocks { access_log @DIR@/fifo; return 200; }
    """)
    # The event loop stands still while it cannot write to its log.
    os.mkfifo(f"{site.dir}/fifo")
    fifo = os.open(f"{site.dir}/fifo", os.O_RDWR | os.O_NONBLOCK)
    site.start()
    word, end = site.gate("word"), site.gate("end")
    with h2client.H2Connection(site.ports["PORT2"], window=1 << 20, timeout=5) as client:
        client.h2.increment_flow_control_window(1 << 20)
        client.flush()
        sock = client.raw.sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream = client.send("GET", f"/word?{BEYOND_SOCKETS}")
        site.wait_event("spooled")
        until_stable(lambda: files(site), what="nginx has the file")
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(fifo, b"x" * 4096)
        blocks = site.ask("/blocks")
        # It is logged next.
        blocks.read_head()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                client.pump()
        body = client.responses[stream].body
        assert len(body) < BEYOND_SOCKETS
        word.open()
        site.wait_event("said")
        os.read(fifo, 1 << 20)
        sock.settimeout(5)
        client.wait(stream, lambda response: response.body.endswith(b"word"))
        end.open()
        assert client.wait(stream).end == "stream"
    os.close(fifo)


@pytest.mark.parametrize("left", [50_000, 70_000, 90_000])
def test_a_file_is_not_used_again_under_filters_that_have_read_it(make_nginx, left):
    """They keep what they have read in memory, and let it be sent from the file all the same."""
    site = make_nginx(main=MAIN, http=HTTP, server="""
        listen 127.0.0.1:@PORT2@ sndbuf=16k;
        location / { sub_filter nowhere x; sendfile on; wsgi_app buffered:bursts; }
    """)
    site.start()
    second = site.gate("second")
    with site.connect(port=site.ports["PORT2"], rcvbuf=4096) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        site.wait_event("first")
        client.read_head()
        sock, body = client.sock, client.buffer
        while len(body) < 16 * 16384 - left:
            body += sock.recv(4096)
        second.open()
        until_stable(lambda: files(site), what="the application has written on")
        while piece := sock.recv(65536):
            body += piece
    want = b"".join(buffered.chunk(number, 16384) for number in range(40))
    assert (len(body), sha(body)) == (len(want), sha(want))


def test_head_has_no_file(site, proto):
    response = proto(site, "HEAD", path("/", 10, 65536))
    assert (response.status, response.body) == (200, b"")
    site.wait_event("stopped")
    assert files(site) == []


def test_a_limited_rate_frees_the_thread_and_loses_nothing(site):
    with takes(1):
        client = site.ask(path("/rate", 96, 65536))
        site.wait_event("done")
        response = drain(client)
    assert sha(response.body) == digest(96, 65536)


def test_a_reader_as_fast_as_the_application_needs_no_file(site):
    """Nor does an answer that fits in memory, though nobody reads it."""
    gate = site.gate("last")
    client = site.ask(path("/", 50, 1000, gate="last"), rcvbuf=4096)
    site.wait_event("waiting last")
    assert files(site) == []
    gate.open()
    assert sha(drain(client).body) == digest(50, 1000)


def test_at_the_limit_the_application_waits_which_is_no_silence(site):
    client = ask(site, path("/counting/1m", 800, 65536))
    ahead = until_stable(lambda: len(site.events("produced"))) * 65536
    sizes = files(site)
    assert len(sizes) == 1 and 0 < sizes[0] <= MIB
    # The sockets' buffers, the file, and memory before and behind it.
    assert ahead < 12 * MIB
    response = drain(client)
    assert (response.complete, sha(response.body)) == (True, digest(800, 65536))
    client = ask(site, path("/limited", 400, 65536))
    elapse(2.5)
    assert sha(drain(client).body) == digest(400, 65536)


def dechunked(text):
    """All chunks of a body that is here as a whole."""
    body, at = [], 0
    while at == 0 or body[-1]:
        begin = text.index(b"\r\n", at) + 2
        end = begin + int(text[at:begin], 16)
        assert text[end:end + 2] == b"\r\n"
        body.append(text[begin:end])
        at = end + 2
    assert at == len(text)
    return b"".join(body)


def test_a_reader_now_slow_now_fast_does_not_let_the_file_grow(site):
    """What the kernel still sends from the file is not overwritten either."""
    n, size, stops = 1500, 30_000, 40
    client = ask(site, path("/tight", n, size))
    assert client.read_head().status == 200
    raw, largest = [], 0
    for _ in range(stops):
        elapse(0.02)
        largest = max([largest, *files(site)])
        raw.append(client.read_exactly(1_000_000))
    rest, _ = client.read_to_end()
    assert 0 < largest <= 256 * 1024
    assert sha(dechunked(b"".join([*raw, rest]))) == digest(n, size)


@pytest.mark.parametrize("how", ["generator", "write"])
def test_a_client_that_goes_closes_the_file_at_once(site, how):
    """While the application is still busy; its next chunk stops it."""
    gate = site.gate("last")
    client = ask(site, path("/", 200, 65536, how=how, gate="last"))
    site.wait_event("waiting last")
    assert len(files(site)) == 1
    client.reset()
    until(lambda: files(site) == [], what="the file is closed")
    gate.open()
    site.wait_event("done")
    assert site.get("/plain").body == b"plain"


def test_a_client_that_goes_stops_an_application_that_writes(site):
    clients = [ask(site, path("/", 100_000, 65536)) for _ in range(2)]
    until(lambda: len(files(site)) == 2)
    for client in clients:
        client.reset()
    site.wait_event("stopped", 2)
    # The event loop stops it first, then closes what may be large.
    until(lambda: files(site) == [], what="the files are closed")
    assert site.get("/plain").body == b"plain"


def test_a_worker_that_quits_sends_what_is_in_the_file(site):
    clients = [ask(site, path("/sendfile", 200, 65536)) for _ in range(3)]
    site.wait_event("done", 3)
    site.signal("QUIT")
    site.log.wait_for("gracefully shutting down")
    for client in clients:
        assert sha(drain(client).body) == digest(200, 65536)
    assert site.quit() == 0


def test_what_is_held_back_behind_a_subrequest_goes_to_the_file_too(site):
    gate = site.gate("two")
    # What the imports take is none of it.
    assert site.get("/plain").body == b"plain"
    before = procs.rss(site.worker())
    client = site.ask(path("/behind", 500, 65536))
    site.wait_event("waiting two")
    site.wait_event("done")
    assert len(files(site)) == 1
    assert procs.rss(site.worker()) - before < 8 * MIB
    gate.open()
    response = drain(client)
    assert response.body.startswith(b"onetwothree")
    assert sha(response.body[11:]) == digest(500, 65536)


def test_many_small_chunks_are_few_buffers(site):
    """A buffer of nginx's for each would take more memory than the bytes."""
    assert site.get(path("/", 1000, 100)).complete
    before = procs.rss(site.worker())
    client = ask(site, path("/", 150_000, 100))
    site.wait_event("done", 2, timeout=60)
    assert procs.rss(site.worker()) - before < 2 * MIB
    assert sha(drain(client).body) == digest(150_000, 100)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", WAYS)
def test_large_answers_take_little_memory(site, how):
    """Four at a time; the threads are two, so that two follow when the first are in the file."""
    assert site.get(path("/", 100, 65536, how=how)).complete
    n, size = LARGE * 16, MIB // 16
    worker = site.worker()
    # The connection of the request before may still be open.
    site.settle()
    before, descriptors = procs.rss(worker), site.fd_count()
    found, largest = [], [before]

    def read():
        with http.Connection(site.port, rcvbuf=65536, timeout=300) as client:
            client.send(http.build("GET", path("/", n, size, how=how)))
            client.read_head()
            hashed = hashlib.sha256()
            if how == "list":
                for _ in range(n):
                    hashed.update(client.read_exactly(size))
            else:
                while piece := client.read_chunk():
                    hashed.update(piece)
            found.append(hashed.hexdigest())

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers):
        readers[0].join(0.01)
        largest.append(procs.rss(worker))
        elapse(0.005)
    assert found == [digest(n, size, how)] * 4
    growth = (max(largest) - before) / 4
    print(f"{how}: 4 x {LARGE} MiB, {growth / 1024:.0f} KiB per stream at most")
    assert growth < 4 * MIB
    until(lambda: site.fd_count() <= descriptors, what="no descriptor is left")
