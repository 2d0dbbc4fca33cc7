"""wsgi_request_buffering off: clients that go away, slow ones, and slow applications."""

import contextlib
import os
import re

import pytest
from lib import http, procs
from lib.poll import elapse, until
from lib.reading import BODY
from lib.upload import KINDS, Upload, streamed, told


@pytest.fixture(scope="module")
def site(shared_nginx):
    return streamed(shared_nginx)


GIVEN_UP = r'"POST /off/watched HTTP/\S+" (400|499) '
CUT_OFF = r'"POST /off/quick/watched HTTP/\S+" 408 '


def accesses(site, pattern):
    with open(f"{site.dir}/access.log") as file:
        return [line for line in file if re.search(pattern, line)]


WAYS = [(kind, how) for kind in KINDS for how in ("close", "reset", "reset of the stream")
        if kind.startswith("h2") or how != "reset of the stream"]


@pytest.mark.parametrize("kind, how", WAYS)
def test_a_client_that_goes_away_ends_a_read_that_waits(site, kind, how):
    mark, before = site.log.mark(), len(site.events())
    upload = Upload(site, kind, "/off/watched", 1000)
    upload.send(b"x" * 25)
    until(lambda: "read 20" in site.events()[before:], what="the application waits")
    upload.vanish(how)
    until(lambda: "raised ConnectionResetError 104" in site.events()[before:], what="OSError")
    assert not [event for event in site.events()[before:] if event.startswith("end")]
    assert not site.log.matching("Traceback", mark)


@pytest.mark.parametrize("kind, how", WAYS)
def test_a_client_that_goes_away_is_found_by_the_next_read(site, hold, kind, how):
    before = len(site.events())
    gate, known = hold("watched"), len(accesses(site, GIVEN_UP))
    upload = Upload(site, kind, "/off/watched", 1000)
    upload.send(b"x" * 25)
    until(lambda: "waiting watched" in site.events()[before:], what="the application computes")
    upload.vanish(how)
    until(lambda: len(accesses(site, GIVEN_UP)) > known, what="nginx has given up the request")
    gate.open()
    until(lambda: "raised ConnectionResetError 104" in site.events()[before:], what="OSError")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_goes_away_while_the_pipe_is_full_is_noticed(site, hold, kind):
    before = len(site.events())
    gate, known = hold("watched"), len(accesses(site, GIVEN_UP))
    upload = Upload(site, kind, "/off/watched", 10_000_000)
    # More than the window, less than fills the sockets too.
    upload.send(b"x" * 65535)
    until(lambda: "waiting watched" in site.events()[before:], what="the application computes")
    # In HTTP/2 the window ends here; otherwise a little more, so that the FIN is not held back.
    upload.send(b"x" * (1 if upload.h2 else 20_000))
    upload.vanish("close")
    until(lambda: len(accesses(site, GIVEN_UP)) > known, what="nginx has given up the request")
    gate.open()
    until(lambda: "raised ConnectionResetError 104" in site.events()[before:], what="OSError")


def test_an_application_that_does_not_catch_it_leaves_no_traceback(site):
    mark, before = site.log.mark(), len(site.events("begun"))
    upload = Upload(site, "length", "/off/lost", 1000)
    site.wait_event("begun", before + 1)
    upload.vanish("close")
    site.log.wait_for(r"\[info\].*application stopped at wsgi.input: .*the client is gone",
                      start=mark)
    assert not site.log.matching("Traceback", mark)


def test_a_client_that_goes_away_in_the_queue_never_reaches_the_application(site, hold):
    gate = hold("whole")
    before = len(site.events())
    first = Upload(site, "length", "/off/one/whole", 8)
    until(lambda: "waiting whole" in site.events()[before:], what="the only thread is busy")
    # What it has written that to is closed a moment later.
    site.settle()
    descriptors = site.fd_count()
    second = Upload(site, "length", "/off/one/watched", 8)
    second.send(BODY[:4])
    third = Upload(site, "chunked", "/off/one/whole")
    third.send(BODY)
    until(lambda: site.fd_count() == descriptors + 2, what="both wait")
    second.vanish("close")
    until(lambda: site.fd_count() == descriptors + 1, what="one is gone")
    gate.open()
    first.send(BODY)
    third.end()
    assert first.answer().text == third.answer().text == told(BODY)
    assert [event for event in site.events()[before:] if "begun" in event] == ["begun 8"] + [
        "begun None"]


# -- slow clients, slow applications


def test_a_client_that_is_too_slow_is_cut_off(site, kind):
    before, known = len(site.events()), len(accesses(site, CUT_OFF))
    upload = Upload(site, kind, "/off/quick/watched", 1000)
    upload.send(b"x" * 25)
    with contextlib.suppress(http.Closed):
        answer = upload.answer()
        # As for an upstream: no response, the connection is closed.
        assert answer.end in ("nothing", "reset", "truncated") and answer.status == 0
    until(lambda: "raised TimeoutError 110" in site.events()[before:], what="OSError")
    until(lambda: len(accesses(site, CUT_OFF)) > known, what="408")


def test_a_slow_client_that_goes_on_is_not(site, kind):
    """It takes longer than client_body_timeout, with no pause that is nearly as long."""
    upload = Upload(site, kind, "/off/steady/whole", 8)
    for n in range(0, 8, 2):
        upload.send(BODY[n:n + 2])
        # nginx does not move a timer by less than 300 ms.
        elapse(0.6)
    upload.end()
    assert upload.answer().text == told(BODY)


def test_a_slow_application_is_not_the_clients_fault(site, hold, kind):
    """client_body_timeout does not run while the pipe is full."""
    gate, before = hold("whole"), len(site.events())
    body = os.urandom(1 << 20) * 40
    upload = Upload(site, kind, "/off/quick/whole", len(body))
    until(lambda: "waiting whole" in site.events()[before:], what="the application computes")
    rest = upload.fill(body)
    elapse(1.5)
    gate.open()
    upload.go_on(rest)
    assert upload.answer().text == told(body)


def test_waiting_for_the_client_is_no_silence_of_the_application(site, kind):
    upload = Upload(site, kind, "/off/silent/whole", 8)
    upload.send(BODY[:4])
    elapse(1.5)
    upload.send(BODY[4:])
    upload.end()
    assert upload.answer().text == told(BODY)


def test_an_application_that_is_silent_is_given_up(site, hold, kind):
    gate, before = hold("whole"), len(site.events())
    upload = Upload(site, kind, "/off/silent/whole", 8)
    until(lambda: "waiting whole" in site.events()[before:], what="the application computes")
    assert upload.answer().status == 504
    gate.open()


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_pipe_holds_the_client_back_and_costs_nothing(site, hold, kind):
    gate, before = hold("whole"), len(site.events())
    body = os.urandom(1 << 20) * 40
    upload = Upload(site, kind, "/off/whole", len(body))
    until(lambda: "waiting whole" in site.events()[before:], what="the application computes")
    rss = procs.rss(site.worker())
    rest = upload.fill(body)
    assert len(rest) > 20 << 20
    if upload.h2:
        assert len(body) - len(rest) < 1 << 18
    site.barrier()
    used = procs.cpu_nanoseconds(site.worker())
    elapse(0.5)
    assert procs.cpu_nanoseconds(site.worker()) - used < 50_000_000
    assert procs.rss(site.worker()) - rss < 4 << 20
    gate.open()
    upload.go_on(rest)
    assert upload.answer().text == told(body)
