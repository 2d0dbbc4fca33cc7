"""What the application finds in environ (PEP 3333, environ Variables)."""

import json

import pytest
from lib import h2client, http

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    listen unix:@DIR@/u.sock;
    location /slashes { wsgi_app environ:application; }
    location /moved {
        root @DIR@/other;
        set $seen $document_root;
        error_page 404 /environ/moved;
        try_files /missing =404;
    }
    location / { wsgi_app environ:bare; }
"""
HTTP = """
    server {
        listen 127.0.0.1:@PORT3@;
        server_name "";
        merge_slashes off;
        underscores_in_headers on;
        large_client_header_buffers 8 64k;
        location / { wsgi_app environ:bare; }
    }
    server {
        listen unix:@DIR@/nameless.sock;
        server_name "";
        location / { wsgi_app environ:bare; }
    }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(apps=["environ", "mutate"], server=SERVER, http=HTTP)


def shown(response):
    assert response.status == 200, response
    return json.loads(response.body)


def environ(response):
    return shown(response)["values"]


def odd_server(site):
    return site.ports["PORT3"]


def test_environ_is_a_dict_and_its_values_are_exactly_str(site):
    answer = shown(site.post("/environ?a=b", body=b"x", headers={"X-A": "b"}))
    assert answer["type"] == "dict"
    types = {kind for name, kind in answer["types"].items() if not name.startswith("wsgi.")}
    assert types == {"str"}


def test_environ_is_a_fresh_dict_for_each_request(site):
    for _ in range(3):
        assert site.get("/mutate", headers={"X-A": "1"}).body == b"[] False GET"


def test_the_document_root_is_that_of_the_location_that_answers(site):
    """nginx keeps the value that the first location has asked for."""
    response = site.get("/moved")
    assert json.loads(response.body)["values"]["DOCUMENT_ROOT"] == f"{site.dir}/html"


def test_every_built_in_variable_is_there(site):
    found = environ(site.post("/environ/x?q=1", body=b"abc", headers={"Content-Type": "a/b"}))
    assert found["REQUEST_METHOD"] == "POST"
    assert found["QUERY_STRING"] == "q=1"
    assert found["CONTENT_TYPE"] == "a/b"
    assert found["CONTENT_LENGTH"] == "3"
    assert found["REQUEST_URI"] == "/environ/x?q=1"
    assert found["PATH_INFO"] == "/environ/x"
    assert found["SCRIPT_NAME"] == ""
    assert found["DOCUMENT_ROOT"] == f"{site.dir}/html"
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert found["REQUEST_SCHEME"] == "http"
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["REMOTE_PORT"].isdigit()
    assert found["SERVER_PORT"] == str(site.port)
    assert found["SERVER_NAME"] == "localhost"
    assert found["HTTP_HOST"] == "localhost"
    assert "HTTPS" not in found
    assert "REMOTE_USER" not in found


def test_the_path_is_decoded_to_bytes_shown_as_latin_1(site):
    found = environ(site.get("/a%20b/%C3%A9"))
    assert found["PATH_INFO"] == "/a b/\xc3\xa9"
    assert found["PATH_INFO"].encode("latin-1").decode("utf-8") == "/a b/é"
    assert found["REQUEST_URI"] == "/a%20b/%C3%A9"


def test_a_path_that_is_not_utf_8_arrives(site):
    assert environ(site.get("/%FF%FE"))["PATH_INFO"] == "/\xff\xfe"


def test_raw_high_bytes_in_uri_and_headers_arrive_as_latin_1(site):
    found = environ(site.get("/\xe9?\xff", headers={"X-A": "\x80\xff"}))
    assert found["PATH_INFO"] == "/\xe9"
    assert found["REQUEST_URI"] == "/\xe9?\xff"
    assert found["QUERY_STRING"] == "\xff"
    assert found["HTTP_X_A"] == "\x80\xff"


def test_an_encoded_slash_is_decoded_in_the_path_and_raw_in_request_uri(site):
    found = environ(site.get("/a%2Fb"))
    assert (found["PATH_INFO"], found["REQUEST_URI"]) == ("/a/b", "/a%2Fb")


@pytest.mark.parametrize("raw, path", [("//x", "/x"), ("/a/../b", "/b"), ("/a/./b", "/a/b")])
def test_the_path_is_normalised_as_nginx_does(site, raw, path):
    found = environ(site.get(raw))
    assert (found["PATH_INFO"], found["REQUEST_URI"]) == (path, raw)


def test_slashes_stay_when_nginx_does_not_merge_them(site):
    assert environ(site.get("/a//x", port=odd_server(site)))["PATH_INFO"] == "/a//x"


