"""wsgi_request_buffering: the body complete before the call, or read as it comes."""

import hashlib
import os
import re
from urllib.parse import quote

import pytest
from lib import http
from lib.reading import BODY, READS
from lib.upload import H1, NEXT, Upload, streamed, told, whole


@pytest.fixture(scope="module")
def site(shared_nginx):
    return streamed(shared_nginx)


# -- reading, where both do the same


STREAM_READS = [row for row in READS if not re.search(r"seek|tell", row[0])] + [
    ("[f.read1(3), f.read1()]", [b"aa\n", b"bb\ncc"]),
    ("[(lambda b: (f.readinto(b), bytes(b)))(bytearray(5)), f.read()]",
     [(5, b"aa\nbb"), b"\ncc"]),
    ("io.BufferedReader(f).read()", BODY),
    ("list(io.TextIOWrapper(io.BufferedReader(f)))", ["aa\n", "bb\n", "cc"]),
    ("[f.readable(), f.writable(), f.isatty(), f.closed]", [True, False, False, False]),
]


def test_reading_means_the_same(site, mode, kind):
    for expression, expected in STREAM_READS:
        response = whole(site, kind, f"/{mode}/read?{quote(expression, safe='')}", BODY)
        assert response.text == repr(expected), expression


def test_reading_waits_for_the_rest(site, kind):
    """Each byte in a packet of its own."""
    for expression, expected in READS[:16]:
        upload = Upload(site, kind, f"/off/read?{quote(expression, safe='')}", len(BODY))
        for n in range(len(BODY)):
            upload.send(BODY[n:n + 1])
        upload.end()
        assert upload.answer().text == repr(expected), expression


def test_a_request_without_a_body_gives_nothing(site, mode):
    query = quote("[f.read(), f.readline(), f.readlines(), list(f), f.read(5), f.read1()]")
    assert site.get(f"/{mode}/read?{query}").text == "[b'', b'', [], [], b'', b'']"


def test_an_empty_chunked_body_gives_nothing(site, mode):
    assert whole(site, "chunked", f"/{mode}/report", b"").text.endswith(" b''")


READINGS = ["f.read()", "b''.join(iter(lambda: f.read(777), b''))", "b''.join(f)",
            "b''.join(f.readlines())", "b''.join(iter(lambda: f.readline(50), b''))",
            "b''.join(iter(f.read1, b''))", "io.BufferedReader(f).read()"]


def test_a_body_arrives_unchanged_however_it_is_read(site, mode, kind):
    body = bytes(range(256)) * 2000
    for reading in READINGS:
        expression = quote(f"__import__('hashlib').sha256({reading}).hexdigest()", safe="")
        response = whole(site, kind, f"/{mode}/read?{expression}", body)
        assert response.text == repr(hashlib.sha256(body).hexdigest()), reading


def test_the_validator_finds_no_fault(site, mode, kind):
    found = whole(site, kind, f"/{mode}/lines", BODY).text
    assert found == repr([b"aa\n", b"b", [b"b\n", b"cc"], [], b""])
    body = os.urandom(300_000)
    assert whole(site, kind, f"/{mode}/upload", body).text == told(body)


def test_the_next_request_of_the_connection_is_in_step(site, mode):
    for kind in H1:
        body = os.urandom(200_000)
        upload = Upload(site, kind, f"/{mode}/whole", len(body))
        upload.send(body)
        upload.end()
        upload.client.send(NEXT)
        assert upload.answer().text == told(body)
        assert upload.client.read_response().body == b"plain"


def test_a_client_that_expects_100_continue_gets_it(site, mode):
    with site.connect() as client:
        client.send(http.build("POST", f"/{mode}/whole", close=False,
                               headers={"Expect": "100-continue", "Content-Length": "8"}))
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(BODY)
        assert client.read_response().text == told(BODY)


def test_http_1_0(site, mode):
    response = site.post(f"/{mode}/whole", body=BODY, version="1.0")
    assert response.text == told(BODY)


# -- what is different


def test_the_application_starts_before_the_body_is_there(site, kind):
    before = len(site.events("begun"))
    upload = Upload(site, kind, "/off/whole", 8)
    site.wait_event("begun", before + 1)
    upload.send(BODY[:4])
    site.barrier()
    upload.send(BODY[4:])
    upload.end()
    assert upload.answer().text == told(BODY)


