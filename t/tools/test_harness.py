"""The harness itself: what it must notice after a test. Without the module."""

import os
import signal
import socket
import subprocess

import pytest
from lib import http
from lib.nginx import Nginx
from lib.poll import until


@pytest.fixture
def site():
    """Finished by the tests themselves; what is left of a failed one is cleaned up."""
    site = Nginx(wsgi=False)
    yield site.start()
    if os.path.exists(site.dir):
        site.finish()


def test_a_quiet_nginx_has_no_faults(site):
    assert site.get("/static").body == b"static"
    assert site.finish() == []
    assert not os.path.exists(site.dir)


def test_a_worker_that_died_is_a_fault(site):
    worker = site.worker()
    os.kill(worker, signal.SIGKILL)
    site.wait_respawn(worker)
    assert any("exited on signal 9" in fault for fault in site.finish())


def test_an_expected_alert_is_no_fault_but_its_absence_is(site):
    site.expect_alert("exited on signal 9")
    site.expect_alert("never happens")
    worker = site.worker()
    os.kill(worker, signal.SIGKILL)
    site.wait_respawn(worker)
    assert site.finish() == ["expected in the error log: never happens"]


@pytest.mark.parametrize(
    "line",
    ["[alert] 1#1: x", "[emerg] 1#1: x", "[crit] 1#1: x", "zero size buf in output",
     "open socket #3 left in connection 4", "ERROR: AddressSanitizer: heap-use-after-free",
     "worker process 7 exited with code 70", "thread '<unnamed>' panicked at src/lib.rs",
     "python did not stop within 5s, leaving"],
)
def test_an_alarming_line_is_a_fault(site, line):
    with open(site.log.path, "a") as log:
        log.write(f"2026/01/01 00:00:00 {line}\n")
    assert [fault for fault in site.finish() if line in fault]


def test_a_left_process_is_a_fault_and_is_killed(site):
    left = subprocess.Popen(["sleep", "60"], cwd=site.dir, start_new_session=True)
    faults = site.finish()
    assert [fault for fault in faults if f"left process {left.pid}" in fault]
    assert left.wait(5) == -signal.SIGKILL


def test_an_nginx_that_does_not_leave_is_a_fault(site):
    os.kill(site.worker(), signal.SIGSTOP)
    site.quit = lambda: Nginx.quit(site, timeout=0.3)
    faults = site.finish()
    assert any("nginx's end" in fault for fault in faults)
    assert any("left process" in fault for fault in faults)


def test_a_wrong_configuration_is_reported_with_what_nginx_said():
    site = Nginx(wsgi=False, server="no_such_directive;")
    with pytest.raises(AssertionError, match='unknown directive "no_such_directive"'):
        site.start()
    site.allow_alert("no_such_directive")
    assert site.finish() == []


@pytest.mark.parametrize(
    "answer, end",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "chunked"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "truncated"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", "close"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "none"),
        (b"HTTP/1.1 200", "truncated"),
        (b"", "nothing"),
    ],
)
def test_the_client_tells_how_an_answer_ended(answer, end):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with http.Connection(server.getsockname()[1]) as client:
            peer, _ = server.accept()
            peer.sendall(answer)
            peer.close()
            response = client.read_response()
    assert response.end == end
    if end in ("length", "chunked", "close"):
        assert response.body == b"ok"


def test_polling_gives_up_at_its_deadline():
    with pytest.raises(AssertionError, match="not within 0.05 s: the moon"):
        until(lambda: False, 0.05, "the moon")
