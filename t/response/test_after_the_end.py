"""Nothing that an application does after the end of its response changes that response."""

import pytest
from lib import http

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /never { wsgi_app late:never; }
    location = /failed { wsgi_app late:failed; }
    location = /good { wsgi_app late:good; }
    location = /whole { wsgi_app late:whole; }
    location = /patient { wsgi_app late:whole; wsgi_ignore_client_abort on; }
    location = /overdue { wsgi_app late:whole; wsgi_request_timeout 1s; }
    location = /silent { wsgi_app late:whole; wsgi_read_timeout 500ms; }
    location = /thread { wsgi_app late:thread; wsgi_read_timeout 50s; }
"""


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER)


@pytest.mark.parametrize("path", ["/never", "/failed"])
def test_close_cannot_start_a_response(site, path):
    for count in range(1, 6):
        assert site.get(path).status == 500
        site.wait_event("closed", count=count)
    assert site.events("start") == ["start ValueError"] * 5


def test_close_cannot_add_to_a_response(site):
    for count in range(1, 6):
        response = site.get("/good")
        assert (response.body, response.complete) == (b"body", True)
        site.wait_event("closed", count=count)
    assert site.events("write") == ["write ValueError"] * 5


@pytest.mark.parametrize("path", ["/whole", "/patient"])
@pytest.mark.parametrize("how", ["returns", "raises", "more"])
def test_a_client_that_has_the_whole_length_does_not_wait(site, proto, path, how):
    gate = site.gate("return")
    response = proto(site, "GET", f"{path}?{how}")
    assert (response.status, response.body, response.complete) == (200, b"body", True)
    assert site.events("goes on") + site.events("closed") == []
    gate.open()
    assert site.wait_event("closed") == ["closed"]
    assert site.events("goes on") == ["goes on"]
    if how == "raises":
        site.log.wait_for(rf'after the end of its response for "GET {path}\?raises":')
        site.log.wait_for("ValueError: after the end")
    elif how == "more":
        site.log.wait_for(rf'more than Content-Length: "GET {path}\?more"')
    else:
        assert site.log.matching(r"\[error\]|response is cut") == []


def test_the_connection_goes_on_while_the_application_does(site):
    gate = site.gate("return")
    with site.connect() as client:
        for count in range(1, 4):
            client.send(http.build("GET", "/whole", close=False))
            assert client.read_response().body == b"body"
            site.wait_event("waiting return", count=count)
        client.send(http.build("GET", "/never", close=False))
        assert client.read_response().status == 500
        assert site.events("goes on") == []
        gate.open()
    assert len(site.wait_event("goes on", count=3)) == 3


def test_a_client_that_leaves_with_the_whole_length_stops_nothing(site):
    gate = site.gate("return")
    client = site.ask("/whole")
    assert client.read_response().body == b"body"
    client.reset()
    gate.open()
    site.wait_event("closed")
    assert site.events("goes on") == ["goes on"]
    assert site.log.matching("client is gone") == []


def test_an_application_that_goes_on_for_too_long_is_interrupted(site):
    response = site.get("/overdue?spins")
    assert (response.body, response.complete) == (b"body", True)
    assert site.wait_event("closed") == ["closed"]
    site.log.wait_for(r'stack of the thread.*client: 127\.0\.0\.1, request: "GET /overdue\?spins')
    site.log.wait_for(
        r'\[info\].*interrupted by wsgi_request_timeout: "GET /overdue\?spins"'
    )
    assert site.log.matching("took longer|response is cut|stuck") == []
    assert site.get("/good").body == b"body"


def test_a_silence_after_the_whole_length_is_none(site):
    site.ready("/silent?returns")
    gate = site.gate("return")
    with site.ask("/silent", close=False) as client:
        assert client.read_response().body == b"body"
        assert client.silent(1)
        client.send(http.build("GET", "/good"))
        assert client.read_response().body == b"body"
    gate.open()
    site.wait_event("goes on", 2)
    assert site.log.matching("was silent") == []


@pytest.mark.parametrize("end", ["quit", "reload"])
def test_a_worker_that_leaves_waits_for_an_application_that_goes_on(site, end):
    gate = site.gate("return")
    assert site.get("/whole").body == b"body"
    worker = site.worker()
    if end == "quit":
        site.signal("QUIT")
    else:
        site.reload()
    site.log.wait_for("gracefully shutting down")
    gate.open()
    assert site.wait_event("closed") == ["closed"]
    site.log.wait_for(rf"worker process {worker} exited with code 0$")


def test_a_thread_that_still_writes_is_stopped_by_the_end(site):
    gate = site.gate("return")
    with site.ask("/thread", rcvbuf=4096) as client:
        assert client.read_head().status == 200
        site.wait_event("writing")
        gate.open()
        site.wait_event("write BrokenPipeError")
        site.wait_event("again")
        assert len(client.read_to_end()[0]) < 40_000_000
    site.log.wait_for("write\\(\\) still runs in another thread")
    # Which of the two depends on whether the request's objects are gone already.
    assert site.events("again")[0] in ("again BrokenPipeError", "again ValueError")


def test_interrupt_main_does_not_end_the_worker(nginx):
    site = nginx(apps=["interrupt"])
    assert site.get("/interrupt").body == b"no exception"
    assert site.get("/interrupt").body == b"no exception"


def test_stdout_can_be_wrapped_anew(nginx):
    site = nginx(apps=["rewrapped"])
    assert site.get("/rewrapped").body == b"rewrapped"
    site.log.wait_for("rewrapped \u20ac".encode().decode("latin-1"))
    site.log.wait_for("still open")
