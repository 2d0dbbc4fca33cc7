"""Ranges of what an application generates: if it says Accept-Ranges and the length is known."""

import pytest
from lib.respond import Expr, respond

SERVER = "listen 127.0.0.1:@PORT2@ http2; location = /respond { wsgi_app respond:application; }"
BODY = bytes(range(48, 122)) * 3000
SIZE = len(BODY)
RANGES = [("Accept-Ranges", "bytes"), ("ETag", '"v1"')]
ONE = Expr("[bytes(range(48, 122)) * 3000]")
PARTS = Expr("[bytes(range(48, 122)) * 1000] * 3")
WITH_LENGTH = [*RANGES, ("Content-Length", str(SIZE))]
# A response whose length is known: how it is returned, its body, its headers.
KNOWN = [("list", ONE, RANGES), ("list", PARTS, RANGES), ("generator", PARTS, WITH_LENGTH),
         ("iterator", ONE, WITH_LENGTH), ("write", PARTS, WITH_LENGTH)]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER)


@pytest.mark.parametrize("kind,body,headers", KNOWN)
@pytest.mark.parametrize("start,end", [(0, 0), (73998, 74001), (SIZE - 5, SIZE - 1), (0, SIZE - 1)])
def test_a_range_of_generated_output(site, proto, kind, body, headers, start, end):
    path = respond(kind=kind, body=body, headers=headers)
    response = proto(site, "GET", path, headers={"Range": f"bytes={start}-{end}"})
    assert (response.status, response.complete) == (206, True)
    assert response.body == BODY[start:end + 1]
    assert response.header("Content-Range") == f"bytes {start}-{end}/{SIZE}"


@pytest.mark.parametrize("kind,body,headers", KNOWN)
def test_the_whole_says_that_it_has_ranges(site, proto, kind, body, headers):
    response = proto(site, "GET", respond(kind=kind, body=body, headers=headers))
    assert (response.status, response.body) == (200, BODY)
    assert response.header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("kind,body,headers", KNOWN)
def test_several_ranges_are_for_files_only(site, kind, body, headers):
    response = site.get(respond(kind=kind, body=body, headers=headers),
                        headers={"Range": "bytes=0-1,9-9"})
    assert (response.status, response.body) == (200, BODY)


@pytest.mark.parametrize("headers", [[], [("Accept-Ranges", "none")], [("Accept-Ranges", "x")]])
def test_ranges_are_not_forced_on_an_application(site, proto, headers):
    response = proto(site, "GET", respond(body=ONE, headers=headers),
                     headers={"Range": "bytes=0-1"})
    assert (response.status, response.body) == (200, BODY)
    assert response.all("Accept-Ranges") == [value for _, value in headers]


def test_without_a_length_there_are_no_ranges(site, proto):
    response = proto(site, "GET", respond(kind="generator", body=PARTS, headers=RANGES),
                     headers={"Range": "bytes=0-1"})
    assert (response.status, response.body) == (200, BODY)
    assert response.header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("validator,status", [('"v1"', 206), ('"v2"', 200)])
def test_if_range_decides(site, proto, validator, status):
    response = proto(site, "GET", respond(body=ONE, headers=RANGES),
                     headers={"Range": "bytes=0-1", "If-Range": validator})
    assert response.status == status


def test_other_statuses_are_not_cut(site, proto):
    response = proto(site, "GET", respond(status="203 Other", body=ONE, headers=RANGES),
                     headers={"Range": "bytes=0-1"})
    assert (response.status, response.body) == (203, BODY)


def test_head_says_what_get_would(site, proto):
    response = proto(site, "HEAD", respond(kind="generator", body=PARTS, headers=WITH_LENGTH))
    assert (response.header("Accept-Ranges"), response.header("Content-Length")) == (
        "bytes", str(SIZE))


def test_the_connection_goes_on_after_a_range(site):
    with site.connect() as client:
        for kind, body, headers in KNOWN * 2:
            path = respond(kind=kind, body=body, headers=headers)
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9\r\n\r\n".encode())
            response = client.read_response()
            assert (response.status, response.body, response.rest) == (206, BODY[5:10], b"")


def test_a_failure_after_the_range_does_not_pass_for_a_success(site):
    short = Expr("[bytes(range(48, 122)) * 1000] * 2")
    path = respond(kind="generator", body=short, headers=WITH_LENGTH, fail=Expr("ValueError()"))
    with site.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n".encode())
        assert client.read_response().body == BODY[:2]
        assert client.at_eof()


def test_a_failure_after_the_whole_length_does_not_spoil_the_range(site):
    path = respond(kind="generator", body=PARTS, headers=WITH_LENGTH, fail=Expr("ValueError()"))
    with site.connect() as client:
        for _ in range(2):
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n".encode())
            assert client.read_response().body == BODY[:2]
