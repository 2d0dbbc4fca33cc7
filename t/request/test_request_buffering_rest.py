"""wsgi_request_buffering off: bodies that are wrong or not read, and the rest of nginx."""

import contextlib
import os

import pytest
from lib import http, procs
from lib.poll import elapse, until
from lib.reading import BODY
from lib.upload import H1, KINDS, NEXT, Upload, streamed, told, whole


@pytest.fixture(scope="module")
def site(shared_nginx):
    return streamed(shared_nginx)


# -- bodies that are wrong


@pytest.mark.parametrize("kind", ["chunked", "h2"])
def test_a_body_that_turns_out_too_long_is_413(site, kind):
    before = len(site.events())
    upload = Upload(site, kind, "/off/small/watched")
    upload.send(b"x" * 60)
    until(lambda: "read 60" in site.events()[before:], what="the application reads")
    upload.send(b"x" * 60)
    assert upload.answer().status == 413
    until(lambda: "raised OSError 27" in site.events()[before:], what="OSError")


def test_a_length_that_is_too_large_is_413_without_the_application(site):
    before = len(site.events())
    assert site.post("/off/small/watched", body=b"x" * 101).status == 413
    assert site.events()[before:] == []


@pytest.mark.parametrize("kind", ["chunked", "h2"])
def test_a_body_that_turns_out_too_long_cuts_a_response_that_has_begun(site, kind):
    before = len(site.events())
    upload = Upload(site, kind, "/off/small/answered")
    if upload.h2:
        upload.client.wait(upload.stream, lambda response: response.body)
    else:
        assert upload.client.read_head().status == 200
        assert upload.client.read_chunk() == b"first\n"
    upload.send(b"x" * 200)
    if upload.h2:
        assert upload.answer().end == "reset"
    else:
        assert upload.client.read_to_end()[0] == b""
    until(lambda: "raised OSError" in site.events()[before:], what="OSError")


def test_a_malformed_chunk_is_400(site):
    before = len(site.events())
    upload = Upload(site, "chunked", "/off/watched")
    upload.send(b"x" * 20)
    until(lambda: "read 20" in site.events()[before:], what="the application reads")
    upload.client.send(b"zz\r\n" + NEXT)
    assert upload.answer().status == 400
    assert upload.client.read_to_end()[0] == b""
    until(lambda: "raised OSError 71" in site.events()[before:], what="OSError")


def test_an_http_2_body_of_another_length_than_it_says_is_an_error(site):
    for size in (10, 30):
        before = len(site.events())
        upload = Upload(site, "h2 with length", "/off/watched", 20)
        until(lambda: "begun 20" in site.events()[before:], what="the application reads")
        upload.send(b"x" * size)
        upload.end()
        assert upload.answer().status == 400
        until(lambda: "raised OSError 71" in site.events()[before:], what="OSError")


# -- bodies that are not read


