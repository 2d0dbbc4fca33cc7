"""wsgi_slow_request: the stack of a request that runs for long, and nothing else done to it."""

import errno
import os
import re
import time

import pytest
from lib import errorlog
from lib.poll import elapse, until

MAIN = "thread_pool one threads=1; thread_pool four threads=4;"
HTTP = "wsgi_slow_request 200ms; wsgi_thread_pool four;"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location /overdue/ { wsgi_app overdue:application; }
    location /again/ { wsgi_slow_request 200ms repeat=100ms; wsgi_app overdue:application; }
    location /deep/ { wsgi_slow_request 100ms depth=2; wsgi_app overdue:application; }
    location /single/ {
        wsgi_thread_pool one; wsgi_slow_request 2s; wsgi_app overdue:application;
    }
    location /patient/ { wsgi_slow_request 2s; wsgi_app overdue:application; }
    location /calm/ { wsgi_slow_request 0; wsgi_app overdue:application; }
    location /timed/ { wsgi_request_timeout 1500ms; wsgi_app overdue:application; }
    location /midway/ { wsgi_app held:midway; }
    location /large { wsgi_slow_request 2s; wsgi_app overdue:large; }
"""
TITLE = r"request has been running for (\d+\.\d\d\d)s, stack of its thread:"


@pytest.fixture
def start(nginx):
    return lambda **options: nginx(**{"main": MAIN, "http": HTTP, "server": SERVER} | options)


def stacks(site):
    """Of each stack that was logged: the seconds, and the messages that belong to it."""
    found = []
    for line in site.log.matching(r"\[warn\]"):
        text = errorlog.message(line)
        if title := re.fullmatch(TITLE, text):
            found.append((float(title[1]), []))
        elif found:
            found[-1][1].append(text)
    return found


def test_the_stack_is_logged_once_in_the_context_of_the_request(start, proto):
    site = start()
    gate = site.gate("a")
    site.ask("/overdue/gate/a")
    (line,) = site.log.wait_for(TITLE)
    site.log.wait_for("fcntl.flock")
    context = errorlog.context(line)
    assert "[warn]" in line and 'request: "GET /overdue/gate/a HTTP/1.1"' in context
    elapse(0.5)
    gate.open()
    site.wait_event("ended gate a")
    ((seconds, lines),) = stacks(site)
    assert 0.2 <= seconds < 5
    assert re.fullmatch(r'  File ".*/overdue\.py", line \d+, in application', lines[0])
    assert re.fullmatch(r'  File ".*/gate\.py", line \d+, in wait', lines[-2])
    assert lines[-1] == "    fcntl.flock(file, fcntl.LOCK_SH)"
    assert site.events("raised") == []
    assert proto(site, "GET", "/overdue/sleep/1.2").body == b"done"
    assert len(stacks(site)) == 2


def test_it_is_logged_again_in_each_period(start):
    site = start()
    gate = site.gate("a")
    client = site.ask("/again/gate/a")
    site.log.wait_for(TITLE, count=4)
    gate.open()
    assert client.read_response().body == b"done"
    # The last look may have been just before the end.
    site.settle()
    times = [seconds for seconds, _ in stacks(site)]
    assert times == sorted(times)
    # Not more than one a period. A look that is late is one of a period before.
    periods = [(round(seconds * 1000) - 200) // 100 for seconds in times]
    assert periods[0] >= 0 and len(times) <= periods[-1] + 1
    elapse(0.4)
    assert len(stacks(site)) == len(times)


def test_the_innermost_frames_are_logged(start):
    site = start()
    assert site.get("/deep/deep/1.2").body == b"done"
    ((_, lines),) = stacks(site)
    assert lines[0] == "  (22 outer frames left out)"
    assert [line.rsplit(" ", 1)[1] for line in lines if " in " in line] == ["down", "spin"]


def test_faster_requests_leave_nothing(start):
    site = start()
    for _ in range(20):
        assert site.get("/patient/sleep/0.01").body == b"done"
    assert site.get("/calm/sleep/0.4").body == b"done"
    assert stacks(site) == []


def test_waiting_for_a_thread_does_not_count(start):
    site = start()
    clients = [site.ask("/single/sleep/0.6") for _ in range(4)]
    assert [client.read_response().body for client in clients] == [b"done"] * 4
    assert stacks(site) == []


def test_nor_does_a_client_that_takes_its_time(start):
    site = start()
    client = site.ask("/large", rcvbuf=4096)
    site.wait_event("made")
    client.read_until(b"xxx")
    # What it has made is 30 MB, for which it has a thread for a while.
    elapse(2.5)
    assert stacks(site) == []


def test_a_request_is_running_behind_its_head_too(start):
    site = start()
    gate = site.gate("a")
    client = site.ask("/midway/a")
    client.read_until(b"first")
    site.log.wait_for("fcntl.flock")
    assert len(stacks(site)) == 1
    gate.open()
    client.read_until(b"more")
    site.wait_event("closed a")


def test_a_request_whose_client_has_gone_is_not_looked_at(start):
    site = start()
    gate = site.gate("a")
    client = site.ask("/patient/gate/a")
    site.wait_event("called gate a")
    client.reset()
    elapse(2.5)
    gate.open()
    site.wait_event("ended gate a")
    assert stacks(site) == []


def test_one_that_goes_on_without_its_client_is(start):
    site = start(http=HTTP + "wsgi_ignore_client_abort on;")
    gate = site.gate("a")
    client = site.ask("/overdue/gate/a")
    site.wait_event("called gate a")
    client.reset()
    (line,) = site.log.wait_for(TITLE)
    assert "/overdue/gate/a" in errorlog.context(line)
    gate.open()
    site.wait_event("ended gate a")


def test_the_time_of_a_request_is_kept_beside_it(start):
    site = start()
    assert site.get("/timed/spin/").status == 504
    site.log.wait_for("request took longer than 1.5s")
    site.wait_event("raised RequestTimeout")
    assert len(stacks(site)) == 1


@pytest.mark.parametrize("place", ["/overdue", "/again"])
def test_a_gil_that_is_held_is_named(start, place):
    site = start()
    client = site.ask(f"{place}/with_gil/2.5")
    (line,) = site.log.wait_for("the stack of this request is not to be had")
    assert "[warn]" in line and f"GET {place}/with_gil/2.5" in errorlog.context(line)
    assert line.count("the GIL has been held for longer than a second") == 1
    # Without the GIL.
    site.log.wait_for(r'overdue\.py", line \d+ in application')
    assert client.read_response().body == b"done"
    assert len(site.log.matching("is not to be had")) == 1
    # The next one is a request like any other. A second stack may come when it has slept.
    before = len(stacks(site))
    assert site.get(f"{place}/sleep/1.2").body == b"done"
    assert "time.sleep" in stacks(site)[before][1][-1]
    # What is had without the GIL is had again.
    assert site.get(f"{place}/with_gil/2.5").body == b"done"
    assert len(site.log.matching("is not to be had")) == 2
    site.log.wait_for("the stacks of its threads", count=2)
    assert len(site.workers()) == 1


def test_a_process_that_did_not_run_is_not_taken_for_one_that_holds_the_gil(start):
    site = start()
    gate, worker = site.gate("a"), site.worker()
    client = site.ask("/overdue/gate_with_gil/a")
    site.wait_event("waiting a")
    # The stack is asked for 200 ms after the beginning, and a second later it is late.
    elapse(0.6)
    site.signal("STOP", worker)
    elapse(1.5)
    gate.open()
    site.signal("CONT", worker)
    assert client.read_response().body == b"done"
    site.settle()
    assert site.log.matching("is not to be had|does not respond") == []


@pytest.mark.parametrize("ends", [True, False])
def test_nothing_is_said_of_a_request_that_has_gone_meanwhile(start, ends):
    site, gate, source = until(lambda: gone_meanwhile(start, ends), 30, "one that goes in time")
    with source:
        site.log.wait_for("the stacks of its threads")
        assert site.log.matching("is not to be had") == []
    # Looked at behind it.
    assert site.get("/overdue/sleep/1.2").body == b"done"
    ((_, lines),) = stacks(site)
    assert "time.sleep" in lines[-1]
    gate.open()


def gone_meanwhile(start, ends):
    """A site where a request has gone that is looked at, its gate, and the source that is read."""
    site = start()
    gate, source = site.gate("a"), f"{site.dir}/gates/a.py"
    os.mkfifo(source)
    os.chmod(source, 0o644)
    sent = time.monotonic()
    client = site.ask("/overdue/unread/a")
    site.wait_event("called unread a")
    # Somebody reads it from now on.
    file = open(until(lambda: opened(source), 10, "a reader of the source"), "w")
    if ends:
        gate.open()
        assert client.read_response().body == b"done"
    else:
        client.reset()
        site.barrier()
    # It was to be looked at after 200 ms, and a second later it may be said that it is not.
    if time.monotonic() - sent < 1.2:
        return site, gate, file
    file.close()


def opened(fifo):
    """A descriptor to write to it, once it has a reader."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise


def test_many_slow_requests_are_logged_each(start):
    site = start(main="thread_pool four threads=40;", server=SERVER.replace(
        "wsgi_thread_pool one;", ""))
    gate = site.gate("a")
    clients = [site.ask(f"/overdue/gate/a?{number}") for number in range(40)]
    lines = site.log.wait_for(TITLE, count=40)
    gate.open()
    assert [client.read_response().body for client in clients] == [b"done"] * 40
    asked = {int(re.search(r"/gate/a\?(\d+) ", line)[1]) for line in lines}
    assert asked == set(range(40)) and len(lines) == 40
