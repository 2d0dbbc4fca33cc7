"""TLS: what environ says of it; an answer that is cut must not look like one that has ended."""

import json

import pytest
from lib import h2client, http, tls

SERVER = tls.SERVER + """
    listen 127.0.0.1:@PORT2@ ssl;
    listen 127.0.0.1:@PORT3@ ssl http2;
    listen unix:@DIR@/u.sock ssl;
    location = /environ { wsgi_app environ:application; }
    location = /cut { wsgi_app nested:cut; }
    location = /part { wsgi_app nested:part; }
    location = /silent/a { wsgi_app held:midway; wsgi_read_timeout 300ms; }
    location = /silent/open { wsgi_app held:midway; }
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
    site.ready("/silent/open")
    gate = site.gate("a")
    response = ask(site, "/silent/a", version)
    assert (response.body, response.complete) == (b"first", False)
    gate.open()


def test_https_is_seen_over_every_connection(site):
    client = {"X-Forwarded-Proto": "http", "Https": "off"}
    ports = site.ports
    unix = f"{site.dir}/u.sock"
    for port, response in (
        (str(ports["PORT3"]),
         h2client.request(ports["PORT3"], "GET", "/environ", client, tls=True)),
        (str(ports["PORT2"]), site.get("/environ", port=ports["PORT2"], headers=client, tls=True)),
        (str(ports["PORT2"]), site.get("http://h/environ", port=ports["PORT2"], tls=True)),
        ("443", http.request(None, "GET", "/environ", unix=unix, headers=client, tls=True)),
    ):
        found = json.loads(response.body)["values"]
        assert (found["wsgi.url_scheme"], found["HTTPS"], found["REQUEST_SCHEME"]) == (
            "https", "on", "https")
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("localhost", port)


def test_without_tls_there_is_no_https_whatever_the_client_says(site):
    """Nor a header Https that could be taken for the variable."""
    headers = {"X-Forwarded-Proto": "https", "Https": "on", "X-Forwarded-Ssl": "on"}
    found = json.loads(site.get("/environ", headers=headers).body)["values"]
    assert (found["wsgi.url_scheme"], found["REQUEST_SCHEME"]) == ("http", "http")
    assert "HTTPS" not in found
    assert found["HTTP_HTTPS"] == "on"


def test_an_answer_that_fails_is_a_reset_of_the_http_2_stream(site):
    with h2client.H2Connection(site.ports["PORT3"], tls=True) as client:
        response = client.wait(client.send("GET", "/cut"))
        assert (response.body, response.end) == (b"first", "reset")
        assert client.wait(client.send("GET", "/part")).body == b"part"