@pytest.mark.parametrize("size", [10, 300_000])
def test_what_the_application_does_not_read_is_no_request(site, size):
    """A small body has been read by nginx; a large one costs the connection."""
    evil = http.build("GET", "/off/calls/evil", close=False)
    body = evil * (size // len(evil) + 1)
    for kind in H1:
        before = len(site.events("call "))
        upload = Upload(site, kind, "/off/unread", len(body))
        # nginx has done with a client that pauses for lingering_timeout.
        with contextlib.suppress(OSError):
            upload.send(body)
            upload.end()
            upload.client.send(http.build("GET", "/off/calls/next", close=True))
        assert upload.answer().body == b"unread"
        rest, _ = upload.client.read_to_end()
        calls = site.events("call ")[before:]
        assert "evil" not in "".join(calls)
        # Either in step or closed.
        assert rest == b"" or calls == ["call GET '/off/calls/next' b''"]
        if size == 300_000:
            assert rest == b"" and calls == []


def test_an_answer_before_the_body_ends_the_connection(site):
    """The rest, which comes later, is thrown away."""
    for kind in H1:
        before = len(site.events("call "))
        evil = http.build("GET", "/off/calls/evil", close=False)
        upload = Upload(site, kind, "/off/unread", 10 * len(evil))
        assert upload.answer().body == b"unread"
        with contextlib.suppress(OSError):
            upload.send(evil)
            upload.client.send(evil * 9)
        assert upload.client.at_eof()
        site.barrier()
        assert site.events("call ")[before:] == []


@pytest.mark.parametrize("kind", ["h2", "h2 with length"])
def test_an_answer_before_the_body_ends_the_stream_and_not_the_connection(site, kind):
    upload = Upload(site, kind, "/off/unread", 1000)
    assert upload.answer().body == b"unread"
    upload.stream = upload.client.send("POST", "/off/whole", body=BODY)
    assert upload.answer().text == told(BODY)


def test_an_application_that_fails_before_the_body_is_500(site, kind):
    upload = Upload(site, kind, "/off/failing", 1000)
    assert upload.answer().status == 500


# -- together with the rest of nginx


def test_a_body_that_a_mirror_has_read_is_complete(site, kind):
    before = len(site.events("begun"))
    body = os.urandom(100_000)
    upload = Upload(site, kind, "/off/mirrored/whole", len(body))
    upload.send(body[:50_000])
    site.barrier()
    assert len(site.events("begun")) == before
    upload.send(body[50_000:])
    upload.end()
    assert upload.answer().text == told(body)


@pytest.mark.parametrize("seconds", [0, 1.2])
def test_what_comes_while_a_subrequest_has_the_connection_is_read_after_it(
    site, hold, kind, seconds
):
    gate = hold("part")
    before = len(site.events("waiting part"))
    upload = Upload(site, kind, "/off/including/", 8)
    upload.send(BODY[:3])
    site.wait_event("waiting part", before + 1)
    upload.send(BODY[3:8])
    upload.end()
    site.barrier()
    # The client has been in time, also if client_body_timeout is over now.
    elapse(seconds)
    gate.open()
    assert upload.answer().body == BODY[:3] + b"part" + BODY[3:8]


def test_auth_request_leaves_the_body_to_the_application(site, kind):
    before = len(site.events("begun"))
    upload = Upload(site, kind, "/off/asked/whole", 8)
    # The subrequest has none, and does not wait for one.
    site.wait_event("begun", before + 2)
    upload.send(BODY)
    upload.end()
    assert upload.answer().text == told(BODY)


@pytest.mark.parametrize("target, expected", [
    ("/page", "page"), ("/off/report", "GET 0 b''"), ("/on/report", "GET 0 b''"),
])
def test_a_redirect_while_the_body_is_on_its_way_leaves_it_behind(site, kind, target, expected):
    upload = Upload(site, kind, f"/off/redirect?{target}", 1000)
    upload.send(b"x" * 10)
    answer = upload.answer()
    assert answer.status == 200
    assert answer.text == expected
    if not upload.h2:
        upload.client.send(NEXT)
        assert upload.client.read_to_end()[0] == b""


def test_a_redirect_of_a_complete_body_keeps_it(site, mode):
    response = site.post(f"/{mode}/redirect?/on/report", body=BODY)
    assert response.text == f"GET 8 {BODY!r}"


def test_error_page_may_be_an_application(site, kind):
    upload = Upload(site, kind, "/off/excused/failing", 50)
    answer = upload.answer()
    assert (answer.status, answer.text) == (500, "GET 0 b''")
    if kind in ("chunked", "h2"):
        upload = Upload(site, kind, "/off/excused/watched")
        upload.send(b"x" * 200)
        answer = upload.answer()
        assert (answer.status, answer.text) == (413, "GET 0 b''")


def test_a_forked_child_does_not_wait_for_the_body(site):
    upload = Upload(site, "length", "/off/forked", 8)
    upload.send(BODY[:4])
    # The child must be done before the rest comes.
    site.barrier()
    upload.send(BODY[4:])
    assert upload.answer().text == "7 8"


@pytest.mark.parametrize("how", ["quit", "reload"])
def test_a_worker_that_leaves_takes_the_rest_of_the_body(nginx, how):
    site = streamed(nginx)
    worker = site.worker()
    upload = Upload(site, "length", "/off/whole", 200_000)
    body = os.urandom(200_000)
    upload.send(body[:100_000])
    site.wait_event("begun")
    site.signal("HUP" if how == "reload" else "QUIT")
    until(lambda: "shutting down" in procs.title(worker), what="the worker leaves")
    upload.send(body[100_000:])
    assert upload.answer().text == told(body)
    until(lambda: (site.process.poll(), not procs.alive(worker))[1], what="the worker's end")


@pytest.mark.parametrize("master", [True, False])
def test_a_stop_wakes_a_read_that_waits(nginx, master):
    site = streamed(nginx, master=master, http="wsgi_shutdown_timeout 50s;")
    for kind in KINDS:
        before = len(site.events())
        upload = Upload(site, kind, "/off/watched", 1000)
        upload.send(b"x" * 25)
        until(lambda: "read 20" in site.events()[before:], what="the application waits")
    site.stop(timeout=10)
    assert len(site.events("raised ConnectionResetError")) == 4


def test_worker_shutdown_timeout_ends_a_read_that_waits(nginx):
    site = streamed(nginx, main="worker_shutdown_timeout 300ms;")
    upload = Upload(site, "length", "/off/watched", 1000)
    site.wait_event("begun")
    site.allow_alert("open socket")
    site.quit(timeout=5)
    assert site.events("raised") == ["raised ConnectionResetError 104"]
    upload.vanish("close")


def test_many_clients_that_go_away_leave_nothing_behind(site):
    descriptors = site.fd_count()
    for round_number in range(20):
        uploads = [Upload(site, kind, "/off/watched", 100_000) for kind in KINDS]
        for upload in uploads:
            upload.send(b"x" * (round_number * 1000))
        for upload in uploads:
            upload.vanish("reset" if round_number % 2 else "close")
    until(lambda: site.fd_count() <= descriptors, what="the connections are closed")
    body = os.urandom(100_000)
    assert whole(site, "length", "/off/whole", body).text == told(body)
