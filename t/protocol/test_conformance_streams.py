"""wsgi.input and wsgi.errors: wrapped, over every protocol, and after their request."""

import hashlib
import os

import pytest
from lib import h2client, http
from lib.errorlog import context, message
from lib.poll import until
from lib.reading import BODY, evaluated
from lib.saying import say, texts

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location /memory { client_body_buffer_size 32m; wsgi_app reader:application; }
    location /file { client_body_in_file_only clean; wsgi_app reader:application; }
    location /both { client_body_buffer_size 1k; wsgi_app reader:application; }
    location = /collected { wsgi_app outlive:collected; }
"""
BOTH = pytest.mark.parametrize("place", ["memory", "file"])


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER + "client_max_body_size 0;",
                 apps=["upload", "plain", "talk", "outlive"])


WRAPPED = [
    ("io.TextIOWrapper(f, 'latin-1').read()", "aa\nbb\ncc"),
    ("list(io.TextIOWrapper(f, 'ascii', newline=''))", ["aa\n", "bb\n", "cc"]),
    ("io.BufferedReader(f, 3).read()", BODY),
    ("[f.readline(), io.BufferedReader(f, 1).read()]", [b"aa\n", b"bb\ncc"]),
    ("[io.TextIOWrapper(io.BufferedReader(f)).readline(), 1]", ["aa\n", 1]),
    ("(lambda b: [f.readinto(b), bytes(b)])(bytearray(3))", [3, b"aa\n"]),
    ("[f.readinto(bytearray(0)), f.readinto(memoryview(bytearray(99))), f.read()]", [0, 8, b""]),
    ("[f.read1(), f.read1(), f.read1(-1)]", [BODY, b"", b""]),
    ("[f.read1(2), f.read1(0), f.read1(100)]", [b"aa", b"", b"\nbb\ncc"]),
    ("[f.readable(), f.seekable(), f.writable(), f.isatty(), f.closed]",
     [True, True, False, False, False]),
    ("[raised(lambda: f.read('a')), raised(lambda: f.readline(1.5))]", ["TypeError"] * 2),
    ("[raised(lambda: f.seek(-1)), raised(lambda: f.seek(0, 9)), f.read(1)]",
     ["ValueError", "ValueError", b"a"]),
    ("[f.close(), f.read()]", [None, BODY]),
    ("[f.read(1 << 62), f.read(1 << 62)]", [BODY, b""]),
    ("__import__('shutil').copyfileobj(f, b := io.BytesIO()) or b.getvalue()", BODY),
    ("iter(f) is f", True),
]


@BOTH
def test_what_wraps_files_wraps_the_input(site, place):
    """What the readers of multipart, JSON and CSV put around it."""
    for expression, expected in WRAPPED:
        assert (expression, evaluated(site, place, expression)) == (expression, repr(expected))


@pytest.mark.parametrize("place", ["memory", "file", "both"])
def test_a_body_arrives_over_every_protocol(site, proto, place):
    body = os.urandom(200_000)
    path = f"/{place}?__import__('hashlib').sha256(f.read()).hexdigest(),environ['CONTENT_LENGTH']"
    response = proto(site, "POST", path, body=body)
    assert response.text == repr((hashlib.sha256(body).hexdigest(), "200000"))


def test_a_body_without_a_length_arrives_over_http_2(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        stream = client.send("POST", "/memory?(f.read(),environ['CONTENT_LENGTH'])", end=False)
        for part in (b"aa\nb", b"", b"b\ncc"):
            client.h2.send_data(stream, part)
            client.flush()
        client.h2.end_stream(stream)
        client.flush()
        assert client.wait(stream).text == repr((BODY, "8"))


def test_an_upload_over_http_2_that_is_cut_never_reaches_the_application(site):
    for leave in ("reset", "close"):
        client = h2client.H2Connection(site.ports["PORT2"])
        stream = client.send("POST", "/upload", {"content-length": "100"}, b"half", end=False)
        assert client.wait(client.send("GET", "/plain")).body == b"plain"
        if leave == "reset":
            client.reset(stream)
            assert client.wait(client.send("GET", "/plain")).body == b"plain"
        client.close()
        site.barrier()
    assert site.events("called") == []


def test_a_body_that_is_not_read_leaves_every_connection_usable(site, proto):
    assert proto(site, "POST", "/plain", body=b"x" * 10_000_000).body == b"plain"
    assert proto(site, "GET", "/plain").body == b"plain"


def test_http_2_has_no_100_continue_to_wait_for(site):
    response = h2client.request(
        site.ports["PORT2"], "POST", "/memory?f.read()", {"expect": "100-continue"}, BODY
    )
    assert response.text == repr(BODY)


def test_http_1_0_gets_no_100(site):
    with site.connect() as client:
        client.send(http.build("POST", "/memory?f.read()", {"Expect": "100-continue"}, BODY, "1.0"))
        assert client.read_until(b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_client_that_leaves_while_the_application_reads_takes_nothing_from_it(site):
    gate = site.gate("ended")
    path = "/file?[__import__('gate').wait('ended'),__import__('record').record('read',f.read())]"
    client = site.ask(path, body=BODY, method="POST")
    site.wait_event("waiting ended")
    client.reset()
    site.barrier()
    gate.open()
    assert site.wait_event("read") == [f"read {BODY}"]


def test_the_garbage_collector_takes_no_input_that_is_in_use(site, proto):
    assert proto(site, "POST", "/collected", body=BODY).body == BODY


RAISED = {"read", "readline", "readlines", "tell", "seek", "next"}


@pytest.mark.parametrize("size", [8, 100_000])
@pytest.mark.parametrize("how", ["thread", "atexit", "cycle"])
def test_streams_that_outlive_their_request_do_no_harm(site, how, size):
    gate = site.gate("ended")
    assert site.post(f"/outlive?{how}", body=b"x" * size).body == b"kept"
    assert site.get("/plain").body == b"plain"
    gate.open()
    if how == "cycle":
        return
    if how == "atexit":
        site.quit()
    site.wait_event(f"{how} write")
    found = dict(line.split()[1:] for line in site.events(how))
    assert {name: found[name] for name in RAISED} == dict.fromkeys(RAISED, "ValueError")
    assert (found["closed"], found["write"]) == ("True", str(len(f"written {how}\n")))
    (line,) = site.log.wait_for(f"written {how}")
    # Nobody's line, not that of the next request.
    assert context(line) == ""


def test_errors_is_a_text_stream_with_a_buffer(site):
    first, second = say(site, "own_buffer", "'hello'")
    assert message(first) == "hello and more"
    assert message(second) == "True False False False utf-8"


def test_errors_takes_nothing_but_text(site):
    assert texts(say(site, "wrong", "''")) == ["TypeError " * 8]


def test_errors_has_no_descriptor_or_a_valid_one(site):
    assert texts(say(site, "numbered", "''"))[0] in ("valid", "absent")


def test_logging_and_tracebacks_go_to_errors(site):
    found = texts(say(site, "handled", "'why'"))
    assert found[0] == "caught"
    assert found.count("Traceback (most recent call last):") == 2
    assert found.count("KeyError: 'why'") == 2


def test_threads_that_share_one_stream_do_not_tear_lines(site):
    lines = texts(say(site, "shared", "'shared'"))
    wanted = {f"shared {n} {count} {'.' * 200}" for n in range(8) for count in range(20)}
    assert sorted(lines) == sorted(wanted)


def test_lines_are_logged_over_every_protocol(site, proto):
    proto(site, "GET", "/talk/printed?'over%20the%20wire'")
    (line,) = site.log.wait_for("over the wire$|over the wire, client")
    wanted = {"http/1.0": "HTTP/1.0", "http/1.1": "HTTP/1.1", "h2": "HTTP/2.0"}[proto.name]
    until(lambda: f'{wanted}"' in context(line), what=line)
