"""X-Accel-*: what an application tells nginx, obeyed as nginx's upstream modules do.

Each request is also made through proxy_pass to wsgiref.simple_server with the same application.
"""

import os

import pytest
from lib import http
from lib.poll import takes
from lib.reference import Reference
from lib.respond import respond

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /respond { wsgi_app respond:application; }
    location /proxy/ { proxy_pass http://127.0.0.1:%d/; proxy_set_header Connection close; }
    location /private/ { internal; alias @DIR@/html/; }
    location /typed/ { internal; types { } default_type text/typed; expires 1h; alias @DIR@/html/; }
    location /again/ { internal; wsgi_app environ:application; }
    location @named { return 200 "named $uri $request_method"; }
    location /loop { internal; wsgi_app respond:application; }
    location /page { error_page 404 = @named; internal; alias @DIR@/html/; }
    location /charset/ { charset koi8-r; wsgi_app respond:application; }
    location = /ssi.html { ssi on; root @DIR@/html; }
"""
FILE = b"0123456789" * 100


@pytest.fixture(scope="module")
def site(shared_nginx):
    with Reference("respond", EVENTS=os.devnull) as reference:
        site = shared_nginx(server=SERVER % reference.port)
        with open(f"{site.dir}/html/file.txt", "wb") as file:
            file.write(FILE)
        yield site


@pytest.fixture(params=["here", "upstream"])
def ask(request, site):
    """An answer of the application, from here or from behind proxy_pass."""

    def send(method="GET", request_headers=(), **spec):
        path = ("/proxy" if request.param == "upstream" else "") + respond(**spec)
        return http.request(site.port, method, path, headers=request_headers)

    return send


def accel(target, *headers):
    return [("X-Accel-Redirect", target), *headers]


def test_a_redirect_answers_with_what_is_at_its_target(ask):
    response = ask(headers=accel("/private/file.txt"), body=[b"not this"])
    assert (response.status, response.body, response.complete) == (200, FILE, True)
    assert response.header("X-Accel-Redirect") is None
    assert response.header("Content-Length") == str(len(FILE))


def test_conditions_are_about_the_file_and_not_about_the_application(ask, site):
    """The application's own validators are gone, the file's count."""
    own = [("ETag", '"own"'), ("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT")]
    file = http.request(site.port, "GET", respond(headers=accel("/private/file.txt")))
    tag, date = file.header("ETag"), file.header("Last-Modified")
    for header, status in [(("If-None-Match", tag), 304), (("If-None-Match", '"own"'), 200),
                           (("If-Match", '"own"'), 412), (("If-Match", tag), 200),
                           (("If-Modified-Since", date), 304),
                           (("If-Unmodified-Since", own[1][1]), 412)]:
        response = ask(headers=accel("/private/file.txt", *own), request_headers=[header])
        assert (header, response.status) == (header, status)


KEPT = [("Content-Type", "text/x"), ("Content-Disposition", "attachment"),
        ("Cache-Control", "private"), ("Expires", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
LOST = [("ETag", '"own"'), ("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ("X-Other", "x"), ("Content-Language", "en"), ("Vary", "Cookie"),
        ("Content-Encoding", "br"), ("Location", "/x"), ("WWW-Authenticate", "Basic")]


def test_a_redirect_keeps_the_headers_that_upstream_keeps(ask):
    response = ask(headers=accel("/private/file.txt", *KEPT, *LOST))
    assert (response.status, response.body) == (200, FILE)
    for name, value in KEPT:
        assert value in response.all(name)
    for name, value in LOST:
        assert value not in response.all(name)


def test_the_status_and_length_of_the_application_do_not_count(ask):
    response = ask(status="404 Not Found", headers=accel("/private/file.txt",
                                                         ("Content-Length", "0")))
    assert (response.status, response.body) == (200, FILE)


def test_a_length_without_a_body_is_no_fault(site):
    headers = accel("/private/file.txt", ("Content-Length", "1000"))
    response = site.get(respond(headers=headers))
    assert (response.status, response.body) == (200, FILE)


def test_a_range_is_of_the_target(ask):
    response = ask(request_headers={"Range": "bytes=5-14"}, headers=accel("/private/file.txt"))
    assert (response.status, response.body) == (206, FILE[5:15])


def test_a_named_location_may_be_the_target(ask):
    response = ask(headers=accel("@named"))
    assert response.status == 200 and response.body.endswith(b" GET")


def test_arguments_go_with_the_target(site):
    response = site.get(respond(headers=accel("/again/x?a=%26&b")))
    assert b'"QUERY_STRING": "a=%26&b"' in response.body
    assert b'"PATH_INFO": "/again/x"' in response.body


def test_a_redirect_may_lead_to_another_application(site, proto):
    response = proto(site, "POST", respond(headers=accel("/again/x")), body=b"posted")
    assert response.status == 200 and b'"REQUEST_METHOD": "GET"' in response.body


def test_a_post_becomes_a_get(ask):
    response = ask("POST", headers=accel("/private/file.txt"))
    assert (response.status, response.body) == (200, FILE)


def test_a_named_location_keeps_the_method(ask):
    assert ask("POST", headers=accel("@named")).body.endswith(b" POST")


def test_head_stays_head(ask):
    response = ask("HEAD", headers=accel("/private/file.txt"))
    assert (response.status, response.body) == (200, b"")
    assert response.header("Content-Length") == str(len(FILE))


@pytest.mark.parametrize("target,status", [
    ("/private/missing", 404), ("/private/../../etc/passwd", 404), ("", 404), ("/page/no", 200),
    ("@nowhere", 500), ("/private/file.txt%00", 404),
])
def test_a_bad_target_is_an_error_of_nginx(ask, target, status):
    assert ask(headers=accel(target)).status == status


def test_a_redirect_in_circles_is_a_500(site):
    response = site.get(respond(headers=accel("/loop?" + respond(headers=accel("/respond"))[9:])))
    assert response.status == 500


@pytest.mark.parametrize("kind", ["list", "generator", "iterator", "write"])
def test_what_the_application_yields_is_dropped_and_closed(site, proto, kind):
    before = len(site.events("close"))
    response = proto(site, "GET", respond(
        headers=accel("/private/file.txt"), kind=kind, body=[b"not", b"this"]))
    assert (response.status, response.body, response.complete) == (200, FILE, True)
    if kind in ("generator", "iterator"):
        site.wait_event("close", before + 1)
        site.barrier()
        assert len(site.events("close")) == before + 1


def test_a_redirect_in_a_subrequest_is_obeyed(site):
    with open(f"{site.dir}/html/ssi.html", "w") as file:
        path = respond(headers=accel("/private/file.txt"))
        file.write(f'[<!--# include virtual="{path}" -->]')
    assert site.get("/ssi.html").body == b"[" + FILE + b"]"


def test_the_connection_goes_on_after_a_redirect(site):
    with site.connect() as client:
        path = respond(headers=accel("/private/file.txt"))
        client.send(http.build("GET", path, close=False) * 3 + http.build("GET", "/static"))
        for _ in range(3):
            assert client.read_response().body == FILE
        assert client.read_response().body == b"static"


def test_expires_of_the_target_replaces_that_of_the_application(ask):
    response = ask(headers=accel("/typed/file.txt", ("Cache-Control", "private"),
                                 ("Cache-Control", "no-store"), ("Expires", "0")))
    assert response.header("Cache-Control") == "max-age=3600"
    assert response.header("Content-Type") == "text/typed"


def test_no_accel_header_reaches_the_client(ask):
    headers = [("X-Accel-Expires", "0"), ("x-accel-limit-rate", "0"), ("X-ACCEL-Buffering", "no"),
               ("X-Accel-Charset", "utf-8"), ("X-Accel", "own"), ("X-Accel-Own", "own")]
    response = ask(headers=headers, body=[b"x"])
    assert (response.status, response.body) == (200, b"x")
    assert [name for name, _ in response.headers if name.lower().startswith("x-accel")] == [
        "X-Accel", "X-Accel-Own"]


@pytest.mark.parametrize("kind,charset,seen", [
    ("text/html", "koi8-r", "text/html; charset=koi8-r"),
    ("text/html", "off", "text/html"),
    ("text/html; charset=utf-8", "koi8-r", "text/html; charset=utf-8"),
    ("image/png", "koi8-r", "image/png; charset=koi8-r"),
])
def test_a_type_without_a_charset_gets_the_one_for_nginx(ask, kind, charset, seen):
    response = ask(headers=[("Content-Type", kind), ("X-Accel-Charset", charset)], body=[b"x"])
    assert response.header("Content-Type") == seen


@pytest.mark.parametrize("value", ["1000", "0", "x", "", "-1", "99999999999999999999"])
def test_the_rate_is_limited_as_the_application_says(ask, value):
    size = 2000
    # nginx sends the share of the first second at once.
    with takes(0.9 if value == "1000" else 0):
        response = ask(headers=[("X-Accel-Limit-Rate", value)], body=[b"x" * size])
    assert (response.status, len(response.body)) == (200, size)
