"""What passes of a response to the client: wsgi_hide_header and its kin.

Each request is also made through uwsgi_pass to the same application, with the uwsgi_ directives of
the same names.
"""

import os

import pytest
from lib import http
from lib.poll import takes
from lib.reference import UwsgiReference
from lib.respond import Expr, respond

BACKENDS = {
    "wsgi": "wsgi_app respond:application;",
    "uwsgi": """
        uwsgi_pass 127.0.0.1:%d;
        uwsgi_param QUERY_STRING $query_string;
        uwsgi_param REQUEST_METHOD $request_method;
    """,
}
# P: the prefix of the directives; PASS: who answers.
LOCATIONS = """
    location /P/plain { PASS }
    location /P/hide { PASS P_hide_header X-Own; P_hide_header set-cookie; P_hide_header Server;
        P_hide_header Date; P_hide_header Content-Type; P_hide_header Content-Length; }
    location /P/pass { PASS P_pass_header x-accel-expires; P_pass_header X-Accel-Redirect;
        P_pass_header X-Accel-Charset; }
    location /P/both { PASS P_hide_header X-Own; P_pass_header X-Own; }
    location /P/ignore { PASS P_ignore_headers X-Accel-Redirect x-accel-charset;
        P_ignore_headers X-Accel-Limit-Rate Set-Cookie Expires; P_pass_header X-Accel-Redirect; }
    location /P/intercept { PASS P_intercept_errors on;
        error_page 401 403 404 408 502 /page; error_page 500 = @named; error_page 304 =200 /page;
        error_page 503 = /again; }
    location /P/nopages { PASS P_intercept_errors on; }
    location /P/ranges { PASS P_force_ranges on; }
    location /P/norange { PASS }
"""
INHERITED = """
    server { listen 127.0.0.1:@PORT3@;
        P_hide_header X-A; P_hide_header X-B; P_pass_header X-Accel-Expires;
        P_intercept_errors on; P_force_ranges on; P_ignore_headers X-Accel-Redirect;
        error_page 404 /page;
        location = /page { return 200 page; }
        location = /inherits { PASS }
        location = /hides { PASS P_hide_header X-C; }
        location = /passes { PASS P_pass_header X-B; P_pass_header X-Accel-Charset; }
        location = /ignores { PASS P_ignore_headers Vary; }
        location = /off { PASS P_intercept_errors off; P_force_ranges off; }
        location = /if { PASS if ($arg_q) { set $x 1; } }
        location /nest { P_hide_header X-C; location = /nested { PASS } }
    }
"""
SERVER = """
    location = /page { internal; return 200 "page $request_method"; }
    location = /again { internal; wsgi_app environ:application; }
    location @named { return 200 "named $request_method"; }
    location /private/ { internal; alias @DIR@/html/; }
    location = /charset { charset koi8-r; }
    location = /ssi.html { ssi on; root @DIR@/html; }
"""
FILE = b"0123456789" * 100


@pytest.fixture(scope="module")
def site(shared_nginx):
    with UwsgiReference("respond", EVENTS=os.devnull) as reference:
        server, http_ = SERVER, "wsgi_hide_header X-Http; uwsgi_hide_header X-Http;"
        for number, (prefix, backend) in enumerate(BACKENDS.items()):
            backend = backend.replace("%d", str(reference.port))
            for part in (LOCATIONS, INHERITED):
                text = part.replace("P_", f"{prefix}_")
                text = text.replace("/P/", f"/{prefix}/").replace("PASS", backend)
                text = text.replace("@PORT3@", f"@PORT{3 + number}@")
                if part is LOCATIONS:
                    server += text
                else:
                    http_ += text
        site = shared_nginx(server=server + "listen 127.0.0.1:@PORT2@ http2;", http=http_)
        site.write("html/file.txt", FILE)
        yield site


@pytest.fixture(params=BACKENDS)
def ask(request, site):
    """The answer in a location, from here or through uwsgi_pass."""

    def send(place, method="GET", request_headers=(), **spec):
        query = respond(**spec).partition("?")[2]
        return http.request(site.port, method, f"/{request.param}/{place}?{query}",
                            headers=request_headers)

    return send


