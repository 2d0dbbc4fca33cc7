"""The rest of nginx around an application: filters, subrequests, redirects, logs."""

import gzip
import hashlib
import threading

import pytest
from lib import h2client, http
from lib.load import at_once
from lib.poll import until

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location / { wsgi_app pages:application; }
    location = /trailing { wsgi_app stream:trailing; }
    location = /part { wsgi_app pages:application; }
    location /gzip/ { gzip on; gzip_min_length 1; gzip_types *; wsgi_app pages:application; }
    location /sub/ { sub_filter hello goodbye; sub_filter_once off; wsgi_app pages:application; }
    location /ssi/ { ssi on; wsgi_app pages:application; }
    location = /static.html { ssi on; root @DIR@/html; default_type text/html; }
    location /added/ { add_header X-Added yes always; expires 1h; wsgi_app pages:application; }
    location /intercept/ { error_page 404 500 = /error; wsgi_app pages:application; }
    location /named/ { error_page 404 500 = @named; return 404; }
    location @named { wsgi_app pages:application; }
    location /tried/ { try_files $uri @named; }
    location /rewritten/ { rewrite ^/rewritten/(.*)$ /$1 last; }
    location /guarded/ {
        auth_request /auth;
        wsgi_app pages:application;
    }
    location = /auth { internal; wsgi_app pages:application; }
    location /consistent/ { auth_request /lengths; wsgi_app upload:application; }
    location = /lengths { internal; wsgi_app consistent:application; }
    location /guarded_static { auth_request /auth; alias @DIR@/html/guarded.html; }
    location /limited/ {
        wsgi_app pages:application;
        limit_except GET { deny all; }
    }
    location /except/ {
        limit_except GET { wsgi_app plain:application; }
        return 200 static;
    }
    location /if/ {
        if ($arg_app) { wsgi_app plain:application; break; }
        return 200 static;
    }
    location /nested/ {
        wsgi_app pages:application;
        location /nested/static/ { alias @DIR@/html/; }
    }
    location /inherit/ {
        wsgi_app pages:application;
        if ($arg_header) { add_header X-If yes; }
        limit_except GET { auth_basic off; }
    }
    location /mirrored/ { mirror /mirror_target; wsgi_app pages:application; }
    location = /mirror_target { internal; wsgi_app plain:application; }