@pytest.mark.parametrize("uri", ["/%00", "/a b", "/a\x01"])
def test_a_bad_uri_never_reaches_the_application(site, uri):
    before = len(site.events("called"))
    assert site.get(uri).status == 400
    assert len(site.events("called")) == before


@pytest.mark.parametrize(
    "uri, query",
    [("/x", ""), ("/x?", ""), ("/x??", "?"), ("/x?a=%ff&b=1+2", "a=%ff&b=1+2"), ("/x?%20", "%20")],
)
def test_the_query_string_is_always_there_and_raw(site, uri, query):
    assert environ(site.get(uri))["QUERY_STRING"] == query


def test_content_variables_are_absent_without_a_body(site):
    found = environ(site.get("/environ"))
    assert [name for name in found if "CONTENT_" in name] == []


def test_content_variables_have_no_http_prefix(site):
    found = environ(site.post("/environ", body=b"x", headers={"Content-Type": "a/b"}))
    assert [name for name in found if name.startswith("HTTP_CONTENT")] == []


def test_an_empty_body_has_content_length_0(site):
    assert environ(site.post("/environ", headers={"Content-Length": "0"}))["CONTENT_LENGTH"] == "0"


def test_a_chunked_body_has_a_content_length_and_no_transfer_encoding(site):
    response = site.post(
        "/environ", body=http.chunked(b"abc", b"def"), headers={"Transfer-Encoding": "chunked"}
    )
    assert environ(response)["CONTENT_LENGTH"] == "6"
    assert "HTTP_TRANSFER_ENCODING" not in environ(response)


def test_repeated_headers_are_joined_with_a_comma(site):
    headers = [("X-A", "1"), ("X-B", "0"), ("X-A", "2"), ("x-a", "3")]
    assert environ(site.get("/environ", headers=headers))["HTTP_X_A"] == "1, 2, 3"


