"""TLS: an answer that is cut must not look like one that has ended."""

import pytest
from lib import http, tls

SERVER = tls.SERVER + """
    listen 127.0.0.1:@PORT2@ ssl;
    location = /cut { wsgi_app nested:cut; }
    location = /part { wsgi_app nested:part; }
    location = /silent/a { wsgi_app held:midway; wsgi_read_timeout 300ms; }
"""


@pytest.fixture
def site(make_nginx):
    site = make_nginx(server=SERVER)
    tls.make_certificate(site.dir)
    return site.start()


def ask(site, path, version):
    with http.Connection(site.ports["PORT2"], tls=True) as client:
        client.send(http.build("GET", path, version=version))
        return client.read_response()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_whole_answer_ends_cleanly(site, version):
    response = ask(site, "/part", version)
    assert (response.body, response.complete) == (b"part", True)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_that_fails_does_not_end_cleanly(site, version):
    response = ask(site, "/cut", version)
    assert (response.body, response.complete) == (b"first", False)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_that_falls_silent_does_not_end_cleanly(site, version):
    gate = site.gate("a")
    response = ask(site, "/silent/a", version)
    assert (response.body, response.complete) == (b"first", False)
    gate.open()
