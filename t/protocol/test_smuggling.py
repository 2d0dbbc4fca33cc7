"""Requests whose end is in dispute, with a good one behind: refused, or of one meaning.

RFC 9112 sections 2.2, 6 and 7.1. Each is sent in one packet with a second request. Where nginx
refuses the first, the application is never called; where nginx reads it leniently, the
application gets exactly one body, and what follows is in step.
"""

import re
import socket

import pytest
from lib import http

SERVER = """
    lingering_timeout 200ms;
    location / { wsgi_app calls:application; }
    location /denied { deny all; wsgi_app calls:application; }
    location /outside { wsgi_mount /inside; wsgi_app calls:application; }
    location /broken { wsgi_app nowhere:application; }
"""
IN_FILES = f"""
    server {{
        listen 127.0.0.1:@PORT2@;
        client_body_in_file_only clean;
        {SERVER}
    }}
"""
AS_THEY_COME = f"""
    server {{
        listen 127.0.0.1:@PORT3@;
        wsgi_request_buffering off;
        {SERVER}
    }}
"""
POST = b"POST /first HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
THREE = b"3\r\nabc\r\n0\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def coding(value, body=THREE):
    return POST + b"Transfer-Encoding:" + value + b"\r\n\r\n" + body


def length(value, body=b"abc"):
    return POST + b"Content-Length:" + value + b"\r\n\r\n" + body


def line(value, body=b""):
    """A request with one more line in its head."""
    return POST + value + b"\r\n\r\n" + body


def first_line(value):
    return value + b"\r\nHost: a\r\n\r\n"