"""
HTTP = "log_format short '$request_method $uri $status $body_bytes_sent';"
TEXT = b"<html><head></head><body>hello, a page of some length</body></html>\n" * 40


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        server=SERVER + "access_log @DIR@/short.log short;", http=HTTP, apps=["respond"]
    )


@pytest.mark.parametrize("path", ["/gzip/page", "/gzip/stream", "/gzip/sized"])
def test_gzip_compresses(site, proto, path):
    response = proto(site, "GET", path, headers={"Accept-Encoding": "gzip"})
    if proto.name == "http/1.0":  # gzip_http_version is 1.1
        assert response.header("Content-Encoding") is None
        return
    assert response.header("Content-Encoding") == "gzip"
    assert response.complete
    assert gzip.decompress(response.body) == TEXT * (3 if "stream" in path else 1)


def test_gzip_leaves_what_the_application_has_encoded(site):
    response = site.get("/gzip/encoded", headers={"Accept-Encoding": "gzip"})
    assert response.header("Content-Encoding") == "br"
    assert response.body == TEXT


@pytest.mark.parametrize("path", ["/sub/page", "/sub/stream", "/sub/sized"])
def test_sub_filter_replaces(site, proto, path):
    response = proto(site, "GET", path)
    assert response.complete
    assert response.body == TEXT.replace(b"hello", b"goodbye") * (3 if "stream" in path else 1)


def test_an_application_answers_to_ssi_in_an_application(site, proto):
    response = proto(site, "GET", "/ssi/ssi")
    assert response.complete
    assert response.body == b"<a>[part n=1 GET]<b>[part n=2 GET]</b></a>"


def test_an_application_answers_to_ssi_in_a_file(site):
    site.write("html/static.html", '<!--# include virtual="/part?n=3" -->')
    assert site.get("/static.html").body == b"[part n=3 GET]"


def test_an_ssi_part_may_end_after_its_last_chunk(site, proto):
    site.write("html/static.html", '<!--# include virtual="/trailing" --> two')
    before = len(site.events("waiting end"))
    gate = site.gate("end")
    opener = threading.Thread(
        target=lambda: (site.wait_event("waiting end", count=before + 1), gate.open())
    )
    opener.start()
    response = proto(site, "GET", "/static.html")
    opener.join()
    assert (response.body, response.complete) == (b"one two", True)


def test_if_modified_since_gives_304(site):
    headers = {"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}
    response = site.get("/sized", headers=headers)
    assert (response.status, response.body) == (304, b"")


def test_if_none_match_gives_304(site):
    assert site.get("/sized", headers={"If-None-Match": '"e"'}).status == 304
    assert site.get("/sized", headers={"If-None-Match": '"f"'}).status == 200


def test_gzip_takes_back_the_ranges_of_the_application(site):
    assert site.get("/gzip/ranged").header("Accept-Ranges") == "bytes"
    response = site.get("/gzip/ranged", headers={"Accept-Encoding": "gzip"})
    assert response.header("Content-Encoding") == "gzip"
    assert response.header("Accept-Ranges") is None


def test_expires_of_the_configuration_replaces_that_of_the_application(site):
    assert "2015" in site.get("/expired").header("Expires")
    assert "2015" not in site.get("/added/expired").header("Expires")


def test_headers_of_the_configuration_are_added(site):
    response = site.get("/added/page")
    assert response.header("X-Added") == "yes"
    assert "max-age=3600" in response.header("Cache-Control")


def test_an_error_answer_of_the_application_passes_error_page(site, proto):
    response = proto(site, "GET", "/intercept/missing")
    assert (response.status, response.body) == (404, b"the application's own 404")


def test_an_exception_goes_to_error_page(site, proto):
    response = proto(site, "GET", "/intercept/fails")
    assert response.status == 200
    assert response.body == b"error page for /intercept/fails GET"


@pytest.mark.parametrize("path", ["/named/x", "/tried/nothing"])
def test_a_named_location_can_be_an_application(site, path):
    assert site.get(path).body == f"error page for {path} GET".encode()


def test_a_file_goes_before_the_application_with_try_files(site):
    site.write("html/tried/there", "a file")
    assert site.get("/tried/there").body == b"a file"


def test_a_rewritten_request_reaches_the_application(site):
    assert site.get("/rewritten/page").body == TEXT


@pytest.mark.parametrize("path", ["/guarded/page", "/guarded_static"])
@pytest.mark.parametrize("user, status", [("ann", 200), (None, 401), ("eve", 403), ("broken", 500)])
def test_auth_request_asks_the_application(site, path, user, status):
    site.write("html/guarded.html", "guarded")
    response = site.get(path, headers={"X-User": user} if user else {})
    assert response.status == status
    if status == 401:
        assert response.header("WWW-Authenticate") == 'Basic realm="app"'


def test_auth_request_with_a_body_leaves_the_body_to_the_guarded_application(site):
    response = site.post("/guarded/page", body=b"x" * 50_000, headers={"X-User": "ann"})
    assert response.body == TEXT


@pytest.mark.parametrize("size", [10, 50_000])
def test_a_subrequest_sees_a_length_that_fits_its_input(site, size):
    body = b"x" * size
    response = site.post("/consistent/x", body=body, headers={"Content-Type": "a/b"})
    assert response.text == f"{size} {hashlib.sha256(body).hexdigest()}"


def test_limit_except_denies_other_methods(site):
    assert site.get("/limited/page").status == 200
    assert site.post("/limited/page").status == 403


def test_limit_except_may_name_an_application(site):
    assert site.post("/except/x").body == b"plain"


def test_if_may_name_an_application(site):
    assert site.get("/if/x?app=1").body == b"plain"
    assert site.get("/if/x").body == b"static"


def test_if_and_limit_except_inherit_the_application(site):
    response = site.get("/inherit/page?header=1")
    assert (response.body, response.header("X-If")) == (TEXT, "yes")
    assert site.post("/inherit/page").body == TEXT


def test_a_nested_location_does_not_inherit_the_application(site):
    site.write("html/nested.txt", "nested file")
    assert site.get("/nested/static/nested.txt").body == b"nested file"
    assert site.get("/nested/static/none").status == 404
    assert site.get("/nested/page").body == TEXT


def test_a_mirror_may_be_an_application(site):
    before = len(site.events("plain"))
    assert site.get("/mirrored/page").body == TEXT
    site.wait_event("plain", count=before + 1)


def test_keep_alive_serves_many_requests_on_one_connection(site):
    with site.connect() as client:
        for _ in range(100):
            client.send(http.build("GET", "/sized", close=False))
            response = client.read_response()
            assert (response.status, response.body, response.rest) == (200, TEXT, b"")


def test_keep_alive_in_http_1_0_with_a_content_length(site):
    with site.connect() as client:
        for _ in range(2):
            client.send(http.build("GET", "/sized", version="1.0",
                                   headers={"Connection": "keep-alive"}))
            assert client.read_response().body == TEXT


def test_pipelined_requests_are_answered_in_order(site):
    with site.connect() as client:
        paths = ["/page", "/missing", "/part?n=1", "/stream", "/static", "/part?n=2"]
        client.send(b"".join(http.build("GET", path, close=False) for path in paths * 5))
        for _ in range(5):
            found = [client.read_response() for _ in paths]
            assert [r.status for r in found] == [200, 404, 200, 200, 200, 200]
            assert found[2].body == b"[part n=1 GET]"
            assert found[3].body == TEXT * 3
            assert found[5].body == b"[part n=2 GET]"


def test_a_bad_request_ends_the_pipeline(site):
    before = len(site.events())
    with site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + http.build("GET", "/page"))
        answer, _ = client.read_to_end()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert len(site.events()) == before


def test_requests_at_once_on_one_http_2_connection_get_their_own_answers(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        streams = {n: client.send("GET", f"/part?n={n}") for n in range(50)}
        for number, stream in streams.items():
            assert client.wait(stream).body == b"[part n=%d GET]" % number


def test_the_access_log_has_status_and_size(site):
    # In HTTP/1.0: without the frames of chunks, which nginx counts as well.
    for path in ("/page", "/missing", "/fails"):
        site.get(path, version="1.0")
    wanted = [f"GET /page 200 {len(TEXT)}", "GET /missing 404 25", "GET /fails 500 "]

    def logged():
        # Written when a request has ended, which may be after its answer has arrived.
        with open(f"{site.dir}/short.log") as file:
            lines = file.read().split("\n")
        return all(any(line.startswith(start) for line in lines) for start in wanted)

    until(logged, what=f"{wanted} in the access log")


def test_files_sent_by_threads_and_applications_do_not_disturb_each_other(nginx):
    """Both wake the event loop from threads; nginx's own way of it has one global handler."""
    site = nginx(
        main="thread_pool files threads=4;", apps=["plain"],
        server="location /files/ { alias @DIR@/html/; aio threads=files; }",
    )
    body = bytes(range(256)) * 4000
    site.write("html/file", body)

    def ask(number):
        if number % 2:
            return site.get("/plain").body == b"plain"
        return site.get("/files/file").body == body

    assert all(at_once(ask, range(400), threads=8))
