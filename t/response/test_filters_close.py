"""What nginx's filters answer by themselves ends the application's iteration and closes it."""

import pytest
from lib import h2client
from lib.poll import until
from lib.respond import Expr, respond

DATE, BEFORE = "Thu, 01 Jan 2015 00:00:00 GMT", "Wed, 01 Jan 2014 00:00:00 GMT"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location /respond { wsgi_app respond:application; }
    location /gzip/ { gzip on; gzip_min_length 1; gzip_types *; wsgi_app respond:application; }
    location /sub/ { sub_filter x y; sub_filter_types *; wsgi_app respond:application; }
    location /charset/ { charset utf-8; wsgi_app respond:application; }
    location /around/ { add_before_body /part; add_after_body /part; addition_types *;
                        wsgi_app respond:application; }
    location /ssi/ { ssi on; ssi_types *; wsgi_app respond:application; }
    location /limited/ { limit_rate 50k; wsgi_app respond:application; }
    location /unchunked/ { chunked_transfer_encoding off; wsgi_app respond:application; }
    location = /part { wsgi_app nested:part; }
    location = /plain { wsgi_app plain:application; }
"""
ENDLESS = Expr("__import__('itertools').repeat(b'x' * 1000)")
PLACES = ["gzip", "sub", "charset", "around", "ssi", "limited", "unchunked"]
TYPE = ("Content-Type", "text/html")


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER)


@pytest.fixture
def closed_once(site):
    """Waits for one close() more than there were."""
    before = len(site.events("close"))

    def check():
        until(lambda: len(site.events("close")) > before, what="close()")
        assert site.get("/plain").body == b"plain"
        assert len(site.events("close")) == before + 1

    return check


@pytest.mark.parametrize("kind", ["generator", "iterator"])
@pytest.mark.parametrize(
    "header, status",
    [(("If-None-Match", '"a"'), 304), (("If-Match", '"b"'), 412),
     (("If-Modified-Since", DATE), 304), (("If-Unmodified-Since", BEFORE), 412)],
)
def test_a_condition_ends_the_iteration(site, proto, closed_once, kind, header, status):
    headers = [("ETag", '"a"'), ("Last-Modified", DATE), TYPE]
    path = respond(headers=headers, body=ENDLESS, kind=kind)
    response = proto(site, "GET", path, [header])
    assert (response.status, response.complete) == (status, True)
    closed_once()


@pytest.mark.parametrize("place", PLACES)
def test_head_ends_the_iteration_below_a_filter(site, proto, closed_once, place):
    path = f"/{place}" + respond(headers=[TYPE], body=ENDLESS, kind="generator")
    response = proto(site, "HEAD", path, {"Accept-Encoding": "gzip"})
    assert (response.status, response.body + response.rest) == (200, b"")
    closed_once()


@pytest.mark.parametrize("place", PLACES)
def test_an_exception_below_a_filter_never_ends_cleanly(site, proto, closed_once, place):
    path = f"/{place}" + respond(headers=[TYPE], body=[b"some", b"more"], kind="generator",
                                 fail=Expr("ValueError('midway')"))
    response = proto(site, "GET", path, {"Accept-Encoding": "gzip"})
    assert (response.status, response.complete) == (200, False)
    closed_once()


@pytest.mark.parametrize("place", PLACES)
def test_a_client_that_leaves_ends_the_iteration_below_a_filter(site, closed_once, place):
    path = f"/{place}" + respond(headers=[TYPE], body=ENDLESS, kind="generator")
    client = site.ask(path)
    assert client.read_head().status == 200
    client.reset()
    closed_once()


@pytest.mark.parametrize("place", PLACES)
def test_a_stream_that_is_reset_ends_the_iteration_below_a_filter(site, closed_once, place):
    path = f"/{place}" + respond(headers=[TYPE], body=ENDLESS, kind="generator")
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        stream = client.send("GET", path)
        client.wait(stream, lambda response: response.status)
        client.reset(stream)
        closed_once()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("given, what", [(3, "less"), (3000, "more")])
def test_a_wrong_length_below_a_filter_is_noticed(site, proto, place, given, what):
    """Filters that change the length take the header away; the application is wrong anyway."""
    mark = site.log.mark()
    path = f"/{place}" + respond(headers=[TYPE, ("Content-Length", "1000")], kind="generator",
                                 body=Expr(f"[b'x'] * {given}"))
    response = proto(site, "GET", path, {"Accept-Encoding": "gzip"})
    assert response.status == 200
    assert response.complete == (what == "more")
    site.log.wait_for(rf"\[error\].*{what} than Content-Length", start=mark)
