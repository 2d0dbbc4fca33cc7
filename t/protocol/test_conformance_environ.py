"""environ at its extremes, over every protocol: what clients may send, and what they must not."""

import json

import pytest
from lib import h2client, http

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    large_client_header_buffers 4 256k;
    location / { wsgi_app environ:bare; }
    location = /env { wsgi_app place:application; }
    location = /read { wsgi_app reader:application; }
    location = /user { wsgi_app environ:bare; wsgi_param HTTP_X_USER "$arg_user"; }
"""
HTTP = """
    server {
        listen 127.0.0.1:@PORT3@;
        listen 127.0.0.1:@PORT4@ http2;
        underscores_in_headers on;
        merge_slashes off;
        location / { wsgi_app environ:bare; }
        location = /user { wsgi_app environ:bare; wsgi_param HTTP_X_USER "$arg_user"; }
    }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, http=HTTP)


@pytest.fixture
def ask(site, proto):
    """The environ of a request; underscores: from the server that allows them."""

    def ask(path="/", headers=(), body=b"", method="GET", underscores=False):
        if proto.name == "h2":
            port = site.ports["PORT4" if underscores else "PORT2"]
            response = h2client.request(port, method, path, headers, body)
        else:
            response = http.request(
                site.ports["PORT3"] if underscores else site.port, method, path, headers=headers,
                body=body, version=proto.name.removeprefix("http/"),
            )
        assert response.status == 200, response
        return json.loads(response.body)["values"]

    return ask


@pytest.mark.parametrize(
    "raw, path",
    [("/a%20b/%C3%A9", "/a b/\xc3\xa9"), ("/%FF%FE", "/\xff\xfe"), ("/\xff\x80", "/\xff\x80"),
     ("/a%2Fb%2f", "/a/b/"), ("//x", "/x"), ("/a/../b", "/b"), ("/a/./b", "/a/b"),
     ("/a/%2E%2e/b", "/b"), ("/a%2F%2Fb", "/a/b"), ("/%3F%23", "/?#"), ("/%25%32%35", "/%25"),
     ("/a;b=c", "/a;b=c"), ("/+", "/+")],
)
def test_the_path_is_decoded_and_its_raw_form_kept(ask, raw, path):
    found = ask(raw + "?q")
    assert (found["PATH_INFO"], found["REQUEST_URI"]) == (path, raw + "?q")


@pytest.mark.parametrize("raw", ["//x", "///", "/a//b//", "/a%2F%2Fb"])
def test_slashes_that_are_not_merged_stay(ask, raw):
    found = ask(raw, underscores=True)
    assert (found["PATH_INFO"], found["REQUEST_URI"]) == (raw.replace("%2F", "/"), raw)


@pytest.mark.parametrize(
    "raw, query",
    [("", ""), ("?", ""), ("??", "?"), ("?a=%ff&b=1+2", "a=%ff&b=1+2"), ("?%00%0d%0a", "%00%0d%0a"),
     ("?\xff", "\xff"), ("?a=/../b//", "a=/../b//"), ("?a#b", "a")],
)
def test_the_query_string_is_raw(ask, raw, query):
    assert ask("/x" + raw)["QUERY_STRING"] == query


@pytest.mark.parametrize("path", ["/%00", "/a b", "/a\x01", "/\x7f", "/%zz", "/..", "/a/../.."])
def test_a_bad_path_never_reaches_the_application(site, proto, path):
    before = len(site.events("called"))
    response = proto(site, "GET", path)
    assert response.status == 400 or not response.complete
    site.barrier()
    assert len(site.events("called")) == before


def test_without_a_body_there_are_no_content_variables(ask):
    assert [name for name in ask() if "CONTENT" in name] == []


def test_a_body_of_no_bytes_has_the_length_0(site, proto, ask):
    found = ask(method="POST", headers={"Content-Length": "0", "Content-Type": "a/b"})
    assert (found["CONTENT_LENGTH"], found["CONTENT_TYPE"]) == ("0", "a/b")
    assert [name for name in found if "HTTP_CONTENT" in name] == []
    response = proto(site, "POST", "/read?f.read()", {"Content-Length": "0"})
    assert response.body == b"b''"


def test_repeated_headers_are_joined(ask):
    headers = [("X-A", "1"), ("Cookie", "a=1"), ("x-a", "2"), ("Cookie", "b"), ("X-A", ""),
               ("X-A", "3"), ("Cookie", "c=\xff")]
    found = ask(headers=headers)
    assert found["HTTP_X_A"] == "1, 2, , 3"
    assert found["HTTP_COOKIE"] == "a=1; b; c=\xff"


@pytest.mark.parametrize(
    "name, values, variable",
    [("Host", ("a", "b"), "HTTP_HOST"), ("Content-Length", ("0", "0"), "CONTENT_LENGTH"),
     ("Content-Type", ("a/a", "b/b"), "CONTENT_TYPE"),
     ("Authorization", ("Basic a", "Basic b"), "HTTP_AUTHORIZATION"),
     ("Range", ("bytes=0-1", "bytes=2-3"), "HTTP_RANGE"),
     ("If-Modified-Since", ("a", "b"), "HTTP_IF_MODIFIED_SINCE")],
)
def test_a_header_that_may_come_once_is_refused_or_its_first_counts(
    site, proto, name, values, variable
):
    response = proto(site, "POST", "/", [(name, value) for value in values])
    if response.status == 400 or not response.complete:
        return
    assert name not in ("Host", "Content-Length")
    assert json.loads(response.body)["values"][variable] == values[0]


