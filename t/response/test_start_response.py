"""start_response and its rules (PEP 3333, The start_response() Callable)."""

import pytest
from lib.respond import Expr, respond
from lib.start import BAD_HEADERS, BAD_STATUS, HOP_BY_HOP, LENGTHS, OWN

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /twice { wsgi_app exc_info:twice; }
    location = /replace { wsgi_app exc_info:replace; }
    location = /replace_late { wsgi_app exc_info:replace_late; }
    location = /too_late { wsgi_app exc_info:too_late; }
    location = /again { wsgi_app exc_info:again; }
    location = /none { wsgi_app exc_info:positional; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["respond", "plain"])


def refused(site, exception, **spec):
    """The application gets the exception; the client a 500 of nginx and nothing else."""
    mark = site.log.mark()
    response = site.get(respond(body=[b"payload"], **spec))
    assert response.status == 500, response
    assert b"payload" not in response.body
    assert not [name for name, _ in response.headers if "inject" in name.lower()]
    assert site.get("/plain").body == b"plain"
    site.log.wait_for(rf"\[error\].* {exception}\b", start=mark)


@pytest.mark.parametrize("exception, status", BAD_STATUS, ids=[repr(s) for _, s in BAD_STATUS])
def test_a_bad_status_is_refused(site, exception, status):
    refused(site, exception, status=status)


@pytest.mark.parametrize(
    "status, reason",
    [("200 OK", "OK"), ("404 Not Found", "Not Found"), ("299 Odd One", "Odd One"),
     ("599 x", "x"), ("200 \xdcber", "\xdcber"), ("299", None), ("418 I'm: a teapot", None)],
)
def test_a_good_status_is_sent_as_it_is(site, proto, status, reason):
    response = proto(site, "GET", respond(status=status, body=[b"ok"]))
    assert response.status == int(status[:3])
    assert response.body == b"ok"
    if reason and proto.name != "h2":
        assert response.reason == reason


@pytest.mark.parametrize(
    "exception, headers", BAD_HEADERS, ids=[ascii(headers) for _, headers in BAD_HEADERS]
)
def test_bad_headers_are_refused(site, exception, headers):
    refused(site, exception, headers=headers)


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_a_hop_by_hop_header_is_refused(site, name):
    refused(site, "ValueError", headers=[(name, "chunked")])


@pytest.mark.parametrize("length", LENGTHS, ids=ascii)
def test_a_content_length_that_is_no_number_is_refused(site, length):
    refused(site, "ValueError", headers=[("Content-Length", length)])


@pytest.mark.parametrize("second", ["4", "5"])
def test_two_content_lengths_are_refused(site, second):
    headers = [("Content-Length", "4"), ("content-length", second)]
    refused(site, "ValueError", headers=headers)


def test_the_application_can_catch_a_refusal_and_call_again(site):
    assert site.get("/again").body == b"second"


@pytest.mark.parametrize("body", [[b"x"], [], [b""]])
def test_an_application_that_never_calls_start_response_gets_500(site, proto, body):
    mark = site.log.mark()
    assert proto(site, "GET", respond(kind="never", body=body)).status == 500
    site.log.wait_for(r"\[error\].*start_response", start=mark)


def test_a_second_call_without_exc_info_raises_assertion_error(site):
    mark = site.log.mark()
    assert site.get("/twice").status == 500
    site.log.wait_for(r"\[error\].* AssertionError", start=mark)


@pytest.mark.parametrize("path", ["/replace", "/replace_late"])
def test_a_call_with_exc_info_before_the_head_replaces_it_whole(site, proto, path):
    response = proto(site, "GET", path)
    assert response.status == 418
    assert response.body == b"second"
    assert response.header("X-First") is None
    assert response.header("Set-Cookie") is None
    assert response.header("X-Second") == "2"


def test_a_call_with_exc_info_after_the_head_raises_it_and_aborts(site, proto):
    mark = site.log.mark()
    response = proto(site, "GET", "/too_late")
    assert response.status == 200
    assert response.header("X-Second") is None
    assert b"never" not in response.body
    assert not response.complete
    site.log.wait_for(r"\[error\].*Broken: after the head", start=mark)


def test_exc_info_may_be_none(site):
    assert site.get("/none").body == b"first"


@pytest.mark.parametrize("kind", ["list", "generator", "late", "write"])
def test_repeated_headers_are_all_sent_in_order(site, proto, kind):
    headers = [("Set-Cookie", "a=1"), ("Vary", "Cookie"), ("Set-Cookie", "b=2"),
               ("Link", "<a>"), ("WWW-Authenticate", "Basic"), ("Link", "<b>"),
               ("WWW-Authenticate", "Digest"), ("Vary", "Accept"), ("set-cookie", "c=3")]
    response = proto(site, "GET", respond(headers=headers, body=[b"x"], kind=kind))
    assert response.all("Set-Cookie") == ["a=1", "b=2", "c=3"]
    assert response.all("Link") == ["<a>", "<b>"]
    assert response.all("WWW-Authenticate") == ["Basic", "Digest"]
    assert response.all("Vary") == ["Cookie", "Accept"]


@pytest.mark.parametrize("name", OWN)
def test_a_header_of_the_application_is_sent_once_and_unchanged(site, proto, name):
    response = proto(site, "GET", respond(headers=[(name, OWN[name])], body=[b"x"]))
    assert response.status == 200
    assert response.all(name) == [OWN[name]]


def test_a_redirect_keeps_its_relative_location(site, proto):
    response = proto(site, "GET", respond(status="302 Found", headers=[("Location", "/a?b")]))
    assert response.status == 302
    assert response.all("Location") == ["/a?b"]


def test_a_server_and_a_date_are_there_without_the_application(site, proto):
    response = proto(site, "GET", respond(body=[b"x"]))
    assert response.header("Server").startswith("nginx")
    assert response.header("Date")


def test_many_and_long_headers_are_sent(site, proto):
    headers = Expr("[('X-%d' % n, 'v' * 100) for n in range(100)] + [('X-Long', 'y' * 12000)]")
    response = proto(site, "GET", respond(headers=headers, body=[b"x"]))
    assert len([name for name, _ in response.headers if name.lower().startswith("x-")]) == 101
    assert response.header("X-Long") == "y" * 12000