REFUSED = {
    # Two codings, or one that is not plainly "chunked".
    "coding twice": coding(b" chunked\r\nTransfer-Encoding: chunked"),
    "coding in two lines": coding(b" identity\r\nTransfer-Encoding: chunked"),
    "chunked, then another coding": coding(b" chunked\r\nTransfer-Encoding: gzip"),
    "coding with a prefix": coding(b" xchunked"),
    "coding with a suffix": coding(b" chunkedx"),
    "coding in two parts": coding(b" chunk ed"),
    "list of codings": coding(b" chunked, identity"),
    "list of codings, chunked last": coding(b" gzip, chunked"),
    "chunked twice in a list": coding(b" identity, chunked, identity, chunked"),
    "list with a comma behind": coding(b" chunked,"),
    "list with a comma in front": coding(b" ,chunked"),
    "coding with a parameter": coding(b" chunked;q=1"),
    "coding in quotes": coding(b' "chunked"'),
    "tab before the coding": coding(b" \tchunked"),
    "tab behind the coding": coding(b" chunked\t"),
    "vertical tab before the coding": coding(b" \x0bchunked"),
    "form feed before the coding": coding(b" \x0cchunked"),
    "no-break space before the coding": coding(b" \xa0chunked"),
    "empty coding": coding(b"", b""),
    "folded coding": coding(b"\r\n chunked"),
    "coding in HTTP/1.0": CHUNKED.replace(b"/1.1", b"/1.0") + THREE,
    "space before the colon of the coding": line(b"Transfer-Encoding : chunked", THREE),
    "tab before the colon of the coding": line(b"Transfer-Encoding\t: chunked", THREE),
    "space before the name of the coding": line(b" Transfer-Encoding: chunked", THREE),
    "NUL in the coding": coding(b" chun\0ked"),
    "CR in the coding": coding(b" chunked\rx"),
    # A length and a coding.
    "length, then coding": length(b" 3\r\nTransfer-Encoding: chunked", THREE),
    "coding, then length": coding(b" chunked\r\nContent-Length: 3"),
    "length 0, then coding": length(b" 0\r\nTransfer-Encoding: chunked", THREE),
    # A length that is not one plain number.
    "two lengths": length(b" 3\r\nContent-Length: 2"),
    "two equal lengths": length(b" 3\r\nContent-Length: 3"),
    "list of lengths": length(b" 3, 3"),
    "list of different lengths": length(b" 0,3"),
    "length with a plus": length(b" +3"),
    "length with a minus": length(b" -3"),
    "length minus zero": length(b" -0", b""),
    "length in hexadecimal": length(b" 0x3"),
    "length with an underscore": length(b" 0_3"),
    "length with a space inside": length(b" 0 3"),
    "length with a fraction": length(b" 3.0"),
    "length with an exponent": length(b" 3e0"),
    "length in quotes": length(b' "3"'),
    "length in other digits": length(b" \xd9\xa3"),
    "empty length": length(b"", b""),
    "blank length": length(b"   ", b""),
    "tab before the length": length(b"\t3"),
    "tab behind the length": length(b" 3\t"),
    "length of 2^63 - 1": length(b" 9223372036854775807"),
    "length of 2^63": length(b" 9223372036854775808"),
    "length of 2^64 + 3": length(b" 18446744073709551619"),
    "length of 4 KB of digits": length(b" 1" + b"0" * 4000),
    "space before the colon of the length": line(b"Content-Length : 3", b"abc"),
    "NUL in the name of the length": line(b"Content-Length\0: 3", b"abc"),
    "NUL behind the length": length(b" 3\0"),
    "folded length": length(b"\r\n 3"),
    # Lines that are no fields.
    "folded line": line(b"X-A: one\r\n two"),
    "line folded with a tab": line(b"X-A: one\r\n\ttwo"),
    "line without a colon": line(b"Content-Length 3", b"abc"),
    "line without a name": line(b": 3", b"abc"),
    "space in a name": line(b"X A: 3"),
    "bare CR in a line": line(b"X-A: b\rContent-Length: 3", b"abc"),
    "bare CR for every line end": POST.replace(b"\r\n", b"\r") + b"\r",
    "space before the first field": b"GET /first HTTP/1.1\r\n Host: a\r\n\r\n",
    "two hosts": line(b"Host: b"),
    "host with a slash": b"GET /first HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "no host": b"GET /first HTTP/1.1\r\n\r\n",
    # Chunks whose size is not one plain number.
    "size with 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "size with a plus": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "size with a minus": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "size with an underscore": CHUNKED + b"0_3\r\nabc\r\n0\r\n\r\n",
    "size that is no number": CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n",
    "space before the size": CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",
    "tab before the size": CHUNKED + b"\t3\r\nabc\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
    "no size but an extension": CHUNKED + b";a=b\r\nabc\r\n0\r\n\r\n",
    "size of 2^63 - 1": CHUNKED + b"7fffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "size of 2^63": CHUNKED + b"8000000000000000\r\nabc\r\n0\r\n\r\n",
    "size of 2^64 - 1": CHUNKED + b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "size of 2^64 + 3": CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "second size is bad": CHUNKED + b"3\r\nabc\r\n-1\r\n0\r\n\r\n",
    "size ends with a bare CR": CHUNKED + b"3\rabc\r\n0\r\n\r\n",
    "bare CR in an extension": CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "chunk without its line end": CHUNKED + b"3\r\nabc0\r\n\r\n",
    "chunk that ends with a bare CR": CHUNKED + b"3\r\nabc\r0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk much shorter than its size": CHUNKED + b"8\r\nabc\r\n0\r\n\r\n",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
    # First lines.
    "no method": first_line(b" /first HTTP/1.1"),
    "no target": first_line(b"GET HTTP/1.1"),
    "tab for the space": first_line(b"GET\t/first HTTP/1.1"),
    "NUL behind the method": first_line(b"GET\0 /first HTTP/1.1"),
    "colon behind the method": first_line(b"GET: /first HTTP/1.1"),
    "high byte in the method": first_line(b"GET\xdf /first HTTP/1.1"),
    "word behind the version": first_line(b"GET /first HTTP/1.1 x"),
    "second version": first_line(b"GET /first HTTP/1.1 HTTP/1.1"),
    "version 2.0": first_line(b"GET /first HTTP/2.0"),
    "version of many digits": first_line(b"GET /first HTTP/1." + b"1" * 40),
    "version without digits": first_line(b"GET /first HTTP/x"),
    "another protocol": first_line(b"GET /first FTP/1.1"),
    "protocol in small letters": first_line(b"GET /first http/1.1"),
    "relative target": first_line(b"GET first HTTP/1.1"),
    "asterisk as target of GET": first_line(b"GET * HTTP/1.1"),
    "host and port as target of GET": first_line(b"GET a:80 HTTP/1.1"),
    "CONNECT": first_line(b"CONNECT a:80 HTTP/1.1"),
    "TRACE": first_line(b"TRACE /first HTTP/1.1"),
    "line of the PROXY protocol": b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n" + GET,
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bare CR in the first line": b"GET /first\rHTTP/1.1\r\nHost: a\r\n\r\n",
}

