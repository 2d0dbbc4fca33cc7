"""What start_response refuses, over every protocol, from the call and from the iteration."""

import pytest
from lib.respond import Expr, respond
from lib.start import BAD_HEADERS, BAD_STATUS, HOP_BY_HOP, LENGTHS, OWN

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /twice { wsgi_app exc_info:twice; }
    location = /twice_late { wsgi_app exc_info:twice_late; }
    location = /replace_length { wsgi_app exc_info:replace_length; }
    location = /replace_twice { wsgi_app exc_info:replace_twice; }
    location = /too_late { wsgi_app exc_info:too_late; }
    location = /too_late_write { wsgi_app exc_info:too_late_write; }
    location = /bad_exc_info { wsgi_app exc_info:bad_exc_info; }
    location = /false_exc_info { wsgi_app exc_info:false_exc_info; }
    location = /wrong_exc_info { wsgi_app exc_info:wrong_exc_info; }
    location = /arguments { wsgi_app exc_info:arguments; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["respond", "plain"])


# Called before the return, or by the iteration.
both = pytest.mark.parametrize("kind", ["list", "late"])


@pytest.mark.parametrize("length", ["0", "007", str((1 << 63) - 1)])
def test_a_content_length_of_digits_is_taken(site, proto, length):
    path = respond(headers=[("Content-Length", length)], kind="late")
    assert proto(site, "HEAD", path).header("Content-Length") == str(int(length))


@pytest.mark.parametrize("body", [[b"x"], [], [b"", b""]], ids=repr)
@pytest.mark.parametrize("iterator", ["{}", "iter({})", "(x for x in {})", "tuple({})"])
def test_without_start_response_nothing_is_an_answer(site, proto, iterator, body):
    mark = site.log.mark()
    path = respond(kind="never", body=Expr(iterator.format(body)))
    assert proto(site, "GET", path).status == 500
    site.log.wait_for(r"\[error\].*start_response", start=mark)


@pytest.mark.parametrize("path", ["/twice", "/twice_late"])
def test_a_second_call_without_exc_info_is_500_over_every_protocol(site, proto, path):
    mark = site.log.mark()
    response = proto(site, "GET", path)
    assert response.status == 500
    assert response.header("X-First") is response.header("X-Second") is None
    site.log.wait_for(r"\[error\].* AssertionError", start=mark)


def test_a_new_head_forgets_the_length_of_the_old_one(site, proto):
    response = proto(site, "GET", "/replace_length")
    assert (response.status, response.body, response.complete) == (418, b"longer than before", True)
    assert response.header("Content-Length") in (None, "18")


def test_a_head_may_be_replaced_more_than_once(site, proto):
    response = proto(site, "GET", "/replace_twice")
    assert (response.status, response.body) == (503, b"third")
    assert [n for n, _ in response.headers if n.lower().startswith("x-")] in (["X-3"], ["x-3"])


@pytest.mark.parametrize("path", ["/too_late", "/too_late_write"])
def test_exc_info_after_output_cuts_the_answer(site, proto, path):
    mark = site.log.mark()
    response = proto(site, "GET", path)
    assert (response.status, response.complete) == (200, False)
    assert response.body in (b"first", b"")
    if proto.name == "h2":
        assert response.end == "reset"
    site.log.wait_for(r"\[error\].*Broken: after the head", start=mark)


def test_exc_info_that_is_none_of_an_exception_is_a_type_error_after_output(site):
    assert site.get("/bad_exc_info").body == b"output, TypeError TypeError TypeError"


def test_exc_info_that_is_false_counts_as_absent(site):
    response = site.get("/false_exc_info")
    assert response.status == 200
    assert response.body == b" ".join([b"AssertionError"] * 5)


def test_exc_info_that_is_no_tuple_of_three_is_a_type_error_that_changes_nothing(site):
    response = site.get("/wrong_exc_info")
    assert response.status == 200 and response.header("X-First") == "1"
    assert response.header("X-Wrong") is None
    assert response.body == b" ".join([b"TypeError"] * 8)


def test_start_response_takes_its_arguments_by_position_only(site):
    assert site.get("/arguments").body == b"TypeError TypeError TypeError"


@both
def test_a_header_of_the_application_is_sent_once_by_every_kind(site, proto, kind):
    for name, value in OWN.items():
        sent = [("X-Before", "1"), (name, value), ("X-After", "1")]
        for path in (respond(headers=sent, body=[b"x"], kind=kind),
                     respond(headers=[(name.lower(), value)], body=[b"x"], kind=kind)):
            assert proto(site, "GET", path).all(name) == [value]
            assert proto(site, "HEAD", path).all(name) == [value]


@pytest.mark.parametrize("status", ["201 Created", "301 Moved", "302 Found", "303 See", "307 T"])
def test_a_relative_location_stays_relative(site, proto, status):
    for place in ("/x", "x?y", "//h/x", "", "#f", "../x"):
        path = respond(status=status, headers=[("Location", place)], body=[b"x"])
        response = proto(site, "GET", path)
        assert (response.status, response.all("Location")) == (int(status[:3]), [place])


def assert_refused(proto, site, specs, exception="ValueError"):
    """Each spec is a 500 of nginx with nothing of the application in it; each is logged."""
    mark = site.log.mark()
    for spec in specs:
        response = proto(site, "GET", respond(body=[b"payload"], **spec))
        assert (response.status, response.complete) == (500, True), spec
        assert b"payload" not in response.body
        names = {name.lower() for name, _ in response.headers}
        known = {"server", "date", "content-type", "content-length", "connection"}
        assert names <= known, (spec, response)
    site.log.wait_for(rf"\[error\].* {exception}: ", start=mark, count=len(specs))
    assert proto(site, "GET", "/plain").body == b"plain"


@both
@pytest.mark.parametrize("exception", ["ValueError", "TypeError"])
def test_a_bad_status_is_refused_over_every_protocol(site, proto, kind, exception):
    specs = [{"status": status, "kind": kind} for kind_, status in BAD_STATUS if kind_ == exception]
    assert_refused(proto, site, specs, exception)


@both
def test_a_status_1xx_is_refused_whatever_its_reason(site, proto, kind):
    statuses = ["100", "101", "102 Processing", "103 Early Hints", "199 "]
    assert_refused(proto, site, [{"status": status, "kind": kind} for status in statuses])


@both
@pytest.mark.parametrize("exception", ["ValueError", "TypeError"])
def test_bad_headers_are_refused_over_every_protocol(site, proto, kind, exception):
    specs = [{"headers": bad, "kind": kind} for kind_, bad in BAD_HEADERS if kind_ == exception]
    # Good ones in front do not make them better.
    good = [("X-Good", "1"), ("Content-Length", "7")]
    specs += [
        {"headers": [*good, *bad], "kind": kind} for kind_, bad in BAD_HEADERS
        if kind_ == exception and isinstance(bad, list)
    ]
    assert_refused(proto, site, specs, exception)


@both
def test_hop_by_hop_headers_and_bad_lengths_are_refused_over_every_protocol(site, proto, kind):
    bad = [[(name, "close")] for name in [*HOP_BY_HOP, "Proxy-Connection", "tRAILER"]]
    bad += [[("content-LENGTH", length)] for length in LENGTHS]
    bad += [[("Content-Length", "7"), ("CONTENT-LENGTH", length)] for length in ("7", "8")]
    assert_refused(proto, site, [{"headers": headers, "kind": kind} for headers in bad])