@pytest.fixture(params=BACKENDS)
def inherited(request, site):
    port = {"wsgi": "PORT3", "uwsgi": "PORT4"}[request.param]

    def send(place, request_headers=(), **spec):
        query = respond(**spec).partition("?")[2]
        return http.request(site.ports[port], "GET", f"/{place}?{query}", headers=request_headers)

    return send


def names(response):
    own = {"Connection", "Content-Length", "Transfer-Encoding", "Date", "Server", "Content-Type",
           "Accept-Ranges"}
    return [name for name, _ in response.headers if name not in own]


HEADERS = [("X-Own", "1"), ("X-OWN", "2"), ("Set-Cookie", "a"), ("Set-Cookie", "b"),
           ("X-Other", "3"), ("X-Own-Not", "4")]


def test_hidden_headers_do_not_reach_the_client(ask):
    assert names(ask("hide", headers=HEADERS)) == ["X-Other", "X-Own-Not"]
    assert names(ask("plain", headers=HEADERS)) == [name for name, _ in HEADERS]


def test_what_nginx_sends_itself_takes_the_place_of_a_hidden_header(ask):
    own = [("Server", "own"), ("Date", "never"), ("Content-Type", "own/type")]
    hidden, shown = ask("hide", headers=own, body=[b"x"]), ask("plain", headers=own, body=[b"x"])
    assert hidden.header("Server").startswith("nginx") and hidden.header("Date") != "never"
    assert hidden.header("Content-Type") is None
    # As uwsgi_pass does, and unlike proxy_pass.
    assert [shown.header(name) for name, _ in own] == [value for _, value in own]


def test_a_length_cannot_be_hidden(ask):
    response = ask("hide", headers=[("Content-Length", "1")], body=[b"x"])
    assert response.header("Content-Length") == "1"


def test_a_status_header_is_a_header_like_any_other(ask):
    # Unlike with fastcgi_pass.
    response = ask("plain", headers=[("Status", "404 x")], body=[b"x"])
    assert (response.status, response.header("Status")) == (200, "404 x")


def test_passed_headers_reach_the_client_and_are_obeyed(ask):
    headers = [("X-Accel-Expires", "5"), ("X-Accel-Charset", "koi8-r"), ("X-Accel-Buffering", "no"),
               ("Content-Type", "text/html")]
    response = ask("pass", headers=headers, body=[b"x"])
    assert names(response) == ["X-Accel-Expires", "X-Accel-Charset"]
    assert response.header("Content-Type") == "text/html; charset=koi8-r"


def test_a_passed_redirect_is_obeyed_all_the_same(ask):
    response = ask("pass", headers=[("X-Accel-Redirect", "/private/file.txt")])
    assert response.body == FILE
    assert response.header("X-Accel-Redirect") is None


def test_pass_takes_back_what_hide_says(ask):
    assert names(ask("both", headers=HEADERS)) == [name for name, _ in HEADERS]


@pytest.mark.parametrize("kind", ["list", "generator", "iterator", "write", "late", "tuple"])
def test_an_ignored_redirect_has_a_body_of_its_own(ask, kind):
    headers = [("X-Accel-Redirect", "/private/file.txt"), ("X-Accel-Charset", "koi8-r"),
               ("Content-Type", "text/html"), ("Set-Cookie", "a"), ("Expires", "0"),
               ("X-Accel-Limit-Rate", "10")]
    response = ask("ignore", headers=headers, body=[b"own ", b"body", b"." * 100], kind=kind)
    assert (response.status, response.body) == (200, b"own body" + b"." * 100)
    assert names(response) == ["X-Accel-Redirect", "Set-Cookie", "Expires"]
    assert response.header("Content-Type") == "text/html"
    assert response.complete


# -- errors


