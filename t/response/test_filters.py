"""nginx's filters over the answers of an application: body, head, subrequests, limits."""

import gzip

import pytest
from lib import http
from lib.poll import takes

BODY = b"<p>some text</p>\n" * 200
DATE = "Thu, 01 Jan 2015 00:00:00 GMT"
BEFORE, AFTER = "Wed, 01 Jan 2014 00:00:00 GMT", "Fri, 01 Jan 2016 00:00:00 GMT"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location / { wsgi_app filtered:application; }
    location /gzip/ { gzip on; gzip_min_length 1; wsgi_app filtered:application; }
    location /gunzip/ { gunzip on; wsgi_app filtered:application; }
    location /sub/ { sub_filter hello "good bye"; sub_filter_once off;
                     wsgi_app filtered:application; }
    location /dated_sub/ { sub_filter a a; sub_filter_last_modified on;
                           wsgi_app filtered:application; }
    location /around/ { add_before_body /a/echo; add_after_body /part.txt;
                        wsgi_app filtered:application; }
    location /apps/ { add_before_body /a/plain; add_after_body /a/pieces; alias @DIR@/html/;
                      default_type text/html; }
    location = /part.txt { return 200 "[after]"; }
    location /ims_before/ { if_modified_since before; wsgi_app filtered:application; }
    location /ims_off/ { if_modified_since off; wsgi_app filtered:application; }
    location /utf8/ { charset utf-8; wsgi_app filtered:application; }
    location /recoded/ { charset utf-8; source_charset koi8-r; wsgi_app filtered:application; }
    location /override/ { charset utf-8; override_charset on; wsgi_app filtered:application; }
    location /headers/ { add_header X-Ok yes; add_header X-Always yes always; expires -1;
                         wsgi_app filtered:application; }
    location /trailed/ { add_trailer X-Trailer end; wsgi_app filtered:application; }
    location /unchunked/ { chunked_transfer_encoding off; wsgi_app filtered:application; }
    location = /unchunked_fails { chunked_transfer_encoding off; wsgi_app raising:midway; }
    location /error/ { error_page 500 502 = /a/echo; wsgi_app filtered:application; }
    location /error_static/ { error_page 500 =503 /part.txt; wsgi_app filtered:application; }
    location /error_fails/ { error_page 500 /a/fails; recursive_error_pages on;
                             wsgi_app filtered:application; }
    location /asked/ {
        auth_request /a/granted;
        auth_request_set $granted $sent_http_x_granted;
        add_header X-Seen $granted;
        wsgi_app filtered:application;
    }
    location /mirrored/ { mirror /a/echo; wsgi_app filtered:application; }
    location /mirrored_fails/ { mirror /a/fails; wsgi_app filtered:application; }
    location /mirrored_bare/ { mirror /a/echo; mirror_request_body off;
                               wsgi_app filtered:application; }
    location /after/ { post_action /a/echo; wsgi_app filtered:application; }
    location = /after_fails { post_action /a/echo; wsgi_app raising:midway; }
    location /slow/ { limit_rate 40k; limit_rate_after 30k; wsgi_app stream:fast; }
