"""Workers that die or stop while they run requests of others: never twice, never lost."""

import re
import signal
import time

import pytest
from lib import http, procs
from lib.balance import OPTIONS, Workers
from lib.poll import elapse, until

from common import proc

DEATHS = ["KILL", "SEGV"]
SILENT = "location /silent { wsgi_read_timeout 700ms; location /silent/before {" \
         " wsgi_app ran:before_head; } }"


def kill(workers, pid, name="KILL"):
    """The worker dies; the one that the master starts in its place."""
    site = workers.site
    site.expect_alert(rf"worker process {pid} exited on signal {getattr(signal, f'SIG{name}')}")
    site.signal(name, pid)
    until(lambda: not procs.alive(pid), what=f"the end of {pid}")
    return until(lambda: set(site.workers()) - set(workers.pids), 15, "a worker in its place").pop()


def begun(workers, path, event):
    client = workers.ask(path)
    workers.site.wait_event(event)
    assert workers.ran() == [workers.free]
    return client


@pytest.mark.parametrize("name", DEATHS)
def test_the_death_of_the_one_that_runs_a_request_is_502(pair, name):
    pair.site.gate("a")
    client = begun(pair, "/before/a", "waiting a")
    kill(pair, pair.free, name)
    response = client.read_response()
    assert (response.status, response.complete) == (502, True)
    assert pair.ran() == [pair.free]
    # The connection is the busy worker's, which is well.
    client.send(http.build("GET", "/static", close=False))
    assert client.read_response().body == b"static"
    assert pair.busy in pair.site.workers()


def test_its_death_after_the_head_cuts_the_response(pair):
    pair.site.gate("a")
    client = begun(pair, "/midway/a", "waiting a")
    head = client.read_head()
    assert (head.status, client.read_chunk()) == (200, b"first")
    kill(pair, pair.free)
    assert client.at_eof(10)
    assert pair.ran() == [pair.free]


def test_all_that_it_runs_fails_and_nothing_else(pair):
    gates = [pair.site.gate(name) for name in ("a", "b")]
    lost = [pair.ask(f"/before/{name}") for name in ("a", "b")]
    pair.site.wait_event("waiting", 2 + pair.threads)
    waiting = [pair.ask(f"/plain?{number}") for number in range(5)]
    elapse(0.1)
    kill(pair, pair.free)
    assert [client.read_response().status for client in lost] == [502] * 2
    # Those that waited are run by whoever has room: the successor, when it has loaded.
    assert [client.read_response().status for client in waiting] == [200] * 5
    ran = pair.ran()
    assert len(ran) == 7 and ran.count(pair.free) == 2
    for gate in gates:
        gate.open()


def test_the_death_of_the_one_that_accepted_leaves_the_other_one_alone(pair):
    gate = pair.site.gate("close")
    client = begun(pair, "/closing?waits", "waiting close")
    successor = kill(pair, pair.busy)
    # What there was of the response may have come; then the connection ends.
    client.read_to_end()
    gate.open()
    pair.site.wait_event("close")
    assert pair.free in pair.site.workers()
    for pid in (pair.free, successor):
        assert pair.ask("/plain", pid=pid).read_response().status == 200


def test_a_response_for_a_dead_worker_goes_to_nobody(pair):
    """An endless one ends, and its thread is free."""
    client = pair.ask("/closing?endless")
    client.read_until(b"x" * 10_000)
    assert pair.ran() == [pair.free]
    kill(pair, pair.busy)
    pair.site.wait_event("close")
    # All its threads can be had.
    pair.occupy(pair.free)


@pytest.fixture
def stopped(pair):
    """The free worker is stopped."""
    client = pair.connect()
    pair.site.signal("STOP", pair.free)
    until(lambda: procs.state(pair.free) == "T")
    yield client
    if procs.alive(pair.free):
        pair.site.signal("CONT", pair.free)


def test_what_a_stopped_worker_was_offered_runs_elsewhere(pair, stopped):
    stopped.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    # It is offered, is not taken, and comes back.
    elapse(0.3)
    assert pair.ran() == []
    pair.release().read_response()
    assert stopped.read_response().text == str(pair.busy)
    pair.site.signal("CONT", pair.free)
    # The other one has looked at what it was sent when it has answered this and is at rest.
    assert pair.ask("/plain", pid=pair.free).read_response().status == 200
    pair.site.settle()
    first, *later = pair.ran()
    assert first == pair.busy and len(later) == 1


def test_a_worker_that_goes_on_is_handed_requests_again(pair, stopped):
    stopped.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    elapse(0.3)
    pair.site.signal("CONT", pair.free)
    assert stopped.read_response().text == str(pair.free)
    for _ in range(5):
        assert pair.handed("/plain").status == 200


def test_what_a_worker_was_offered_that_dies_runs_once(pair, stopped):
    stopped.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    elapse(0.05)
    successor = kill(pair, pair.free)
    assert stopped.read_response().text == str(successor)
    assert pair.ran() == [successor]


