"""wsgi.file_wrapper: a real file is sent by nginx, anything else with read() is iterated over."""

import gzip
import os
import re
from urllib.parse import urlencode

import pytest
from lib import h2client, http, procs, tls
from lib.poll import takes, until

CONTENT = b"".join(b"%07d\n" % n for n in range(8192))
LARGE = 16 << 20
SERVER = tls.SERVER + """
    listen 127.0.0.1:@PORT2@ http2;
    listen 127.0.0.1:@PORT3@ ssl http2;
    listen 127.0.0.1:@PORT4@ ssl;
    location / { wsgi_app files:application; }
    location /sendfile/ { sendfile on; wsgi_app files:application; }
    location /aio/ { aio threads=other; output_buffers 1 32k; wsgi_app files:application; }
    location /aio_sendfile/ { sendfile on; aio threads=other; wsgi_app files:application; }
    location /directio/ { directio 512; wsgi_app files:application; }
    location /gzip/ { gzip on; gzip_types *; wsgi_app files:application; }
    location /sub/ { sub_filter 0000001 one; sub_filter_types *; wsgi_app files:application; }
    location = /ssi { ssi on; ssi_types *; root @DIR@/html; }
    location = /part { sendfile on; wsgi_app files:application; }
    location /limit/ { limit_rate 40k; wsgi_app files:application; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, main="thread_pool other threads=2;", prepare=prepare)


def prepare(site):
    tls.make_certificate(site.dir)
    with open(f"{site.dir}/content", "wb") as file:
        file.write(CONTENT)
    with open(f"{site.dir}/html/ssi", "w") as file:
        file.write('[<!--# include virtual="/plain" -->]')


def target(name, folder="", headers=(), **options):
    query = list(options.items()) + [("h", f"{name}:{value}") for name, value in headers]
    return f"{folder}/{name}?{urlencode(query)}"


# What is sent without being read.
REAL = ["plain", "unbuffered", "named", "unlinked", "proxied"]
# What has to be read.
READ = ["spooled", "zipped", "memory", "only_read"]


@pytest.mark.parametrize("name", REAL + READ)
def test_the_whole_content_arrives(site, proto, name):
    response = proto(site, "GET", target(name))
    assert (response.status, response.body, response.complete) == (200, CONTENT, True)


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_has_its_length_and_ranges(site, proto, name):
    response = proto(site, "GET", target(name))
    assert response.header("Content-Length") == str(len(CONTENT))
    assert response.header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("name", READ)
def test_anything_else_has_neither(site, name):
    response = site.get(target(name))
    assert response.header("Content-Length") is None and response.header("Accept-Ranges") is None


@pytest.mark.parametrize("folder", ["", "/sendfile", "/aio", "/aio_sendfile", "/directio"])
@pytest.mark.parametrize("port,secure", [("PORT", False), ("PORT4", True)])
def test_a_real_file_is_not_read_by_python(site, folder, port, secure):
    before = len(site.events("close plain "))
    response = http.request(site.ports[port] if secure else site.port, "GET",
                            target("plain", folder), tls=secure)
    assert response.body == CONTENT
    assert site.wait_event("close plain ", before + 1)[before] == "close plain 0"


def test_a_real_file_goes_out_over_tls_and_http_2(site):
    response = h2client.request(site.ports["PORT3"], "GET", target("plain", "/sendfile"), tls=True)
    assert (response.body, response.complete) == (CONTENT, True)


@pytest.mark.parametrize("name", ["plain", "unbuffered", "named", "proxied", "memory", "zipped"])
@pytest.mark.parametrize("seek", [1, 4096, 65535])
def test_a_file_is_sent_from_its_position_on(site, name, seek):
    if name == "proxied":
        name = "plain"
    response = site.get(target(name, "/sendfile", seek=seek))
    assert response.body == CONTENT[seek:]


@pytest.mark.parametrize("name", ["plain", "memory"])
@pytest.mark.parametrize("seek", [65536, 70000])
def test_nothing_is_left_at_or_after_the_end(site, name, seek):
    response = site.get(target(name, seek=seek))
    assert (response.status, response.body, response.complete) == (200, b"", True)


def test_what_was_written_before_the_position_is_not_lost(site):
    assert site.get(target("updated")).body == CONTENT[100:]


def test_what_lies_in_the_buffer_is_written_before_the_file_is_sent(site):
    for _ in range(20):
        assert site.get(target("rewritten")).body == b"x" * 300 + CONTENT[300:]


@pytest.mark.parametrize("name", ["plain", "memory"])
def test_no_more_than_content_length_is_sent(site, proto, name):
    response = proto(site, "GET", target(name, seek=8, length=1000))
    assert (response.body, response.header("Content-Length")) == (CONTENT[8:1008], "1000")


def test_a_content_length_shorter_than_the_file_is_no_fault(site):
    lines = len(site.log.lines())
    assert site.get(target("plain", length=10)).body == CONTENT[:10]
    site.barrier()
    assert not [line for line in site.log.lines()[lines:] if "Content-Length" in line]


@pytest.mark.parametrize("name", ["plain", "memory"])
def test_a_file_shorter_than_content_length_is_an_aborted_response(site, proto, name):
    response = proto(site, "GET", target(name, length=len(CONTENT) + 1))
    assert response.status == 200 and not response.complete


def test_the_connection_is_in_step_after_a_cut_file(site):
    with site.connect() as client:
        client.send(http.build("GET", target("plain", length=5), close=False)
                    + http.build("GET", "/static"))
        assert client.read_response().body == CONTENT[:5]
        assert client.read_response().body == b"static"


@pytest.mark.parametrize("name", ["subclass", "patched"])
def test_a_read_of_its_own_is_obeyed(site, name):
    assert site.get(target(name)).body == CONTENT.replace(b"0", b"o")


@pytest.mark.parametrize("name", ["pipe", "system"])
def test_what_has_no_size_is_read_to_its_end(site, name):
    body = site.get(target(name)).body
    assert body == CONTENT[:4096] if name == "pipe" else b"Max open files" in body


def test_a_file_with_less_than_its_size_is_read(site, proto):
    """The files of /sys all have 4096 bytes, if they are asked."""
    response = proto(site, "GET", target("made"))
    with open("/sys/devices/system/cpu/online", "rb") as file:
        assert (response.body, response.complete) == (file.read(), True)
    assert response.header("Content-Length") is None


@pytest.mark.parametrize("name", ["plain", "memory", "named", "zipped"])
def test_a_wrapper_is_moved_as_its_file_is(site, name):
    assert site.get(target(name, how="asked")).body == CONTENT[-8:]


@pytest.mark.parametrize("name,names", [
    ("plain", b"close seek seekable tell"), ("only_read", b"close"), ("proxied", b"close tell"),
])
def test_a_wrapper_has_no_more_of_a_file_than_its_position(site, name, names):
    assert site.get(target(name, how="attributes")).body == names


def test_an_empty_file_is_an_empty_body(site, proto):
    response = proto(site, "GET", target("empty"))
    assert (response.status, response.body, response.complete) == (200, b"", True)


@pytest.mark.parametrize("name,error", [
    ("closed", "ValueError: read of closed file"),
    ("write_only", "io.UnsupportedOperation: read"),
    ("text", "TypeError: application yielded str instead of bytes"),
])
def test_what_cannot_be_read_is_an_error(site, name, error):
    assert site.get(target(name)).status == 500
    site.log.wait_for(re.escape(error))


@pytest.mark.parametrize("how", ["middleware", "iterated", "twice"])
def test_a_wrapper_may_be_wrapped_iterated_or_made_twice(site, how):
    assert site.get(target("plain", how=how)).body == CONTENT


def test_a_wrapper_that_was_advanced_goes_on_from_there(site):
    assert site.get(target("plain", how="advanced", block=1000)).body == CONTENT[1000:]


def test_a_wrapper_that_is_not_returned_sends_nothing(site):
    assert site.get(target("plain", how="dropped")).body == b"no file"


def test_a_file_follows_what_was_written(site, proto):
    response = proto(site, "GET", target("plain", how="written"))
    assert (response.body, response.complete) == (b"before " + CONTENT, True)


@pytest.mark.parametrize("name", ["plain", "memory"])
def test_head_has_the_same_head_and_no_body(site, proto, name):
    get, head = (proto(site, method, target(name)) for method in ("GET", "HEAD"))
    assert (head.status, head.body, head.complete) == (200, b"", True)
    for field in ("Content-Length", "Accept-Ranges", "Content-Type"):
        assert head.header(field) == get.header(field)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_body_sends_no_file(site, proto, status):
    response = proto(site, "GET", target("plain", status=status))
    assert (response.body, response.complete) == (b"", True)


# -- ranges

def test_one_range_is_a_206(site, proto):
    response = proto(site, "GET", target("plain"), headers={"Range": "bytes=100-199"})
    assert (response.status, response.body) == (206, CONTENT[100:200])
    assert response.header("Content-Range") == f"bytes 100-199/{len(CONTENT)}"
    assert response.header("Content-Length") == "100"


@pytest.mark.parametrize("wanted,part", [
    ("bytes=65530-", CONTENT[65530:]), ("bytes=-9", CONTENT[-9:]), ("bytes=0-0", CONTENT[:1]),
    ("bytes=0-", CONTENT),
])
def test_ranges_count_from_the_position_of_the_file(site, wanted, part):
    whole = site.get(target("plain", "/sendfile"), headers={"Range": wanted})
    assert (whole.status, whole.body) == (206, part)
    later = site.get(target("plain", "/sendfile", seek=1000), headers={"Range": "bytes=5-9"})
    assert (later.status, later.body) == (206, CONTENT[1005:1010])


@pytest.mark.parametrize("folder", ["", "/sendfile", "/aio"])
def test_several_ranges_are_multipart(site, folder):
    response = site.get(target("plain", folder), headers={"Range": "bytes=0-7,800-807"})
    assert response.status == 206 and response.complete
    kind, boundary = response.header("Content-Type").split("boundary=")
    assert kind == "multipart/byteranges; "
    parts = response.body.split(b"--" + boundary.encode())
    assert [part.split(b"\r\n\r\n")[1] for part in parts[1:-1]] == [
        CONTENT[:8] + b"\r\n", CONTENT[800:808] + b"\r\n"]


def test_a_range_outside_is_a_416(site, proto):
    response = proto(site, "GET", target("plain"), headers={"Range": "bytes=65536-"})
    assert response.status == 416
    assert response.header("Content-Range") == f"bytes */{len(CONTENT)}"


TAG = [("ETag", '"v1"'), ("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT")]


@pytest.mark.parametrize("validator,status", [
    ('"v1"', 206), ('"v2"', 200), ("Thu, 01 Jan 2015 00:00:00 GMT", 206),
    ("Fri, 02 Jan 2015 00:00:00 GMT", 200),
])
def test_if_range_compares_the_validators_of_the_application(site, validator, status):
    response = site.get(target("plain", headers=TAG),
                        headers={"Range": "bytes=0-7", "If-Range": validator})
    assert (response.status, response.body) == (status, CONTENT[:8] if status == 206 else CONTENT)


def test_if_modified_since_sends_no_file(site, proto):
    response = proto(site, "GET", target("plain", headers=TAG),
                     headers={"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"})
    assert (response.status, response.body, response.complete) == (304, b"", True)


def test_an_application_may_forbid_ranges(site):
    response = site.get(target("plain", headers=[("Accept-Ranges", "none")]),
                        headers={"Range": "bytes=0-7"})
    assert (response.status, response.body) == (200, CONTENT)
    assert response.header("Accept-Ranges") == "none"


def test_an_application_may_answer_ranges_itself(site):
    response = site.get(
        target("plain", seek=8, length=8, status="206 Partial Content",
               headers=[("Content-Range", "bytes 8-15/65536")]), headers={"Range": "bytes=8-15"})
    assert (response.status, response.body) == (206, CONTENT[8:16])
    assert response.header("Content-Range") == "bytes 8-15/65536"


def test_a_post_has_no_ranges(site):
    response = site.post(target("plain"), b"x", headers={"Range": "bytes=0-7"})
    assert (response.status, response.body) == (200, CONTENT)


def test_a_file_that_is_too_short_has_no_ranges(site):
    response = site.get(target("plain", length=len(CONTENT) * 2), headers={"Range": "bytes=0-7"})
    assert response.status == 200 and not response.complete


# -- filters

def test_gzip_compresses_a_file(site):
    response = site.get(target("plain", "/gzip"), headers={"Accept-Encoding": "gzip"})
    assert response.header("Content-Encoding") == "gzip"
    assert gzip.decompress(response.body) == CONTENT


def test_sub_filter_reads_a_file(site):
    assert site.get(target("plain", "/sub")).body == CONTENT.replace(b"0000001", b"one", 1)


def test_a_page_may_include_a_file(site, proto):
    response = proto(site, "GET", "/ssi")
    assert (response.body, response.complete) == (b"[" + CONTENT + b"]", True)


def test_limit_rate_holds_for_a_file(site):
    # nginx sends the share of the first second, 40k of 64k, at once.
    with takes(0.3):
        response = site.get(target("plain", "/limit"))
    assert (response.body, response.complete) == (CONTENT, True)


# -- faults

@pytest.fixture
def own(make_nginx):
    site = make_nginx(server="sendfile on; location / { wsgi_app files:application; }",
                      main="thread_pool default threads=2;")
    prepare(site)
    with open(f"{site.dir}/large", "wb") as file:
        file.truncate(LARGE)
    return site.start()


def test_close_comes_while_the_file_is_still_being_sent(own):
    with own.connect(rcvbuf=4096) as client:
        client.send(http.build("GET", target("large")))
        client.read_head()
        own.wait_event("close large 0")
        # The only thread that could be needed is free.
        assert own.get(target("plain")).body == CONTENT
        body, how = client.read_to_end()
        assert (len(body), how) == (LARGE, "closed")


def test_a_file_that_is_truncated_while_it_is_sent_is_an_aborted_response(own):
    own.expect_alert("was truncated")
    with own.connect(rcvbuf=4096) as client:
        client.send(http.build("GET", target("large")))
        client.read_head()
        own.wait_event("close large 0")
        os.truncate(f"{own.dir}/large", 0)
        body, _ = client.read_to_end()
        assert len(body) < LARGE
    assert own.get(target("plain")).body == CONTENT


def files(site):
    """What the worker has open, without its connections and what an application records."""
    names = procs.fds(site.worker()).values()
    return sorted(n for n in names if "socket:" not in n and not n.endswith("/events"))


def test_no_descriptor_is_left(own):
    assert own.get(target("memory")).body == CONTENT
    own.settle()
    before = files(own)
    for turn in range(100):
        for name in ("plain", "named", "unlinked", "zipped"):
            assert own.get(target(name)).body == CONTENT
        with own.connect(rcvbuf=4096) as client:
            client.send(http.build("GET", target("large")))
            if turn % 2:
                client.read_head()
            client.reset()
    until(lambda: files(own) == before, 5, f"open again: {before}")