"""
HTTP = "charset_map koi8-r utf-8 { C4 D0B4; C1 D0B0; CE D0BD; C5 D0B5; D4 D182; }"


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, http=HTTP)


@pytest.mark.parametrize("page", ["plain", "dated", "tagged", "both"])
def test_gzip_weakens_the_tag_and_takes_the_length_away(site, proto, page):
    headers = {"Accept-Encoding": "gzip"}
    response = proto(site, "GET", f"/gzip/{page}", headers)
    zipped = proto.name != "http/1.0"  # gzip_http_version is 1.1
    assert response.complete
    assert (gzip.decompress(response.body) if zipped else response.body) == BODY
    tag = {"tagged": '"one"', "both": '"one"'}.get(page)
    assert response.header("ETag") == (f"W/{tag}" if zipped and tag else tag)
    assert response.header("Last-Modified") == {"dated": DATE, "both": DATE}.get(page)
    assert not zipped or response.header("Content-Length") is None
    head = proto(site, "HEAD", f"/gzip/{page}", headers)
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("accept, zipped", [({"Accept-Encoding": "gzip"}, True), ({}, False)])
def test_gunzip_unpacks_for_clients_that_cannot(site, proto, accept, zipped):
    response = proto(site, "GET", "/gunzip/zipped", accept)
    # A client of HTTP/1.0 is taken for one that cannot.
    zipped = zipped and proto.name != "http/1.0"
    assert response.header("Content-Encoding") == ("gzip" if zipped else None)
    assert (gzip.decompress(response.body) if zipped else response.body) == BODY


def test_sub_filter_finds_what_is_cut_across_chunks(site, proto):
    response = proto(site, "GET", "/sub/pieces")
    assert (response.body, response.complete) == (b"say good bye and good bye again, hel", True)


def test_sub_filter_keeps_the_date_when_asked(site):
    assert site.get("/sub/both").header("Last-Modified") is None
    response = site.get("/dated_sub/both")
    assert (response.header("Last-Modified"), response.header("ETag")) == (DATE, 'W/"one"')
    assert response.body == BODY


@pytest.mark.parametrize("page, body", [("plain", BODY), ("both", BODY),
                                        ("pieces", b"say hello and hello again, hel")])
def test_bodies_are_added_before_and_after(site, proto, page, body):
    response = proto(site, "GET", f"/around/{page}")
    assert (response.status, response.body, response.complete) == (200, body + b"[after]", True)
    assert response.header("Content-Length") is None
    head = proto(site, "HEAD", f"/around/{page}")
    assert (head.status, head.body + head.rest) == (200, b"")


def test_bodies_of_applications_are_added_around_a_file(site, proto):
    site.write("html/file", "[file]")
    response = proto(site, "GET", "/apps/file")
    assert (response.status, response.complete) == (200, True)
    assert response.body == BODY + b"[file]say hello and hello again, hel"


def conditions():
    """Page, request header, status: what RFC 9110 section 13 and nginx make of them."""
    for page in ("dated", "both"):
        yield page, ("If-Modified-Since", DATE), 304
        yield page, ("If-Modified-Since", AFTER), 200
        yield page, ("If-Modified-Since", BEFORE), 200
        yield page, ("If-Modified-Since", "garbage"), 200
        yield page, ("If-Unmodified-Since", BEFORE), 412
        yield page, ("If-Unmodified-Since", DATE), 200
    for page in ("tagged", "both", "weak"):
        yield page, ("If-None-Match", '"one"'), 304
        yield page, ("If-None-Match", 'W/"one"'), 304
        yield page, ("If-None-Match", '"two", W/"one"'), 304
        yield page, ("If-None-Match", "*"), 304
        yield page, ("If-None-Match", '"two"'), 200
        yield page, ("If-Match", "*"), 200
        yield page, ("If-Match", '"two"'), 412
        yield page, ("If-Match", '"one"'), 412 if page == "weak" else 200
    for header in (("If-None-Match", '"one"'), ("If-Modified-Since", DATE)):
        yield "plain", header, 200
        yield "posted", header, 201


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_applications_validators_decide_conditional_requests(site, proto, method):
    for page, header, status in conditions():
        response = proto(site, method, f"/{page}", [header])
        assert (page, header, response.status) == (page, header, status)
        assert response.complete
        assert response.body == (BODY if method == "GET" and status < 300 else response.body)
        if status == 304:
            assert response.body + response.rest == b""
            assert response.header("ETag") == {"weak": 'W/"one"', "dated": None}.get(page, '"one"')
            assert response.header("Content-Type") is None


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize("page", ["plain", "dated", "tagged", "both", "weak"])
def test_what_a_method_has_done_is_not_denied_for_a_condition(site, proto, method, page):
    """The application has evaluated it, against what was there before (RFC 9110 section 13.1)."""
    for header in [("If-Match", '"old"'), ("If-Match", "*"), ("If-None-Match", "*"),
                   ("If-None-Match", '"one"'), ("If-Unmodified-Since", BEFORE),
                   ("If-Modified-Since", DATE)]:
        response = proto(site, method, f"/{page}", [header])
        assert (header, response.status, response.body) == (header, 200, BODY)


@pytest.mark.parametrize("page, header", [
    ("plain", ("If-Match", '"one"')), ("dated", ("If-Match", '"one"')),
    ("plain", ("If-Match", "*")), ("plain", ("If-None-Match", "*")),
    ("plain", ("If-Unmodified-Since", DATE)), ("tagged", ("If-Unmodified-Since", DATE)),
    ("dated", ("If-None-Match", "*")), ("tagged", ("If-Modified-Since", DATE)),
])
def test_a_condition_on_what_a_response_lacks_is_the_applications(site, proto, page, header):
    for method in ("GET", "HEAD"):
        assert proto(site, method, f"/{page}", [header]).status == 200


def test_both_conditions_must_hold(site, proto):
    headers = [("If-Modified-Since", DATE), ("If-None-Match", '"two"')]
    assert proto(site, "GET", "/both", headers).status == 200
    headers = [("If-Modified-Since", DATE), ("If-None-Match", '"one"')]
    assert proto(site, "GET", "/both", headers).status == 304


@pytest.mark.parametrize("place, date, status", [
    ("ims_before", AFTER, 304), ("ims_before", DATE, 304), ("ims_before", BEFORE, 200),
    ("ims_off", DATE, 200),
])
def test_if_modified_since_is_as_configured(site, place, date, status):
    response = site.get(f"/{place}/dated", headers={"If-Modified-Since": date})
    assert response.status == status


def test_an_answer_from_a_condition_keeps_the_connection_in_step(site):
    with site.connect() as client:
        for headers in ({"If-None-Match": "*"}, {"If-Modified-Since": DATE}, {}):
            client.send(http.build("GET", "/both", headers=headers, close=False))
        assert [client.read_response().status for _ in range(3)] == [304, 304, 200]


@pytest.mark.parametrize(
    "place, page, type_, body",
    [
        ("utf8", "plain", "text/html; charset=utf-8", BODY),
        ("utf8", "binary", "image/png", b"\xff\xfe"),
        # Nothing is known of koi8-r without a table in that direction: as it is.
        ("utf8", "bare_russian", "text/html; charset=utf-8", "да нет".encode("koi8-r")),
        ("recoded", "bare_russian", "text/html; charset=utf-8", "да нет".encode()),
        ("override", "russian", "text/html; charset=utf-8", "да нет".encode()),
        ("utf8", "russian", "text/html; charset=koi8-r", "да нет".encode("koi8-r")),
    ],
)
def test_charset_names_and_recodes(site, proto, place, page, type_, body):
    response = proto(site, "GET", f"/{place}/{page}")
    assert (response.header("Content-Type"), response.body) == (type_, body)
    assert response.complete


@pytest.mark.parametrize("page, ok", [("plain", True), ("pieces", True), ("posted", True),
                                      ("missing", False), ("fails", False)])
def test_headers_are_added_as_nginx_says(site, proto, page, ok):
    response = proto(site, "GET", f"/headers/{page}")
    assert response.header("X-Ok") == ("yes" if ok else None)
    assert response.header("X-Always") == "yes"
    assert (response.header("Cache-Control") == "no-cache") == ok


def test_a_trailer_comes_after_the_last_chunk(site):
    with site.ask("/trailed/pieces") as client:
        assert client.read_head().header("Transfer-Encoding") == "chunked"
        rest, how = client.read_to_end()
    assert rest.endswith(b"\r\n0\r\nX-Trailer: end\r\n\r\n")
    assert how == "closed"


def test_without_chunks_the_body_ends_with_the_connection(site):
    response = site.get("/unchunked/pieces", close=False)
    assert (response.body, response.end) == (b"say hello and hello again, hel", "close")
    response = site.get("/unchunked/plain", close=False)
    assert (response.body, response.end) == (BODY, "length")


def test_without_chunks_a_failure_is_a_reset(site):
    with site.ask("/unchunked_fails?ValueError", close=False) as client:
        assert client.read_to_end()[1] == "reset"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_exception_goes_to_an_error_page_by_get(site, proto, method):
    before = len(site.events("echo"))
    response = proto(site, method, "/error/fails", {"X-Name": "a"}, b"abc" * (method == "POST"))
    assert (response.status, response.complete) == (200, True)
    wanted = "HEAD" if method == "HEAD" else "GET"
    assert site.events("echo")[before:] == [f"echo {wanted} a {3 * (method == 'POST')}"]


def test_an_exception_may_become_a_page_of_nginx_with_another_status(site, proto):
    response = proto(site, "GET", "/error_static/fails")
    assert (response.status, response.body) == (503, b"[after]")


def test_an_error_page_that_fails_itself_ends(site, proto):
    before = len(site.events("fails"))
    assert proto(site, "GET", "/error_fails/fails").status == 500
    assert len(site.events("fails")) - before <= 11


def test_auth_request_passes_what_the_application_says_of_the_client(site, proto):
    response = proto(site, "GET", "/asked/plain", {"X-Name": "ann"})
    assert (response.status, response.body) == (200, BODY)
    assert response.header("X-Seen") == "ann"
    before = len(site.events("filtered plain"))
    assert proto(site, "GET", "/asked/plain").status == 403
    assert len(site.events("filtered plain")) == before


@pytest.mark.parametrize("place, size", [("mirrored", 50_000), ("mirrored_bare", 0)])
def test_a_mirror_gets_the_body_too_and_disturbs_nothing(site, proto, place, size):
    before = len(site.events("echo"))
    body = b"m" * 50_000
    response = proto(site, "POST", f"/{place}/echo", {"X-Name": place}, body)
    assert response.complete
    site.wait_event("echo", count=before + 2)
    found = sorted(site.events("echo")[before:])
    assert found == sorted([f"echo POST {place} {size}", f"echo POST {place} {len(body)}"])


def test_a_mirror_that_fails_disturbs_nothing(site, proto):
    before = len(site.events("fails"))
    assert proto(site, "GET", "/mirrored_fails/plain").body == BODY
    site.wait_event("fails", count=before + 1)


@pytest.mark.parametrize("page", ["plain", "pieces", "dated"])
def test_a_post_action_runs_after_the_answer_over_every_protocol(site, proto, page):
    before = len(site.events("echo"))
    response = proto(site, "GET", f"/after/{page}")
    assert (response.status, response.complete) == (200, True)
    site.wait_event("echo", count=before + 1)


def test_a_response_that_is_cut_stays_cut_with_a_post_action(site, proto):
    before = len(site.events("echo"))
    response = proto(site, "GET", "/after_fails?ValueError")
    assert not response.complete
    site.wait_event("echo", count=before + 1)


def test_no_response_follows_one_that_is_cut_with_a_post_action(site):
    with site.connect() as connection:
        request = http.build("GET", "/after_fails?ValueError", close=False)
        connection.send(request + http.build("GET", "/plain", close=False))
        # Up to the end of the connection: else the next one would lie in the middle of this one.
        answer, end = connection.read_to_end()
    assert (answer.count(b"HTTP/1.1 200"), end) == (1, "closed")
    assert answer.endswith(b"4\r\nsome\r\n")


def test_a_limited_rate_loses_nothing_over_any_protocol(site, proto):
    # The first 30k are free, 40k are the share of the first second.
    with takes(0.3):
        response = proto(site, "GET", "/slow/?2")
    assert (response.complete, len(response.body)) == (True, 2 * 65536)
