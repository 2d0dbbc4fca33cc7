"""After a 504 the late answer goes to nobody: each later request gets its own.

One connection, the same threads, the same queue: the places where an old answer could be left.
"""

import pytest
from lib import h2client, http

MAIN = "thread_pool one threads=1; thread_pool two threads=2;"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location /one/ { wsgi_app late_answers:application; wsgi_thread_pool one; }
    location /two/ { wsgi_app late_answers:application; wsgi_thread_pool two; }
    # In the same pools; the others' answers may take their time.
    location /late/ {
        wsgi_read_timeout 400ms;
        location /late/one/ { wsgi_app late_answers:application; wsgi_thread_pool one; }
        location /late/two/ { wsgi_app late_answers:application; wsgi_thread_pool two; }
    }
"""
KINDS = ["list", "generator", "write", "length", "error"]


@pytest.fixture
def site(nginx):
    return nginx(main=MAIN, server=SERVER).ready("/two/list/open?ready")


def is_own(response, tag):
    own = (200, tag, tag, tag)
    return (response.status, response.header("X-Tag"), response.header("Content-Type"),
            response.text) == own


def ask(client, path):
    client.send(http.build("GET", path, close=False))


def test_the_next_requests_on_the_connection_get_their_own_answers(site):
    """The other thread answers them while the late one is still at work, and afterwards both."""
    with site.connect() as client:
        for number, kind in enumerate(KINDS):
            gate = site.gate(f"g{number}")
            ask(client, f"/late/two/{kind}/g{number}?late{number}")
            assert client.read_response().status == 504
            ask(client, f"/two/list/open?meanwhile{number}")
            assert is_own(client.read_response(), f"meanwhile{number}")
            gate.open()
            for again in range(4):
                ask(client, f"/two/list/open?after{number}.{again}")
                assert is_own(client.read_response(), f"after{number}.{again}")
    site.wait_event("returned", count=1 + 6 * len(KINDS))


def test_the_next_request_of_the_thread_gets_its_own_answer(site):
    with site.connect() as client:
        for number, kind in enumerate(KINDS):
            gate = site.gate(f"g{number}")
            # Both in one packet: the second waits for the connection, then for the thread.
            ask(client, f"/late/one/{kind}/g{number}?late{number}")
            site.wait_event(f"waiting g{number}")
            ask(client, f"/one/list/open?next{number}")
            assert client.read_response().status == 504
            site.barrier()
            gate.open()
            assert is_own(client.read_response(), f"next{number}")


def test_the_next_streams_of_the_connection_get_their_own_answers(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        for number, kind in enumerate(KINDS):
            gate = site.gate(f"g{number}")
            late = client.send("GET", f"/late/two/{kind}/g{number}?late{number}")
            site.wait_event(f"waiting g{number}")
            meanwhile = client.send("GET", f"/two/list/open?meanwhile{number}")
            assert is_own(client.wait(meanwhile), f"meanwhile{number}")
            assert client.wait(late).status == 504
            gate.open()
            streams = [client.send("GET", f"/two/list/open?{number}.{n}") for n in range(4)]
            for again, stream in enumerate(streams):
                assert is_own(client.wait(stream), f"{number}.{again}")
            assert client.responses[late].header("X-Tag") is None


def test_a_late_answer_does_not_go_to_another_connection(site):
    for number, kind in enumerate(KINDS):
        gate = site.gate(f"g{number}")
        assert site.get(f"/late/one/{kind}/g{number}?late{number}").status == 504
        others = [site.connect() for _ in range(5)]
        for place, client in enumerate(others):
            ask(client, f"/one/list/open?{number}.{place}")
        site.barrier()
        gate.open()
        for place, client in enumerate(others):
            assert is_own(client.read_response(), f"{number}.{place}")