@pytest.mark.parametrize("status,want,body", [
    ("404 Not Found", 404, b"page GET"), ("403 No", 403, b"page GET"),
    ("500 Oh", 200, b"named GET"),
    ("502 Bad", 502, b"page GET"), ("304 Same", 200, b"page GET"), ("410 Gone", 410, b"own"),
    ("200 OK", 200, b"own"), ("302 Found", 302, b"own"), ("599 x", 599, b"own"),
])
@pytest.mark.parametrize("kind", ["list", "generator"])
def test_an_error_with_a_page_is_intercepted(ask, status, want, body, kind):
    headers = [("X-Own", "x"), ("Set-Cookie", "a=b"), ("Content-Type", "own/type")]
    response = ask("intercept", status=status, headers=headers, body=[b"own"], kind=kind)
    assert (response.status, response.body, response.complete) == (want, body, True)
    assert response.all("X-Own") == (["x"] if body == b"own" else [])
    assert response.all("Set-Cookie") == (["a=b"] if body == b"own" else [])


@pytest.mark.parametrize("place", ["plain", "nopages"])
@pytest.mark.parametrize("status", [404, 500, 401])
def test_an_error_without_a_page_is_not_intercepted(ask, place, status):
    response = ask(place, status=f"{status} x", body=[b"own"])
    assert (response.status, response.body) == (status, b"own")


def test_a_challenge_is_kept_for_the_401(ask):
    headers = [("X-Own", "x"), ("WWW-Authenticate", 'Basic realm="own"')]
    response = ask("intercept", status="401 No", headers=headers, body=[b"own"])
    assert (response.status, response.body) == (401, b"page GET")
    assert response.header("WWW-Authenticate") == 'Basic realm="own"'
    assert response.header("X-Own") is None
    assert ask("intercept", status="403 No", headers=headers).header("WWW-Authenticate") is None


def test_an_intercepted_408_closes_the_connection(ask):
    # A 408 of the server is about its client: nginx has nothing to say to it.
    assert ask("intercept", status="408 Late", body=[b"own"]).end == "nothing"


def test_an_error_goes_before_a_redirect(ask):
    headers = [("X-Accel-Redirect", "/private/file.txt")]
    response = ask("intercept", status="404 x", headers=headers)
    assert (response.status, response.body) == (404, b"page GET")


def test_the_rate_of_an_intercepted_response_is_that_of_the_page(ask):
    with takes(0.9):
        path = [("X-Accel-Limit-Rate", "50")]
        assert ask("intercept", status="404 x", headers=path).body == b"page GET"


@pytest.mark.parametrize("method,body", [("POST", b"page GET"), ("HEAD", b"")])
def test_the_method_of_an_intercepted_request(ask, method, body):
    response = ask("intercept", method, status="404 x", body=[b"own"])
    assert (response.status, response.body) == (404, body)


def test_an_intercepted_error_may_lead_to_another_application(ask):
    response = ask("intercept", "POST", status="503 x")
    assert response.status == 200 and b'"REQUEST_METHOD": "GET"' in response.body


@pytest.mark.parametrize("kind", ["generator", "iterator"])
def test_an_intercepted_application_is_closed_and_its_thread_goes_on(site, proto, kind):
    before = len(site.events("close"))
    query = respond(status="404 x", body=Expr("iter(lambda: b'x' * 10_000, 0)"), kind=kind)
    response = proto(site, "GET", "/wsgi/intercept?" + query.partition("?")[2])
    assert (response.status, response.body) == (404, b"page GET")
    site.wait_event("close", before + 1)


def test_an_exception_behind_an_intercepted_head_changes_nothing(site, proto):
    query = respond(status="404 x", body=[b"own"], kind="generator", fail=Expr("ValueError()"))
    response = proto(site, "GET", "/wsgi/intercept?" + query.partition("?")[2])
    assert (response.status, response.body, response.complete) == (404, b"page GET", True)


def test_an_error_in_a_subrequest_is_intercepted(site):
    with open(f"{site.dir}/html/ssi.html", "w") as file:
        query = respond(status="500 x", body=[b"own"]).partition("?")[2]
        file.write(f'[<!--# include virtual="/wsgi/intercept?{query}" -->]')
    assert site.get("/ssi.html").body == b"[named GET]"


