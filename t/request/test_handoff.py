"""Requests find threads and answers find clients, whatever other requests do meanwhile."""

import threading

import pytest
from lib import http, procs
from lib.load import Load
from lib.poll import until

pytestmark = pytest.mark.alone
SERVER = """
    location /held/ { wsgi_app held:application; }
    location = /slow_close { wsgi_app held:slow_close; }
"""

CROWD = """
    location = /crowd { wsgi_app crowd:application; wsgi_thread_pool crowd; }
    location = /counts { wsgi_app crowd:counts; wsgi_thread_pool crowd; }
    location = /hog { wsgi_app crowd:hog; wsgi_thread_pool crowd; }
"""


def at_once(site, paths):
    """Connections on which these requests were sent one right after the other."""
    clients = [site.connect() for _ in paths]
    for client, path in zip(clients, paths, strict=True):
        client.send(http.build("GET", path, close=False))
    return clients


def test_an_answer_does_not_wait_for_its_close(nginx):
    """Also when others wait for the thread, which will be busy with that close()."""
    site = nginx(server=SERVER, main="thread_pool default threads=4;")
    gate = site.gate("close")
    clients = at_once(site, ["/slow_close"] * 6)
    answers = []

    def read(client):
        response = client.read_response()
        answers.append(response.status)
        if len(answers) == 4:
            gate.open()

    threads = [threading.Thread(target=read, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [302] * 6
    assert len(site.wait_event("closed", 6)) == 6


@pytest.mark.parametrize("resolution", ["", "timer_resolution 60s;"])
def test_requests_that_block_get_all_threads(nginx, resolution):
    """With timer_resolution nginx looks at its timers that seldom: nothing may depend on them."""
    site = nginx(server=SERVER, main=f"thread_pool default threads=8; {resolution}")
    assert site.get("/held/open?first").body == b"first"
    for turn in range(3):
        gate = site.gate(f"all{turn}")
        clients = at_once(site, [f"/held/all{turn}?{n}" for n in range(8)])
        site.wait_event(f"waiting all{turn}", 8)
        gate.open()
        assert [client.read_response().body for client in clients] == [
            str(n).encode() for n in range(8)]


def in_company(nginx, what, answers=2000, hog=False):
    """The share of requests that another one was beside, of more than one thread can answer.

    A thread that loses its processor halfway looks like one that blocks: so the worker comes before
    other programs.
    """
    site = nginx(server=CROWD, main="thread_pool crowd threads=4;")
    worker = site.worker()
    procs.put_first(worker)
    if hog:
        assert site.get("/hog").status == 200
    with Load(site.port, f"/crowd?{what}", clients=16) as load:
        until(lambda: len(load.answers) > answers, 60, "answers")
    assert load.failures() == []
    served, company = map(int, site.get("/counts").text.split())
    used, waited = procs.cpu_nanoseconds(worker), procs.waited_nanoseconds(worker)
    print(f"{company} of {served} in company; threads had a processor for {used / 1e9:.2f} s, "
          f"and waited for one for {waited / 1e9:.2f} s")
    return company / served


@pytest.mark.parametrize("what", ["", "files"])
def test_requests_that_compute_are_served_one_after_the_other(nginx, what):
    """More threads would only take the GIL from each other, and each request would be late.

    A processor that other programs take away can only add company, never take it: best of three.
    """
    assert any(in_company(nginx, what) < 1 / 4 for _ in range(3))


def test_requests_that_block_for_a_moment_do_so_side_by_side(nginx):
    assert in_company(nginx, "sleeps") > 3 / 4


def test_requests_that_block_do_so_side_by_side_beside_a_thread_that_computes(nginx):
    """It holds the GIL, which is no sign that one thread would be enough for them."""
    assert in_company(nginx, "sleeps", answers=600, hog=True) > 9 / 10


@pytest.mark.parametrize("resolution", ["", "timer_resolution 60s;"])
def test_an_answer_does_not_wait_for_the_next_request_of_its_thread(nginx, resolution):
    site = nginx(server=SERVER, main=f"thread_pool default threads=1; {resolution}")
    gate = site.gate("next")
    first, second = at_once(site, ["/held/open?first", "/held/next?second"])
    assert first.read_response().body == b"first"
    site.wait_event("waiting next")
    gate.open()
    assert second.read_response().body == b"second"