def test_the_fields_of_a_trace_arrive(site, proto):
    """Where libraries of OpenTelemetry look for them."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [("traceparent", parent), ("tracestate", "a=1,b=2"), ("baggage", "tenant=7")]
    found = environ(proto(site, "GET", "/environ", headers))
    wanted = {"HTTP_TRACEPARENT": parent, "HTTP_TRACESTATE": "a=1,b=2", "HTTP_BAGGAGE": "tenant=7"}
    assert {name: found.get(name) for name in wanted} == wanted


def test_repeated_known_headers_are_joined_with_a_comma(site):
    headers = [("Accept", "a/b"), ("Accept", "c/d"), ("X-Forwarded-For", "1"),
               ("X-Forwarded-For", "2")]
    found = environ(site.get("/environ", headers=headers))
    assert found["HTTP_ACCEPT"] == "a/b, c/d"
    assert found["HTTP_X_FORWARDED_FOR"] == "1, 2"


def test_cookies_are_joined_with_a_semicolon(site):
    headers = [("Cookie", "a=1"), ("Cookie", "b=2"), ("Cookie", "c=3")]
    assert environ(site.get("/environ", headers=headers))["HTTP_COOKIE"] == "a=1; b=2; c=3"
    over_h2 = h2client.request(site.ports["PORT2"], "GET", "/environ", headers)
    assert environ(over_h2)["HTTP_COOKIE"] == "a=1; b=2; c=3"


@pytest.mark.parametrize(
    "name, variable",
    [("Content-Type", "CONTENT_TYPE"), ("Authorization", "HTTP_AUTHORIZATION"),
     ("Range", "HTTP_RANGE")],
)
def test_only_the_first_of_a_repeated_single_header_counts(site, name, variable):
    response = site.post("/environ", body=b"x", headers=[(name, "a/one"), (name, "b/two")])
    # nginx may refuse such a request itself; a joined value is what must not be.
    assert response.status == 400 or environ(response)[variable] == "a/one"


def test_a_header_with_an_underscore_is_dropped(site):
    headers = [("X_User", "evil"), ("X-User", "good")]
    assert environ(site.get("/environ", headers=headers))["HTTP_X_USER"] == "good"
    assert "HTTP_X_USER" not in environ(site.get("/environ", headers=headers[:1]))


@pytest.mark.parametrize("order", [1, -1], ids=["underscore first", "dash first"])
def test_a_header_with_an_underscore_never_overrides_one_with_a_dash(site, order):
    headers = [("X_User", "evil"), ("X-User", "good")][::order]
    found = environ(site.get("/", headers=headers, port=odd_server(site)))
    assert found["HTTP_X_USER"] == "good"


def test_a_header_with_an_underscore_alone_arrives_when_nginx_allows_it(site):
    found = environ(site.get("/", headers={"X_User": "me"}, port=odd_server(site)))
    assert found["HTTP_X_USER"] == "me"


def test_a_proxy_header_does_not_become_http_proxy(site):
    found = environ(site.get("/environ", headers={"Proxy": "http://evil"}))
    assert "HTTP_PROXY" not in found


def test_the_host_keeps_the_port_the_client_gave(site):
    assert environ(site.get("/environ", host="ex.org:81"))["HTTP_HOST"] == "ex.org:81"


def test_the_host_of_an_absolute_uri_wins(site):
    found = environ(site.get("http://one.org:81/environ?x", host="two.org"))
    assert found["HTTP_HOST"] == "one.org:81"
    assert found["PATH_INFO"] == "/environ"


def test_authority_is_the_host_in_http_2(site):
    port = site.ports["PORT2"]
    found = environ(h2client.request(port, "GET", "/environ", authority="ex.org:81"))
    assert found["HTTP_HOST"] == "ex.org:81"
    assert [name for name in found if "AUTHORITY" in name or ":" in name] == []


def test_the_protocol_is_named(site):
    assert environ(site.get("/environ", version="1.0"))["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert environ(site.get("/environ"))["SERVER_PROTOCOL"] == "HTTP/1.1"
    over_h2 = h2client.request(site.ports["PORT2"], "GET", "/environ")
    assert environ(over_h2)["SERVER_PROTOCOL"] == "HTTP/2.0"


def test_http_0_9_gets_a_body_without_a_head(site):
    with site.connect() as client:
        client.send(b"GET /environ\r\n")
        body, how = client.read_to_end()
    assert how == "closed"
    assert json.loads(body)["values"]["SERVER_PROTOCOL"] == "HTTP/0.9"


def test_a_unix_socket_has_a_server_name_and_a_port(site):
    found = environ(http.request(None, "GET", "/environ", unix=f"{site.dir}/u.sock"))
    assert found["SERVER_NAME"] == "localhost"
    assert found["SERVER_PORT"] == "80"
    assert found["REMOTE_ADDR"] == "unix:"


def test_a_server_without_a_name_takes_the_name_from_the_host(site):
    nameless = f"{site.dir}/nameless.sock"
    found = environ(http.request(None, "GET", "/", unix=nameless, host="ex.org:81"))
    assert found["SERVER_NAME"] == "ex.org"
    found = environ(site.get("/", host="ex.org:81", port=odd_server(site)))
    assert found["SERVER_NAME"] == "ex.org"
    assert found["SERVER_PORT"] == str(odd_server(site))


def test_a_hundred_kilobytes_of_headers_arrive(site):
    headers = {"X-A": "a" * 50_000, "X-B": "b" * 50_000}
    found = environ(site.get("/", headers=headers, port=odd_server(site)))
    assert len(found["HTTP_X_A"] + found["HTTP_X_B"]) == 100_000


def test_headers_of_exactly_the_old_protocol_limits_arrive(site):
    for size in (65_470, 65_500):
        response = site.get("/", headers={"X-A": "a" * size}, port=odd_server(site))
        assert len(environ(response)["HTTP_X_A"]) == size


@pytest.mark.parametrize("length", [255, 256, 300, 5000])
def test_a_long_header_name_arrives(site, length):
    name = "X" * length
    found = environ(site.get("/", headers={name: "v"}, port=odd_server(site)))
    assert found[f"HTTP_{name}"] == "v"


def test_many_headers_arrive(site):
    headers = [(f"X-{number}", str(number)) for number in range(900)]
    found = environ(site.get("/", headers=headers, port=odd_server(site)))
    assert all(found[f"HTTP_X_{number}"] == str(number) for number in range(900))


@pytest.mark.parametrize("method", ["get", "PROPFIND", "X" * 1000, "OPTIONS"])
def test_any_method_nginx_accepts_arrives_as_it_is(site, method):
    response = http.request(site.port, method, "/any")
    assert response.status in (400, 405) or environ(response)["REQUEST_METHOD"] == method


def test_the_wsgi_variables_have_the_right_values_and_types(site):
    answer = shown(site.get("/"))
    values, types = answer["values"], answer["types"]
    assert values["wsgi.version"] == [1, 0] and types["wsgi.version"] == "tuple"
    assert values["wsgi.url_scheme"] == "http" and types["wsgi.url_scheme"] == "str"
    assert values["wsgi.run_once"] is False
    assert values["wsgi.input_terminated"] is True
    assert types["wsgi.multithread"] == types["wsgi.multiprocess"] == "bool"
    assert "wsgi.file_wrapper" in values
    assert "wsgi.input" in values and "wsgi.errors" in values
