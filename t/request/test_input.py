"""wsgi.input: in memory, in nginx's temporary file, chunked (PEP 3333, Input and Error Streams)."""

import hashlib
import io
import json
import os
from urllib.parse import quote

import pytest
from lib import h2client, http, procs
from lib.poll import until
from lib.reading import BODY, READS, evaluated

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    client_max_body_size 0;
    location /memory { client_body_buffer_size 32m; wsgi_app reader:application; }
    location /file { client_body_in_file_only clean; wsgi_app reader:application; }
    location /both { client_body_buffer_size 1k; wsgi_app reader:application; }
    location /keep { wsgi_app reader:keep; }
    location /small { client_max_body_size 10; wsgi_app reader:application; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["upload", "lines", "plain"])


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("expression, expected", READS, ids=[row[0] for row in READS])
def test_reading(site, place, expression, expected):
    assert evaluated(site, place, expression) == repr(expected)


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("expression", ["f.read()", "list(f)"])
def test_reading_a_chunked_body(site, place, expression):
    headers = {"Transfer-Encoding": "chunked"}
    body = http.chunked(b"aa\nb", b"b\n", b"cc")
    together = f"({expression}, environ['CONTENT_LENGTH'])"
    found = evaluated(site, place, together, body=body, headers=headers)
    assert found == repr((eval(expression, {"f": io.BytesIO(BODY)}), "8"))


@pytest.mark.parametrize("place", ["memory", "file"])
def test_reading_a_request_without_a_body_gives_nothing(site, place):
    query = quote("[f.read(), f.readline(), f.readlines(), list(f), f.read(5)]")
    assert site.get(f"/{place}?{query}").text == "[b'', b'', [], [], b'']"


def test_a_body_in_memory_has_no_file_number(site):
    assert evaluated(site, "memory", "raised(f.fileno)") == repr("UnsupportedOperation")


def test_the_file_number_of_a_body_in_a_file_can_be_read(site):
    assert evaluated(site, "file", "os.pread(f.fileno(), 100, 0)") == repr(BODY)


@pytest.mark.parametrize("place", ["memory", "file", "both"])
def test_one_line_of_16_megabytes(site, place):
    body = b"x" * (16 << 20)
    assert evaluated(site, place, "[len(f.readline()), f.read()]", body=body) == "[16777216, b'']"


@pytest.mark.parametrize("place", ["memory", "file", "both"])
def test_a_body_arrives_unchanged_however_it_is_read(site, place):
    body = bytes(range(256)) * 500
    expression = "__import__('hashlib').sha256({}).hexdigest()"
    for reading in ("f.read()", "b''.join(iter(lambda: f.read(777), b''))", "b''.join(f)",
                    "b''.join(iter(lambda: f.readline(50), b''))"):
        found = evaluated(site, place, expression.format(reading), body=body)
        assert found == repr(hashlib.sha256(body).hexdigest())


def test_the_validator_finds_no_fault_with_reading_by_lines(site):
    found = site.post("/lines", body=BODY).text
    assert found == repr([b"aa\n", b"b", [b"b\n", b"cc"], [], b""])


def test_a_body_arrives_over_http_2(site):
    body = os.urandom(300_000)
    response = h2client.request(site.ports["PORT2"], "POST", "/upload", body=body)
    assert response.text == f"300000 {hashlib.sha256(body).hexdigest()}"


def test_reading_never_goes_into_the_next_request(site):
    with site.connect() as client:
        first = http.build("POST", "/memory?f.read(1000)", body=BODY, close=False)
        second = http.build("GET", "/plain", close=False)
        client.send(first + second)
        assert client.read_response().text == repr(BODY)
        assert client.read_response().body == b"plain"


def test_a_body_the_application_does_not_read_leaves_the_connection_usable(site):
    with site.ask("/plain", body=b"x" * 10_000_000, close=False, method="POST") as client:
        assert client.read_response().body == b"plain"
        client.send(http.build("GET", "/plain", close=False))
        assert client.read_response().body == b"plain"


def test_a_client_that_expects_100_continue_gets_it(site):
    with site.connect() as client:
        head = http.build("POST", "/memory?f.read()", close=False,
                          headers={"Expect": "100-continue", "Content-Length": "8"})
        client.send(head)
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(BODY)
        assert client.read_response().text == repr(BODY)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    ],
    ids=["length", "chunked without the last CRLF", "half a chunk"],
)
def test_an_upload_that_is_cut_never_reaches_the_application(site, request_bytes):
    before = len(site.events("called"))
    descriptors = site.fd_count()
    client = site.connect()
    client.send(request_bytes)
    site.barrier()
    client.close()
    until(lambda: site.fd_count() <= descriptors, what="nginx has closed the connection")
    site.barrier()
    assert len(site.events("called")) == before


def test_the_application_is_not_called_before_the_body_is_complete(site):
    before = len(site.events("called"))
    with site.connect() as client:
        head = http.build("POST", "/memory?f.read()", headers={"Content-Length": "8"}, close=False)
        client.send(head + BODY[:4])
        site.barrier()
        assert len(site.events("called")) == before
        client.send(BODY[4:])
        assert client.read_response().text == repr(BODY)


def test_a_body_that_is_too_large_is_413_without_the_application(site):
    before = len(site.events("called"))
    assert site.post("/small", body=b"x" * 11).status == 413
    assert len(site.events("called")) == before


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\nbody",
    ],
)
def test_a_smuggled_second_request_is_never_answered(site, head):
    before = len(site.events())
    with site.connect() as client:
        client.send(b"POST /plain HTTP/1.1\r\nHost: a\r\n" + head +
                    b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
        answer, _ = client.read_to_end()
    assert answer.split(b" ")[1][:1] in (b"4", b"5")
    assert answer.count(b"HTTP/1.1") == 1
    assert len(site.events()) == before


def test_using_the_input_of_an_ended_request_raises_value_error(site):
    for body in (BODY, b"x" * 100_000):
        site.post("/keep", body=body)
        found = json.loads(site.get("/keep").body)
        assert set(found.values()) == {"ValueError"}


def test_temporary_files_of_bodies_are_gone_after_the_request(site):
    evaluated(site, "file", "len(f.read())", body=b"x" * 100_000)
    # nginx removes the file when it frees the request, just after the client has its answer.
    until(
        lambda: not [name for _, _, names in os.walk(f"{site.dir}/body") for name in names],
        what="the file of the body is gone",
    )
    until(
        lambda: not [t for t in procs.fds(site.worker()).values() if "/body/" in t],
        what="the descriptor of the body is closed",
    )


def test_a_300_megabyte_upload_does_not_come_into_memory(site):
    size = 300 << 20
    site.post("/upload", body=b"x" * 100_000)
    before = procs.rss(site.worker())
    with open(f"{site.dir}/sparse", "wb") as file:
        file.truncate(size)
    digest = hashlib.sha256()
    for _ in range(300):
        digest.update(bytes(1 << 20))
    with open(f"{site.dir}/sparse", "rb") as file, site.connect(timeout=50) as client:
        client.send(http.build("POST", "/upload", headers={"Content-Length": str(size)}))
        client.sock.sendfile(file)
        response = client.read_response()
    assert response.text == f"{size} {digest.hexdigest()}"
    assert procs.rss(site.worker()) - before < 16 << 20
