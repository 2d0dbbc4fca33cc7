"""close() of what the application returned: exactly once, on the same thread, always."""

import pytest
from lib import h2client, http
from lib.poll import until

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /raises { wsgi_app closing:raises; }
    location = /no_iter { wsgi_app closing:no_iter; }
"""


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER, apps=["closing", "plain", "tidy"])


def steps(site):
    return [line.split() for line in site.events() if not line.startswith(("plain", "waiting"))]


def assert_closed_once(site):
    """Whole: call, iteration, one close at the end, all on one thread; and no more later."""
    site.wait_event("close")
    assert site.get("/plain").body == b"plain"
    found = steps(site)
    assert [name for name, _ in found].count("close") == 1
    assert found[-1][0] == "close"
    assert len({thread for _, thread in found}) == 1


CASES = {
    "normal": b"partpartpart", "204": b"", "304": b"", "long": b"pa",
    "close raises": b"partpartpart", "close exits": b"partpartpart",
}


@pytest.mark.parametrize("case", CASES)
def test_close_runs_once_after_a_whole_answer(site, proto, case):
    response = proto(site, "GET", f"/closing?{case.replace(' ', '%20')}")
    assert response.complete
    assert response.body == CASES[case]
    assert_closed_once(site)


@pytest.mark.parametrize(
    "case", ["raises at once", "raises later", "exits", "bad item", "short", "no start"]
)
def test_close_runs_once_after_a_failure(site, proto, case):
    response = proto(site, "GET", f"/closing?{case.replace(' ', '%20')}")
    assert response.status == 500 or not response.complete
    assert_closed_once(site)


@pytest.mark.parametrize("case", ["normal", "endless", "204", "close raises"])
def test_close_runs_once_after_head(site, proto, case):
    response = proto(site, "HEAD", f"/closing?{case.replace(' ', '%20')}")
    assert response.status in (200, 204)
    assert_closed_once(site)


@pytest.mark.parametrize("case", ["close raises", "close exits"])
def test_an_exception_in_close_is_logged_and_nothing_else(site, case):
    worker = site.worker()
    with site.ask(f"/closing?{case.replace(' ', '%20')}", close=False) as client:
        assert client.read_response().end == "chunked"
        client.send(http.build("GET", "/plain", close=False))
        assert client.read_response().body == b"plain"
    site.log.wait_for(r"\[error\].*(ValueError: in close|SystemExit)")
    assert site.worker() == worker


def test_close_runs_though_there_was_nothing_to_iterate(site):
    assert site.get("/no_iter").status == 500
    assert_closed_once(site)


def test_an_application_that_raises_returned_nothing_to_close(site):
    assert site.get("/raises").status == 500
    assert site.get("/plain").body == b"plain"
    assert site.events("close") == []


def test_close_runs_after_the_last_chunk_was_taken(site):
    assert site.get("/closing?normal").body == b"partpartpart"
    site.wait_event("close")
    names = [name for name, _ in steps(site)]
    assert names == ["call", "iter", "next", "next", "next", "next", "close"]


def test_close_runs_when_the_client_disconnects(site):
    client = site.ask("/closing?endless")
    client.read_exactly(50_000)
    client.close()
    assert_closed_once(site)
    produced = len(site.events("next"))
    site.barrier()
    assert len(site.events("next")) == produced


def test_close_runs_when_the_client_resets_the_connection(site):
    client = site.ask("/closing?endless")
    client.read_exactly(50_000)
    client.reset()
    assert_closed_once(site)


def test_close_runs_when_a_client_resets_its_http_2_stream(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        stream = client.send("GET", "/closing?endless")
        client.wait(stream, lambda response: len(response.body) > 20_000)
        client.reset(stream)
        assert_closed_once(site)
        # The connection itself goes on.
        assert client.wait(client.send("GET", "/plain")).body == b"plain"


def test_close_runs_when_the_client_leaves_a_silent_application(site):
    gate = site.gate("close")
    client = site.ask("/closing?waits")
    client.read_head()
    site.wait_event("waiting close")
    # What it has written that to is closed a moment later.
    site.settle()
    descriptors = site.fd_count()
    client.close()
    until(lambda: site.fd_count() < descriptors, what="nginx has closed the connection")
    # Nor is another worker's message on its way.
    site.barrier()
    gate.open()
    assert_closed_once(site)
    # call, iter, next, next; the second chunk found nobody, so there was no third.
    assert [name for name, _ in steps(site)].count("next") == 2


@pytest.mark.parametrize("end", ["quit", "stop"])
def test_close_runs_when_nginx_ends_amid_a_response(site, end):
    client = site.ask("/closing?endless")
    client.read_exactly(50_000)
    if end == "quit":
        site.signal("QUIT")
        client.close()
        until(lambda: site.process.poll() is not None, 15, "nginx's end")
    else:
        site.stop()
    assert len(site.events("close")) == 1


def test_the_validator_sees_close_called(site, proto):
    for _ in range(5):
        assert proto(site, "GET", "/tidy").body == b"onetwo"
        assert proto(site, "HEAD", "/tidy").status == 200
    assert site.log.matching("without being closed|AssertionError") == []