# The body the application gets, and the request. These are valid.
VALID = {
    "coding in capitals": (b"abc", POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + THREE),
    "spaces around the coding": (b"abc", coding(b"   chunked  ")),
    "spaces around the length": (b"abc", length(b"   3  ")),
    "length with zeros in front": (b"abc", length(b" " + b"0" * 40 + b"3")),
    "size in capitals": (b"0123456789", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n"),
    "sizes with zeros in front": (b"abc", CHUNKED + b"0" * 200 + b"3\r\nabc\r\n000\r\n\r\n"),
    "extension": (b"abc", CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n"),
    "extension in quotes": (b"abc", CHUNKED + b'3;a="b;c"\r\nabc\r\n0\r\n\r\n'),
    "a request as chunk": (NEXT, CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(NEXT), NEXT)),
    "a request as body": (NEXT, length(b" %d" % len(NEXT), NEXT)),
    "a last chunk as body": (b"0\r\n\r\n", length(b" 5", b"0\r\n\r\n")),
    "CR and LF as chunk": (b"\r\n\r\n", CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n"),
    "field behind the last chunk": (b"abc", CHUNKED + b"3\r\nabc\r\n0\r\nX-T: v\r\n\r\n"),
    "GET with a length": (b"abc", length(b" 3").replace(b"POST", b"GET")),
    "GET with chunks": (b"abc", coding(b" chunked").replace(b"POST", b"GET")),
    "empty lines in front": (b"", b"\r\n\r\n" + GET),
    "length named as a hop": (b"abc", length(b" 3\r\nConnection: Content-Length")),
    "an upgrade to HTTP/2": (b"", line(b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
                                       b"Connection: Upgrade, HTTP2-Settings")),
}

# These are not, but nginx 1.22 takes them; later ones refuse some.
LENIENT = {
    "LF for every line end": (b"abc", b"POST /first HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc"),
    "length behind a bare LF": (b"abc", line(b"X-A: b\nContent-Length: 3", b"abc")),
    "coding behind a bare LF": (b"abc", line(b"X-A: b\nTransfer-Encoding: chunked", THREE)),
    "two CR before the LF": (b"", line(b"X-A: b\r")),
    "high byte in the name of a length": (b"abc", length(b" 3\r\nContent-Length\xff: 30")),
    "underscore in the name of a length": (b"abc", length(b" 3\r\nContent_Length: 30")),
    "underscore in the name of a coding": (b"abc", length(b" 3\r\nTransfer_Encoding: chunked")),
    "underscored coding before the coding": (
        b"abc", line(b"Transfer_Encoding: gzip\r\nTransfer-Encoding: chunked", THREE)),
    "length in brackets": (b"", line(b"(Content-Length): 3")),
    "chunks with LF": (b"abc", CHUNKED + b"3\nabc\n0\n\n"),
    "chunk that ends with LF": (b"abc", CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
    "extension that ends with LF": (b"abc", CHUNKED + b"3;a\nabc\r\n0\r\n\r\n"),
    "NUL in an extension": (b"abc", CHUNKED + b"3;a\0b\r\nabc\r\n0\r\n\r\n"),
    "space behind the size": (b"abc", CHUNKED + b"3 \r\nabc\r\n0 \r\n\r\n"),
    "tab behind the size": (b"abc", CHUNKED + b"3\t\r\nabc\r\n0\r\n\r\n"),
    "word behind the size": (b"abc", CHUNKED + b"3 x\r\nabc\r\n0\r\n\r\n"),
    "chunk one shorter than its size": (b"abc\r", CHUNKED + b"4\r\nabc\r\n0\r\n\r\n"),
    "last chunk ends with LF": (b"abc", CHUNKED + b"3\r\nabc\r\n0\r\n\n"),
    "length behind the last chunk": (
        b"abc", CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 60\r\n\r\n"),
    "coding behind the last chunk": (
        b"abc", CHUNKED + b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "host behind the last chunk": (b"abc", CHUNKED + b"3\r\nabc\r\n0\r\nHost: evil\r\n\r\n"),
    "no field behind the last chunk": (b"abc", CHUNKED + b"3\r\nabc\r\n0\r\n\0 no field\r\n\r\n"),
    "two spaces in the first line": (b"", first_line(b"GET  /first  HTTP/1.1")),
    "space behind the version": (b"", first_line(b"GET /first HTTP/1.1 ")),
    "version 1.2": (b"", first_line(b"GET /first HTTP/1.2")),
    "fragment in the target": (b"", first_line(b"GET /first#x HTTP/1.1")),
}


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, http=IN_FILES + AS_THEY_COME)


@pytest.fixture(params=["PORT", "PORT2", "PORT3"], ids=["memory", "file", "unbuffered"])
def port(site, request):
    """Where bodies are kept in memory, or in files, or nowhere."""
    return site.ports[request.param]


def play(site, port, data):
    """What came back, and the calls of the application."""
    before = len(site.events("call "))
    with http.Connection(port) as client:
        client.send(data)
        answer, _ = client.read_to_end()
    return answer, [event.removeprefix("call ") for event in site.events("call ")[before:]]


def statuses(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def is_refusal(answer):
    return len(statuses(answer)) == 1 and statuses(answer)[0] in (400, 405, 413, 414, 501, 505)


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_in_dispute_is_refused_with_all_that_follows(site, port, name):
    answer, calls = play(site, port, REFUSED[name] + NEXT)
    assert is_refusal(answer), answer
    assert calls == []


def assert_in_step(answer, calls, body, data):
    method = data.split()[0].decode()
    assert calls == [f"{method} '/first' {body!r}", "GET '/next' b''"]
    assert statuses(answer) == [200, 200]
    assert answer.endswith(b"\r\n\r\n" + calls[1].encode())


@pytest.mark.parametrize("name", VALID)
def test_a_valid_request_has_one_meaning_and_the_next_is_in_step(site, port, name):
    body, data = VALID[name]
    assert_in_step(*play(site, port, data + NEXT), body, data)


@pytest.mark.parametrize("name", LENIENT)
def test_what_nginx_takes_leniently_has_one_meaning_and_the_next_is_in_step(site, port, name):
    body, data = LENIENT[name]
    answer, calls = play(site, port, data + NEXT)
    if is_refusal(answer):
        assert calls == []
    else:
        assert_in_step(answer, calls, body, data)


def test_a_request_behind_an_unfinished_trailer_is_part_of_the_trailer(site, port):
    before = len(site.events())
    with http.Connection(port) as client:
        client.send(CHUNKED + b"3\r\nabc\r\n0\r\n" + NEXT)
        response = client.read_response()
        # nginx 1.22 skips the lines; a later one may refuse them.
        assert response.status == 400 or response.text == "POST '/first' b'abc'"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_to_end()[0] == b""
    assert not [event for event in site.events()[before:] if "/next" in event]


def test_nothing_follows_a_request_of_http_0_9(site, port):
    answer, calls = play(site, port, b"GET /first\r\n" + NEXT)
    assert (answer, calls) == (b"GET '/first' b''", ["GET '/first' b''"])


CUT = {
    "chunked": CHUNKED + b"3;a=b\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\nX-T: v\r\n\r\n",
    "length": length(b" 9", b"0\r\n\r\nGET "),
}


@pytest.mark.parametrize("name", CUT)
def test_a_request_cut_at_any_byte_never_reaches_the_application(site, port, name):
    before = len(site.events())
    for size in range(1, len(CUT[name])):
        with http.Connection(port) as client:
            client.send(CUT[name][:size])
            client.sock.shutdown(socket.SHUT_WR)
            client.read_to_end()
    site.barrier()
    assert len(site.events()) == before
    assert len(play(site, port, CUT[name] + NEXT)[1]) == 2


@pytest.mark.parametrize("table", [VALID, LENIENT], ids=["valid", "lenient"])
def test_a_request_byte_by_byte_means_the_same(site, port, table):
    """Where the packets end changes nothing of what the application is given."""
    for name, (body, data) in table.items():
        before = len(site.events())
        with http.Connection(port) as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for place in range(len(data)):
                    client.send(data[place : place + 1])
                client.send(NEXT)
            except OSError:
                pass  # Refused before its end.
            client.read_to_end()
        method = data.split()[0].decode()
        wanted = [f"call {method} '/first' {body!r}", "call GET '/next' b''"]
        calls = site.events()[before:]
        assert calls == wanted or (table is LENIENT and calls == []), name


@pytest.mark.parametrize("path, status", [(b"/denied", 403), (b"/outside", 404), (b"/broken", 500)])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_the_body_of_a_refused_request_is_no_request(site, nginx, path, status, chunked):
    """The application never sees it; nginx reads past it."""
    if path == b"/broken":
        # Who asks for it later has the worker replaced, which ends the others' connections.
        site = nginx(server=SERVER)
    before = len(site.events())
    evil = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n" * 3000
    data = coding(b" chunked", http.chunked(evil)) if chunked else length(b" %d" % len(evil), evil)
    with http.Connection(site.port) as client:
        client.send(data.replace(b"/first", path) + NEXT)
        assert client.read_response().status == status
        answer, _ = client.read_to_end()
    # nginx ends the connection after a 500, else the next request is in step.
    assert answer == b"" if status == 500 else answer.endswith(b"GET '/next' b''")
    assert site.events()[before:] == ([] if status == 500 else ["call GET '/next' b''"])
