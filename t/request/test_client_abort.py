"""Clients that go away: noticed in the queue, while running and streaming, or ignored."""

import pytest
from lib import h2client
from lib.held import ONE, hold
from lib.poll import until

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    wsgi_thread_pool one;
    location /held/ { wsgi_app held:application; }
    location /midway/ { wsgi_app held:midway; }
    location /before/ { wsgi_app held:before_head; }
"""
ON = "wsgi_ignore_client_abort on;"


@pytest.fixture
def start(nginx):
    return lambda **options: nginx(**{"main": ONE, "server": SERVER} | options)


def test_a_thousand_requests_that_leave_behind_a_slow_one_never_reach_the_application(start):
    site = start()
    first, gate = hold(site)
    idle = site.fd_count()
    for _ in range(10):
        clients = [site.ask("/held/a?gone") for _ in range(100)]
        site.barrier()
        for client in clients:
            client.close()
        until(lambda: site.fd_count() <= idle, what="the connections are closed")
    gate.open()
    assert first.read_response().text == "first"
    assert site.get("/held/a?last").text == "last"
    assert site.events("called") == ["called a first", "called a last"]


@pytest.mark.parametrize("path", ["/midway/a", "/before/a"])
def test_a_running_request_stops_at_its_next_chunk(start, path):
    site = start()
    client, gate = hold(site, path)
    # What it has written that it waits to is closed a moment later.
    site.settle()
    descriptors = site.fd_count()
    client.close()
    until(lambda: site.fd_count() < descriptors, what="nginx has noticed")
    site.barrier()
    gate.open()
    (closed,) = site.wait_event("closed a")
    assert int(closed.split()[2]) <= 2


@pytest.mark.parametrize("path", ["/midway/a", "/before/a"])
def test_an_ignored_abort_lets_the_application_run_to_its_end(start, path):
    site = start(http=ON)
    client, gate = hold(site, path)
    client.reset()
    site.barrier()
    gate.open()
    # It asked for all chunks there were.
    assert site.wait_event("closed a") == ["closed a 100001"]
    assert site.get("/held/b?next").text == "next"


def test_an_ignored_abort_of_a_stream_lets_the_application_run_to_its_end(start):
    site = start(http=ON)
    gate = site.gate("a")
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        stream = client.send("GET", "/midway/a")
        site.wait_event("waiting")
        client.reset(stream)
        assert client.wait(client.send("GET", "/static")).body == b"static"
        gate.open()
        assert site.wait_event("closed a") == ["closed a 100001"]
        assert client.wait(client.send("GET", "/held/b?next")).text == "next"


def test_an_ignored_abort_in_the_queue_reaches_the_application(start):
    site = start(http=ON)
    first, gate = hold(site)
    site.ask("/held/b?second").close()
    site.barrier()
    gate.open()
    assert first.read_response().text == "first"
    site.wait_event("called b second")
    assert site.get("/held/b?third").text == "third"


def test_a_client_that_stops_reading_is_ignored_too(start):
    site = start(http=ON + "send_timeout 300ms; wsgi_buffer_size 4k;",
                 server=SERVER + "location /flooding { wsgi_app overdue:flooding; }")
    site.ask("/flooding")
    site.log.wait_for("client timed out")
    assert site.wait_event("closed") == ["closed"]
    assert site.get("/held/b?next").text == "next"


def test_the_worker_waits_for_what_runs_to_its_end(start):
    site = start(http=ON)
    client, gate = hold(site, "/midway/a")
    client.reset()
    site.signal("QUIT")
    site.log.wait_for("gracefully shutting down")
    gate.open()
    assert site.wait_event("closed a") == ["closed a 100001"]
    until(lambda: site.process.poll() is not None, what="nginx's end")


def test_read_timeout_still_ends_it(start):
    site = start(http=ON + "wsgi_read_timeout 300ms;").ready("/held/open?ready")
    gate = site.gate("a")
    site.settle()
    idle = site.fd_count()
    site.ask("/midway/a").reset()
    site.wait_event("waiting")
    until(lambda: site.fd_count() <= idle + 1, what="the request's end")
    site.log.wait_for("application was silent for 300ms")
    gate.open()
    assert site.wait_event("closed a") == ["closed a 2"]
