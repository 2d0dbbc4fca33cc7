"""Django, Flask, Bottle, Falcon and Pyramid, side by side in one worker, each below its mount.

The applications (apps/*_site.py) are validated by wsgiref.validate and answer the same paths.
"""

import hashlib
import json
import os
import random
import re
import sys

import pytest
from lib import http

FRAMEWORKS = ["django", "flask", "bottle", "falcon", "pyramid"]
DOWNLOAD = random.Random(1).randbytes(300_000)
HTTP = """
    wsgi_python_home "%s";
    wsgi_env DOWNLOAD "%s";
    client_max_body_size 8m;
"""
LOCATION = "location /%s/ { wsgi_app %s_site:application; wsgi_mount /%s; }"
SERVER = "listen 127.0.0.1:@PORT2@ http2;" + "".join(LOCATION % (3 * (f,)) for f in FRAMEWORKS)


@pytest.fixture(scope="module")
def site(tmp_path_factory, shared_nginx):
    download = tmp_path_factory.mktemp("files") / "download.txt"
    download.write_bytes(DOWNLOAD)
    with open(f"{download}.large", "wb") as large:
        large.truncate(1 << 30)
        large.seek(0, os.SEEK_END)
        large.write(b"the end")
    # The virtualenv lies where the checkout lies, which may be closed to another user.
    return shared_nginx(
        server=SERVER, http=HTTP % (sys.prefix, download),
        main="user root;" if os.getuid() == 0 else "",
    )


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def multipart(word, name, data):
    part = b'--line\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"word", b"", word)
    body += part % (b"file", b'; filename="%s"\r\nContent-Type: a/b' % name, data)
    return body + b"--line--\r\n", {"Content-Type": "multipart/form-data; boundary=line"}


def cookies(response):
    return "; ".join(value.partition(";")[0] for value in response.all("Set-Cookie"))


def test_a_session_counts_the_visits_of_each_client(site, framework):
    mine = yours = ""
    for number in (b"1", b"2", b"3"):
        response = site.get(f"/{framework}/count", headers={"Cookie": mine} if mine else {})
        assert (response.status, response.body) == (200, number)
        mine = cookies(response)
        yours = yours or mine
    assert site.get(f"/{framework}/count", headers={"Cookie": yours}).body == b"2"
    assert site.get(f"/{framework}/count").body == b"1"


def test_text_beyond_ascii_comes_through_path_and_query(site, framework):
    response = site.get(f"/{framework}/hello/%E2%82%ACuro%20%C3%A9?q=%C3%BC+x")
    assert response.status == 200
    assert response.body.decode() == "hello €uro é ü x"


def test_json_is_read_and_written(site, framework):
    body = json.dumps({"number": 21}).encode()
    response = site.post(
        f"/{framework}/double", body, headers={"Content-Type": "application/json"}
    )
    assert response.status == 200
    assert response.header("Content-Type").startswith("application/json")
    assert json.loads(response.body) == {"double": 42}


@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_an_upload_arrives_whole(site, framework, size):
    data = random.Random(size).randbytes(size)
    body, headers = multipart("wörd".encode(), b"some.bin", data)
    response = site.post(f"/{framework}/upload", body, headers=headers)
    assert response.status == 200
    assert json.loads(response.body) == {
        "word": "wörd", "name": "some.bin", "size": size,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_a_chunked_upload_arrives_whole(site, framework):
    data = random.Random(1).randbytes(100_000)
    body, headers = multipart(b"word", b"some.bin", data)
    headers["Transfer-Encoding"] = "chunked"
    pieces = [body[n : n + 7000] for n in range(0, len(body), 7000)]
    response = site.post(f"/{framework}/upload", http.chunked(*pieces), headers=headers)
    assert response.status == 200
    assert json.loads(response.body)["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_download_arrives_whole(site, framework, proto):
    response = proto(site, "GET", f"/{framework}/download")
    assert (response.status, response.complete) == (200, True)
    assert response.body == DOWNLOAD
    assert response.header("Content-Length") == str(len(DOWNLOAD))
    assert "download.txt" in response.header("Content-Disposition")


def test_flask_reads_no_more_of_a_file_than_the_range_it_answers(site):
    def read():
        with open(f"/proc/{site.worker()}/io") as file:
            return int(file.readline().removeprefix("rchar:"))

    site.get("/flask/large", headers={"Range": "bytes=0-0"})
    before = read()
    response = site.get("/flask/large", headers={"Range": "bytes=-7"})
    assert (response.status, response.body) == (206, b"the end")
    assert read() - before < 1 << 20


def test_head_tells_the_length_of_a_download(site, framework):
    with site.ask(f"/{framework}/download", close=False, method="HEAD") as client:
        response = client.read_response("HEAD")
        assert response.header("Content-Length") == str(len(DOWNLOAD))
        client.send(http.build("GET", "/static"))
        assert client.read_response().body == b"static"


def test_a_stream_is_chunked(site, framework, proto):
    response = proto(site, "GET", f"/{framework}/stream")
    assert (response.status, response.body) == (200, b"line 0\nline 1\nline 2\n")
    assert response.header("Content-Length") is None
    assert response.end == {"http/1.0": "close", "http/1.1": "chunked", "h2": "stream"}[proto.name]


def test_a_redirect_leads_below_the_mount(site, framework):
    response = site.get(f"/{framework}/redirect")
    assert response.status in (302, 303)
    place = response.header("Location").removeprefix("http://localhost")
    assert place == f"/{framework}/count"
    assert site.get(place).body == b"1"


def test_a_page_that_is_missing_is_the_frameworks_404(site, framework):
    response = site.get(f"/{framework}/missing")
    assert response.status == 404
    assert b"nginx" not in response.body


def test_an_exception_is_a_500_with_a_traceback_in_the_log(site, framework):
    start = site.log.mark()
    response = site.get(f"/{framework}/fail")
    assert (response.status, response.reason.title()) == (500, "Internal Server Error")
    assert b"on purpose" not in response.body
    # Pyramid leaves the exception to the server.
    assert (b"nginx" in response.body) == (framework == "pyramid")
    site.log.wait_for("ValueError: on purpose", start=start)
    # The first line of what was written has the request.
    lines = site.log.matching(r"\[error\]", start)
    (at,) = [at for at, line in enumerate(lines) if "ValueError: on purpose" in line]
    assert any(f"/{framework}/fail" in line for line in lines[:at + 1])
    assert site.get(f"/{framework}/count").status == 200


@pytest.mark.parametrize("framework", ["django", "pyramid"])
def test_a_form_is_taken_only_with_its_csrf_token(site, framework):
    form = site.get(f"/{framework}/form")
    name, token = re.search(rb'name="(csrf\w+)" value="([\w-]+)"', form.body).groups()
    type_ = {"Content-Type": "application/x-www-form-urlencoded"}
    cookie = {"Cookie": cookies(form)}
    good = name + b"=" + token + b"&word=%C3%A9"

    def post(body, **headers):
        return site.post(f"/{framework}/form", body, headers=type_ | headers)

    response = post(good, **cookie)
    assert (response.status, response.body.decode()) == (200, "word é")
    refused = {"django": 403, "pyramid": 400}[framework]
    assert post(b"word=x", **cookie).status == refused
    assert post(good.replace(token, token[::-1]), **cookie).status == refused
    assert post(good).status == refused
