"""Requests that wait for each other need all threads of all workers."""

import os

import pytest
from lib import h2client, http
from lib.load import at_once

# So many fresh starts: it is chance which worker accepts a connection.
STARTS = int(os.environ.get("TEST_NGINX_STARTS") or 4)
WORKERS, THREADS = 4, 4
COUNT = WORKERS * THREADS
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /meeting { wsgi_thread_pool four; wsgi_app meeting:application; }
"""
PATH = f"/meeting?name={{}}&count={COUNT}"


@pytest.fixture
def site(nginx):
    return nginx(main=f"thread_pool four threads={THREADS};", server=SERVER, workers=WORKERS)


def all_met(responses):
    assert {response.status for response in responses} == {200}
    here = [int(response.text.split()[0]) for response in responses]
    assert min(here) == COUNT, f"not all met: {sorted(response.text for response in responses)}"


@pytest.mark.parametrize("number", range(STARTS))
def test_sixteen_on_kept_connections_meet(site, number):
    clients = [site.connect() for _ in range(COUNT)]
    for client in clients:
        client.send(http.build("GET", "/static", close=False))
        assert client.read_response().text == "static"
    for turn in range(3):
        for client in clients:
            client.send(http.build("GET", PATH.format(turn), close=False))
        all_met([client.read_response() for client in clients])


@pytest.mark.parametrize("number", range(STARTS))
def test_sixteen_streams_of_one_connection_meet(site, number):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        for turn in range(3):
            streams = [client.send("GET", PATH.format(turn)) for _ in range(COUNT)]
            all_met([client.wait(stream) for stream in streams])


@pytest.mark.parametrize("number", range(STARTS))
def test_sixteen_on_new_connections_meet(site, number):
    all_met(at_once(lambda _: site.get(PATH.format("new")), range(COUNT), COUNT))
