"""Nothing that an application does after the end of its response changes that response."""

import pytest

SERVER = """
    location = /never { wsgi_app late:never; }
    location = /failed { wsgi_app late:failed; }
    location = /good { wsgi_app late:good; }
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