def test_buffered_it_does_not(site, kind):
    before = len(site.events("begun"))
    upload = Upload(site, kind, "/on/whole", 8)
    upload.send(BODY[:4])
    site.barrier()
    assert len(site.events("begun")) == before
    upload.send(BODY[4:])
    upload.end()
    assert upload.answer().text == told(BODY)


def test_read_returns_as_soon_as_it_has_what_it_asks_for(site, kind):
    upload = Upload(site, kind, "/off/some", 1000)
    upload.send(b"x" * 9)
    site.barrier()
    upload.send(b"yz")
    assert upload.answer().body == b"x" * 9 + b"y"


@pytest.mark.parametrize("method", ["f.seek(0)", "f.seek(0, 2)", "f.tell()", "f.fileno()"])
def test_a_stream_has_no_position_and_no_descriptor(site, method):
    expression = quote(f"[raised(lambda: {method}), f.seekable()]", safe="")
    expected = repr(["UnsupportedOperation", False])
    assert site.post(f"/off/read?{expression}", body=BODY).text == expected
    assert site.get(f"/off/read?{expression}").text == expected


LENGTHS = {"length": "8", "chunked": None, "h2": None, "h2 with length": "8"}


def test_content_length_is_what_the_client_has_sent(site, kind):
    keys = ["CONTENT_LENGTH", "wsgi.input_terminated", "HTTP_TRANSFER_ENCODING"]
    expression = quote(f"[environ.get(k) for k in {keys}]", safe="")
    response = whole(site, kind, f"/off/read?{expression}", BODY)
    assert response.text == repr([LENGTHS[kind], True, None])


def test_content_length_is_absent_without_a_body(site):
    assert site.get("/off/read?environ.get('CONTENT_LENGTH')").text == "None"
    assert site.post("/off/read?environ.get('CONTENT_LENGTH')",
                     headers={"Content-Length": "0"}).text == "'0'"


@pytest.mark.parametrize("kind", ["chunked", "h2", "h2 with length"])
def test_what_is_read_can_be_answered_at_once(site, kind):
    """A conversation: each answer comes before the next question is sent."""
    upload = Upload(site, kind, "/off/echo", 5 * 8)
    if not upload.h2:
        upload.send(b"line 0\r\n")
        assert upload.client.read_head().status == 200
        assert upload.client.read_chunk() == b"line 0\r\n"
    for n in range(0 if upload.h2 else 1, 5):
        line = b"line %d\r\n" % n
        upload.send(line)
        if upload.h2:
            wanted = n * 8 + 8
            got = upload.client.wait(upload.stream, lambda r: len(r.body) >= wanted)
            assert got.body[-8:] == line
        else:
            assert upload.client.read_chunk() == line
    upload.end()
    if upload.h2:
        assert upload.answer().end == "stream"
    else:
        assert upload.client.read_chunk() == b""
        upload.client.send(NEXT)
        assert upload.client.read_response().body == b"plain"


# -- the directive


@pytest.mark.parametrize("value, text", [
    ("maybe", 'invalid value "maybe"'), ("", "invalid number of arguments"),
    ("on off", "invalid number of arguments"),
    ("on; wsgi_request_buffering off", "is duplicate"),
])
def test_a_wrong_value_is_refused(make_nginx, value, text):
    site = make_nginx(server=f"wsgi_request_buffering {value};")
    status, said = site.test_config()
    assert status == 1
    assert re.search(rf"\[emerg\].*wsgi_request_buffering.*{text}|{text}.*"
                     r"wsgi_request_buffering", said), said
    assert re.search(rf"{re.escape(site.conf)}:\d+", said)


def test_it_is_inherited(nginx):
    site = nginx(
        http="wsgi_request_buffering off;", apps=["reader"],
        server="""location /here { wsgi_app reader:application; }
                  location /there { wsgi_request_buffering ON; wsgi_app reader:application; }""",
    )
    assert site.post("/here?f.seekable()", body=BODY).text == "False"
    assert site.post("/there?f.seekable()", body=BODY).text == "True"