def test_the_log_of_a_request_does_not_pile_up_for_a_stopped_worker(pair):
    lines = 30_000
    gate = pair.site.gate("chatter")
    client = begun(pair, f"/chatter?{lines}", "waiting chatter")
    before = proc.rss(pair.free)
    pair.site.signal("STOP", pair.busy)
    try:
        gate.open()
        pair.site.wait_event("chattered", timeout=30)
        grown = proc.rss(pair.free) - before
    finally:
        pair.site.signal("CONT", pair.busy)
    assert client.read_response().text == str(pair.free)
    # Of 30 MiB, the kernel's buffer beside them.
    assert grown < 8 << 20
    said = pair.site.log.wait_for(r" \d+ x{1000}", count=lines)
    found = [int(re.search(r" (\d+) x{1000}", line)[1]) for line in said]
    assert sorted(found) == list(range(lines))


def test_a_worker_that_lets_offers_lie_is_left_alone_for_a_while(pair):
    """One thread has the interpreter, and lets no other take what the event loop has got."""
    gate = pair.site.gate("hog")
    hog = pair.ask("/hog", pid=pair.free)
    pair.site.wait_event(f"hogs {pair.free}")
    begun = time.monotonic()
    waiting = pair.ask("/plain")
    lies = f"process {pair.free} does not take the requests it is offered"
    pair.site.log.wait_for(lies)
    elapse(0.4)
    # A tenth of a second is waited for it, then it is left alone for one.
    assert 1.1 * (len(pair.site.log.matching(lies)) - 1) < time.monotonic() - begun
    gate.open()
    assert hog.read_response().text == str(pair.free)
    assert waiting.read_response().text == str(pair.free)
    assert pair.ran() == [pair.free]


def test_the_limit_counts_while_a_worker_is_left_alone(start):
    pair = start(server="location = /none { wsgi_queue 0; wsgi_app ran:plain; }").occupy()
    gate = pair.site.gate("hog")
    hog = pair.ask("/hog", pid=pair.free)
    pair.site.wait_event(f"hogs {pair.free}")
    client = pair.connect()
    pair.ask("/plain")
    pair.site.log.wait_for(f"process {pair.free} does not take the requests it is offered")
    # It answers, and is not silent any more.
    elapse(0.1)
    client.send(http.build("GET", "/none", close=False))
    assert client.read_response().status == 503
    gate.open()
    assert hog.read_response().status == 200


def time_of_the_second(three):
    """A request is offered to a stopped worker that dies, and then to another one that is stopped:
    after how long that is given up. None: the first was given up before it died."""
    site, (second, first) = three.site, three.pids[1:]
    given_up = "process {} does not take the requests it is offered"
    # The worker with the client has a link to each.
    client = three.connect()
    site.signal("STOP", first)
    client.send(http.build("GET", "/plain", close=False))
    assert client.read_response().text == str(second)
    site.signal("CONT", first)
    until(lambda: three.ask("/plain").read_response().text == str(first))
    # A thread is free a little after its client has the response; with fewer it comes second.
    site.settle()
    for pid in (first, second):
        site.signal("STOP", pid)
        until(lambda pid=pid: procs.state(pid) == "T")
    mark = site.log.mark()
    client.send(http.build("GET", "/plain", close=False))
    elapse(0.06)
    start = time.monotonic()
    site.expect_alert(rf"worker process {first} exited on signal 9")
    site.signal("KILL", first)
    site.log.wait_for(given_up.format(second), start=mark)
    time_of_it = time.monotonic() - start
    site.signal("CONT", second)
    assert client.read_response().status == 200
    return None if site.log.matching(given_up.format(first), mark) else time_of_it


@pytest.mark.alone
def test_each_worker_has_its_time_to_take_what_it_is_offered(nginx):
    tries = (Workers(nginx(**OPTIONS | {"workers": 3})).occupy() for _ in range(5))
    assert next(filter(None, map(time_of_the_second, tries))) >= 0.1


def test_of_three_workers_the_third_does_what_a_stopped_one_does_not(nginx):
    three = Workers(nginx(**OPTIONS | {"workers": 3})).occupy()
    still, third = three.pids[1:]
    clients = [three.connect() for _ in range(8)]
    three.site.signal("STOP", still)
    try:
        for client in clients:
            client.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().text == str(third)
    finally:
        three.site.signal("CONT", still)
    three.site.settle()
    assert three.ran() == [third] * 8


def test_a_worker_that_is_stopped_while_it_runs_a_request_is_bound_by_its_times(start):
    pair = start(server=SILENT).occupy()
    gate = pair.site.gate("a")
    client = begun(pair, "/silent/before/a", "waiting a")
    pair.site.signal("STOP", pair.free)
    try:
        assert client.read_response().status == 504
    finally:
        pair.site.signal("CONT", pair.free)
    gate.open()
    pair.site.wait_event("closed a")
    assert pair.handed("/plain").status == 200
    assert pair.ran() == [pair.free] * 2


def test_descriptors_are_the_same_after_many_deaths(start):
    """Of the one that stays; the links to those that died are closed."""
    pair = start().occupy()
    free, counts = pair.free, []
    for number in range(6):
        client = pair.ask(f"/plain?{number}")
        assert client.read_response().text == str(free)
        client.close()
        pair.site.settle()
        counts.append(pair.site.fd_count(pair.busy))
        free = kill(pair, free)
        pair.pids.append(free)
    assert counts[1:] == counts[1:2] * 5
