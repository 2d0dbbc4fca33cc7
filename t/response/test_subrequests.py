"""Subrequests of an application, and applications as subrequests: order, windows, threads."""

import zlib

import pytest
from lib import h2client, http
from lib.held import ONE
from lib.poll import until

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /page { ssi on; wsgi_app nested:page; wsgi_thread_pool one; }
    location = /before {
        add_before_body /part;
        addition_types *;
        wsgi_app stream:fast;
        wsgi_thread_pool one;
    }
    location = /part { wsgi_app nested:part; wsgi_thread_pool one; }
    location = /host {
        auth_request /auth;
        auth_request_set $seen $sent_http_x_host;
        add_header X-Auth-Saw $seen;
        ssi on;
        wsgi_app nested:host;
    }
    location ~ ^/(auth|included)$ { internal; wsgi_app nested:host; }
    location = /big { wsgi_app nested:big; }
    location = /cut { wsgi_app nested:cut; }
    location = /includes.html { ssi on; root @DIR@/html; default_type text/html; }
    location = /after { post_action /hit; wsgi_app nested:part; }
    location = /after_static { post_action /hit; return 200 static; }
    location = /after_broken { post_action /broken; wsgi_app nested:part; }
    location = /after_asked { post_action /asked; wsgi_app nested:part; }
    location = /asked { auth_request /hit; wsgi_app nested:acted; }
    location = /hit { wsgi_app nested:hit; }
    location = /broken { wsgi_app nested:broken; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(main=ONE, server=SERVER, apps=["plain"])


def test_a_page_does_not_wait_for_the_thread_that_its_own_part_needs(site, proto):
    """The page fills its window behind the part, and the pool has one thread."""
    response = proto(site, "GET", "/page")
    assert response.complete
    assert response.body == b"part" + b"x" * 400_000


def test_a_body_added_in_front_does_not_wait_for_the_thread_of_the_page(site, proto):
    response = proto(site, "GET", "/before?8")
    assert response.complete
    assert response.body[:4] == b"part"
    assert len(response.body) == 4 + 8 * 65536


@pytest.mark.parametrize("target, host, expected", [
    ("/host", "good.example:81", b"good.example:81"),
    ("http://good.example/host", "evil.example", b"good.example"),
    ("http://good.example:81/host", "evil.example", b"good.example:81"),
])
def test_a_subrequest_is_for_the_host_of_its_request(site, target, host, expected):
    """An absolute URI goes before the field, and subrequests have no URI of their own."""
    with site.ask(target, host=host) as client:
        response = client.read_response()
    assert (response.status, response.body) == (200, expected * 2)
    assert response.header("X-Auth-Saw") == expected.decode()


def test_a_subrequest_is_for_the_authority_of_its_request(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        response = client.wait(client.send("GET", "/host", authority="good.example:81"))
    assert response.body == b"good.example:81" * 2
    assert response.header("X-Auth-Saw") == "good.example:81"


@pytest.mark.parametrize("rcvbuf", [None, 4096])
def test_a_large_part_reaches_the_client_whole(site, rcvbuf):
    """More than socket and window hold: the part has to go on when the client has read."""
    site.write("html/includes.html", 'head <!--# include virtual="/big?200" --> tail')
    expected = zlib.crc32(b"".join(b"%07d\n" % n * 8192 for n in range(200)))
    with http.Connection(site.port, rcvbuf=rcvbuf) as client:
        client.send(http.build("GET", "/includes.html"))
        response = client.read_response()
    assert response.complete
    head, body, tail = response.body[:5], response.body[5:-5], response.body[-5:]
    assert (head, zlib.crc32(body), tail) == (b"head ", expected, b" tail")


def test_a_part_that_fails_in_the_middle_cuts_the_page(site, proto):
    site.write("html/includes.html", 'head <!--# include virtual="/cut" --> tail')
    response = proto(site, "GET", "/includes.html")
    assert not response.complete
    assert b"tail" not in response.body


@pytest.mark.parametrize("path", ["/after", "/after_static"])
def test_post_action_runs_when_the_client_has_gone(site, path):
    began, done = len(site.events("began")), len(site.events("done"))
    gate = site.gate("hit")
    for _ in range(5):
        with site.ask(path) as client:
            assert client.read_head().status == 200
    site.wait_event("began", count=began + 5)
    gate.open()
    until(lambda: len(site.events("done")) == done + 5, what="every post_action")


def test_a_post_action_may_ask_an_application_when_the_client_has_gone(site):
    began = len(site.events("began"))
    gate = site.gate("hit")
    with site.ask("/after_asked") as client:
        assert client.read_head().status == 200
        site.wait_event("began", count=began + 1)
    site.barrier()
    gate.open()
    site.wait_event("acted")


def test_a_post_action_that_fails_does_not_harm_the_response(site):
    for version, close in (("1.0", True), ("1.1", False)):
        broken = len(site.events("broken"))
        with site.ask("/after_broken", version=version, close=close) as client:
            response = client.read_response()
            assert (response.body, response.complete) == (b"part", True)
            site.wait_event("broken", count=broken + 1)
            if not close:
                client.send(http.build("GET", "/plain"))
                assert client.read_response().body == b"plain"