def test_authority_and_another_host_are_never_mixed_up(site):
    response = h2client.request(site.ports["PORT2"], "GET", "/", [("host", "b")], authority="a")
    assert response.status == 400 or not response.complete or (
        json.loads(response.body)["values"]["HTTP_HOST"] == "a")


@pytest.mark.parametrize(
    "sent, wanted",
    [([("X_User", "evil"), ("X-User", "me")], "me"), ([("X-User", "me"), ("X_User", "evil")], "me"),
     ([("X-User", "a"), ("X_User", "evil"), ("X-User", "b")], "a, b"), ([("X_User", "a")], "a")],
    ids=["before", "after", "between", "alone"],
)
def test_an_underscore_never_overrides_a_dash(ask, sent, wanted):
    assert ask(headers=sent, underscores=True)["HTTP_X_USER"] == wanted
    dropped = [value for name, value in sent if "-" in name]
    assert ask(headers=sent).get("HTTP_X_USER") == (", ".join(dropped) or None)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_several_spellings_the_one_with_dashes_counts(ask, order):
    sent = [("X_Real-User", "evil"), ("X-Real_User", "evil"), ("X-Real-User", "me")]
    found = ask(headers=[sent[n] for n in order], underscores=True)
    assert found["HTTP_X_REAL_USER"] == "me"


@pytest.mark.parametrize("user", ["", "me"])
@pytest.mark.parametrize("name", ["X-User", "X_User", "x_uSER"])
def test_a_param_hides_a_header_of_any_spelling(ask, name, user):
    found = ask(f"/user?user={user}", headers=[(name, "evil")], underscores=True)
    assert found["HTTP_X_USER"] == user


def test_a_proxy_header_reaches_neither_environ_nor_os_environ(site, proto, ask):
    assert "HTTP_PROXY" not in ask(headers={"Proxy": "http://evil"})
    place = json.loads(proto(site, "GET", "/env", {"Proxy": "http://evil"}).body)
    assert [name for name in place["environ"] if "PROXY" in name.upper()] == []


@pytest.mark.parametrize(
    "target, host",
    [("http://one.org/x", "one.org"), ("http://one.org:81/x", "one.org:81"),
     ("HTTP://ONE.org/x", "ONE.org"), ("https://one.org/x", "one.org"),
     ("http://[::1]:81/x", "[::1]:81"), ("http://one.org", "one.org"),
     ("http://one.org?q", "one.org"), ("http://one.org/" + 5000 * "y", "one.org")],
    ids=lambda text: text[:24],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_host_of_an_absolute_target_is_the_host(site, target, host, version):
    headers = [("Host", "two.org"), *((f"X-{n}", "z" * 3000) for n in range(3))]
    found = json.loads(site.get(target, headers=headers, version=version).body)["values"]
    assert found["HTTP_HOST"].lower() == host.lower()
    assert found["wsgi.url_scheme"] == "http"
    assert found["PATH_INFO"].startswith("/")


def test_without_a_host_there_is_none(site):
    assert "HTTP_HOST" not in json.loads(site.get("/", version="1.0").body)["values"]


@pytest.mark.parametrize("size", [65_535, 65_536])
def test_a_value_of_64_kilobytes_arrives(ask, size):
    value = "v" * (size - 1) + "w"
    assert ask(headers={"X-A": value})["HTTP_X_A"] == value


@pytest.mark.parametrize("sizes", [[200_000], [70_000] * 3], ids=str)
def test_headers_beyond_every_length_of_16_bits_arrive(site, sizes):
    sent = [(f"X-{number}", "v" * size) for number, size in enumerate(sizes)]
    found = json.loads(site.get("/", headers=sent).body)["values"]
    assert [found[f"HTTP_X_{number}"] for number, _ in enumerate(sizes)] == [v for _, v in sent]


@pytest.mark.parametrize("size", [255, 256, 257, 5000])
def test_a_name_longer_than_a_byte_can_count_arrives(ask, size):
    assert ask(headers={"x" * size: "v"})["HTTP_" + "X" * size] == "v"


@pytest.mark.parametrize("size, status", [(65_530, 200), (65_531, 400), (65_536, 400)])
def test_a_name_never_overflows_its_length_of_16_bits(site, size, status):
    """With HTTP_ in front it must fit."""
    response = site.get("/", headers={"x" * size: "v"})
    assert response.status == status
    if status == 200:
        assert json.loads(response.body)["values"]["HTTP_" + "X" * size] == "v"


def test_a_thousand_headers_arrive(ask):
    """With Host and Connection; nginx, as Debian and later versions have it, takes no more."""
    sent = {f"X-{number}": f"\xff{number}" for number in range(998)}
    found = ask(headers=sent)
    assert {n: found.get("HTTP_" + n.replace("-", "_")) for n in sent} == sent


def test_every_byte_of_a_value_arrives_over_every_protocol(ask):
    sent = {f"x-{code}": f"a{chr(code)}b" for code in range(1, 256) if code not in (10, 13)}
    found = ask(headers=sent)
    assert {n: found.get("HTTP_" + n.upper().replace("-", "_")) for n in sent} == sent
