"""HTTP/3, where nginx and curl have it: environ, bodies, files, the end of an answer, reloads."""

import contextlib
import hashlib
import json
import subprocess

import pytest
from lib import http3, procs, tls
from lib.poll import until

# Where processors are taken by others a request over HTTP/3 may never come to an application: 1 in
# 1000 to 1500, and with proxy_pass and no module too (nginx 1.26.3, curl 8.14.1).
pytestmark = pytest.mark.alone

SERVER = """
    listen 127.0.0.1:@PORT3@ quic reuseport;
    keepalive_timeout 10s;
    location / { wsgi_app environ:application; }
    location /named { wsgi_app environ:application; wsgi_param HTTP_HOST set; }
    location /unnamed { wsgi_app environ:application; wsgi_pass_request_headers off; }
    location = /host { wsgi_app nested:host; auth_request /leave; ssi on; }
    location = /included { wsgi_app nested:host; }
    location = /leave { wsgi_app nested:host; auth_request_set $x $sent_http_x_host; }
    location = /upload { wsgi_app upload:application; }
    location = /streamed { wsgi_app upload:application; wsgi_request_buffering off; }
    location /files/ { wsgi_app files:application; }
    location /midway/ { wsgi_app held:midway; }
    location /held/ { wsgi_app held:application; }
    location /in_steps/ { wsgi_app held:in_steps; }
    location = /cut { wsgi_app nested:cut; }
    location = /fast { wsgi_app stream:fast; }
"""


SHORT = """
    server {
        listen 127.0.0.1:@PORT4@ quic;
        keepalive_timeout 1s;
        location /midway/ { wsgi_app held:midway; }
    }
"""


@pytest.fixture
def site(make_nginx):
    http = f"client_max_body_size 0; {tls.SERVER} {SHORT}"
    site = make_nginx(server=SERVER, http=http)
    tls.make_certificate(site.dir)
    return site.start()


def access(site):
    with open(f"{site.dir}/access.log") as file:
        return file.read()


def content(path):
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    return b""


def ask(site, path, method="GET", **options):
    return http3.request(site.ports["PORT3"], method, path, **options)


def values(response):
    return json.loads(response.body)["values"]


def test_environ_says_what_it_is(site):
    port = site.ports["PORT3"]
    found = values(ask(site, "/a%20b?c=d"))
    expected = {
        "SERVER_PROTOCOL": "HTTP/3.0", "REQUEST_METHOD": "GET", "PATH_INFO": "/a b",
        "REQUEST_URI": "/a%20b?c=d", "QUERY_STRING": "c=d", "HTTP_HOST": f"localhost:{port}",
        "SERVER_NAME": "localhost", "SERVER_PORT": str(port), "REMOTE_ADDR": "127.0.0.1",
        "HTTPS": "on", "REQUEST_SCHEME": "https", "wsgi.url_scheme": "https",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "CONTENT_LENGTH" not in found


@pytest.mark.parametrize("host", ["ex.org", "EX.org:81", "[::1]:82"])
def test_the_authority_is_the_host(site, host):
    assert values(ask(site, "/", headers={"Host": host}))["HTTP_HOST"] == host


def test_the_host_is_treated_as_a_header_of_the_client(site):
    assert values(ask(site, "/named"))["HTTP_HOST"] == "set"
    assert "HTTP_HOST" not in values(ask(site, "/unnamed"))


def test_subrequests_have_the_host_of_their_request(site):
    response = ask(site, "/host", headers={"Host": "ex.org:81"})
    assert response.body == b"ex.org:81" * 2


@pytest.mark.parametrize("path", ["/upload", "/streamed"])
@pytest.mark.parametrize("size", [1, 20_000, 3_000_000])
def test_a_body_arrives(site, path, size):
    body = (b"%07d\n" * 125 % tuple(range(125)) * (size // 1000 + 1))[:size]
    response = ask(site, path, "POST", body=body)
    assert response.text == f"{size} {hashlib.sha256(body).hexdigest()}"


def test_head_has_no_body(site):
    response = ask(site, "/held/a?tag", "HEAD")
    assert (response.status, response.body, response.complete) == (200, b"", True)


def test_a_large_answer_is_whole(site):
    response = ask(site, "/fast?64")
    assert (len(response.body), response.complete) == (64 * 65536, True)


def test_a_file_is_sent_by_nginx_in_ranges(site):
    site.write("content", b"0123456789" * 1000)
    whole = ask(site, "/files/plain")
    assert (whole.status, whole.header("content-length")) == (200, "10000")
    part = ask(site, "/files/plain", headers={"Range": "bytes=10-12"})
    assert (part.status, part.body) == (206, b"012")


def test_an_answer_that_fails_is_not_a_whole_one(site):
    """What came before may be lost: the stream is reset."""
    response = ask(site, "/cut")
    assert not response.complete
    assert response.status in (0, 200)


def test_a_client_that_goes_stops_the_application(site):
    """It is known by its silence, QUIC's idle timeout: nginx has keepalive_timeout for that."""
    gate = site.gate("a")
    line = http3.command(site.ports["PORT4"], "GET", "/midway/a")
    with subprocess.Popen(line, stdout=subprocess.PIPE) as client:
        site.wait_event("waiting")
        client.kill()
    until(lambda: "/midway/a" in access(site), what="nginx has noticed")
    gate.open()
    (closed,) = site.wait_event("closed a")
    assert int(closed.split()[2]) <= 2


def test_a_reload_loses_no_request(site):
    """Old and new workers of nginx have one socket, and either may get a client's packets: the old
    one that has not seen the end of a connection stays until its idle timeout, and only when it has
    gone new connections are sure to reach the new one.

    It closes the connection with the end of the last request, and curl fails if it reads that
    together with what came before: the chunk is looked for while the request is still running.
    """
    gate, end = site.gate("a"), site.gate("a-end")
    line = http3.command(site.ports["PORT3"], "GET", "/in_steps/a")
    with subprocess.Popen([*line, "-o", f"{site.dir}/answer"]) as client:
        site.wait_event("called a")
        old = site.reload()
        gate.open()
        until(lambda: content(f"{site.dir}/answer").endswith(b"chunk"), what="the answer")
        end.open()
        client.wait(30)
    until(lambda: not any(map(procs.alive, old)), 20, "the old worker's end")
    assert ask(site, "/held/open?new").body == b"new"