def test_the_connection_goes_on_after_an_intercepted_error(site):
    path = "/wsgi/intercept?" + respond(status="404 x", body=[b"own"]).partition("?")[2]
    with site.connect() as client:
        client.send(http.build("GET", path, close=False) * 3 + http.build("GET", "/static"))
        for _ in range(3):
            assert client.read_response().body == b"page GET"
        assert client.read_response().body == b"static"


# -- ranges

BODY = b"0123456789" * 10


@pytest.mark.parametrize("headers", [[], [("Accept-Ranges", "none")], [("Accept-Ranges", "bytes")]])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_forced_ranges_are_of_any_response_with_a_length(ask, method, headers):
    headers = [*headers, ("Content-Length", "100")]
    response = ask("ranges", method, {"Range": "bytes=5-14"}, headers=headers, body=[BODY])
    assert (response.status, response.body) == (206, BODY[5:15])
    assert response.header("Content-Range") == "bytes 5-14/100"
    whole = ask("ranges", method, headers=headers, body=[BODY])
    assert (whole.status, whole.header("Accept-Ranges")) == (200, "bytes")


def test_a_range_is_not_forced_without_a_length_or_of_other_statuses(ask):
    for status, kind in (("200 OK", "generator"), ("201 x", "list")):
        response = ask("ranges", "GET", {"Range": "bytes=5-14"}, status=status, body=[BODY],
                       kind=kind)
        assert (response.status, response.body) == (int(status[:3]), BODY)


def test_several_forced_ranges_are_the_whole(ask):
    response = ask("ranges", "GET", {"Range": "bytes=0-1,5-6"}, headers=[("Content-Length", "100")],
                   body=[BODY])
    assert (response.status, response.body) == (200, BODY)


def test_a_range_is_not_forced_by_default(ask):
    response = ask("norange", "GET", {"Range": "bytes=5-14"}, headers=[("Content-Length", "100")],
                   body=[BODY])
    assert (response.status, response.body) == (200, BODY)


# -- inheritance

LETTERS = [("X-A", "1"), ("X-B", "2"), ("X-C", "3"), ("X-Http", "4"), ("X-Accel-Expires", "5"),
           ("X-Accel-Charset", "utf-8")]


@pytest.mark.parametrize("place,shown", [
    ("inherits", ["X-C", "X-Http", "X-Accel-Expires"]),
    ("if", ["X-C", "X-Http", "X-Accel-Expires"]),
    ("hides", ["X-A", "X-B", "X-Http", "X-Accel-Expires"]),
    ("passes", ["X-B", "X-C", "X-Http", "X-Accel-Charset"]),
    ("nested", ["X-A", "X-B", "X-Http", "X-Accel-Expires"]),
])
def test_hide_and_pass_are_inherited_each_for_itself(inherited, place, shown):
    assert names(inherited(place, headers=LETTERS)) == shown


def test_http_is_inherited_by_a_server_that_has_none(ask):
    assert names(ask("plain", headers=LETTERS)) == ["X-A", "X-B", "X-C"]
    assert "X-Http" in names(ask("hide", headers=LETTERS))


@pytest.mark.parametrize("place,intercepted", [("inherits", True), ("if", True), ("off", False)])
def test_flags_are_inherited(inherited, place, intercepted):
    response = inherited(place, status="404 x", body=[b"own"])
    assert response.body == (b"page" if intercepted else b"own")
    ranged = inherited(place, {"Range": "bytes=0-1"}, body=[BODY],
                       headers=[("Content-Length", "100")])
    assert ranged.status == (206 if intercepted else 200)


@pytest.mark.parametrize("place,body", [("inherits", b"own"), ("ignores", b"page")])
def test_ignored_headers_of_a_location_replace_those_of_the_server(inherited, place, body):
    assert inherited(place, headers=[("X-Accel-Redirect", "/page")], body=[b"own"]).body == body
