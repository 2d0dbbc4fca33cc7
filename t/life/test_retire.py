"""Workers that ask to be replaced: no request fails, one at a time, whatever dies meanwhile."""

import os
import signal
import threading
import time

import pytest
from lib import http, procs
from lib.load import Load
from lib.poll import elapse, until

SERVER = """
    location /quick { wsgi_app overdue:quick; }
    location /growing { wsgi_app overdue:growing; }
    location /held/ { wsgi_app held:application; }
    location /chatty { wsgi_app chatty:application; }
"""
REPLACED = r"\[notice\] (\d+)#.*is to be replaced: "


@pytest.fixture
def start(nginx):
    def start(http, **options):
        options = {"server": SERVER, "main": "thread_pool default threads=4;"} | options
        return nginx(http=http, **options)

    return start


class KeepAlive(Load):
    """Clients that keep their connections as long as the server says that it keeps them."""

    def _ask(self):
        client = None
        while not self.done.is_set():
            try:
                client = client or http.Connection(self.port)
                client.send(http.build("GET", self.path, close=False))
                response = client.read_response()
                answer = response.status if response.complete else response.end
                if answer != 200 or response.header("Connection") == "close":
                    client.close()
                    client = None
            except (OSError, AssertionError, http.Closed) as error:
                answer, client = f"{type(error).__name__}: {error}", None
            self.answers.append(answer)


class Census:
    """Counts the workers that take connections, again and again."""

    def __init__(self, site):
        self.site, self.seen, self.fewest = site, set(), site.workers_wanted
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        self.thread.join(30)

    def _count(self):
        while not self.done.wait(0.005):
            pids = self.site.workers()
            self.seen.update(pids)
            # Twice: one that has gone while the others were looked at is no worker missing.
            self.fewest = min(self.fewest, max(len(pids), len(self.site.workers())))


def replacements(site):
    return len(site.log.matching(REPLACED))


@pytest.mark.parametrize("workers", [1, 3])
def test_no_request_fails_while_workers_are_replaced(start, workers):
    site = start("wsgi_max_requests 150 jitter=50;", workers=workers)
    with Census(site) as census, Load(site.port, "/quick", 3) as new, \
            KeepAlive(site.port, "/quick", 3) as kept:
        until(lambda: replacements(site) >= 6, 60, "six replacements")
        # The last one may still be waiting for its moment.
        until(lambda: len(census.seen) >= workers + 5, 20, "the successors of five")
    assert new.failures() == [] and kept.failures() == []
    assert census.fewest >= workers - 1
    codes = site.log.matching(r"worker process \d+ exited with code")
    assert all("code 0" in line for line in codes)
    print(f"{workers} workers: {len(new.answers)} + {len(kept.answers)} requests, "
          f"{replacements(site)} replacements, slowest {new.slowest:.3f} s")


def test_the_number_of_requests_decides(start):
    site = start("wsgi_max_requests 10;")
    old = site.worker()
    # The worker stays until this request is complete.
    late = site.connect()
    late.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n")
    site.barrier()
    for _ in range(9):
        assert site.get("/quick").text == str(old)
    assert site.log.matching("replaced") == []
    assert site.get("/quick").text == str(old)
    site.log.wait_for("is to be replaced: 10 requests served")
    # It serves on, and says that it will not keep a connection.
    late.send(b"\r\n")
    response = late.read_response()
    assert (response.text, response.header("Connection")) == (str(old), "close")
    new = site.wait_respawn(old)
    assert site.get("/quick").text == str(new)


def test_a_running_request_and_those_in_the_queue_are_served_before_the_worker_goes(start):
    site = start("wsgi_max_requests 3;", main="thread_pool default threads=1;")
    old = site.worker()
    gate = site.gate("a")
    clients = []
    for number in range(3):
        clients.append(site.connect())
        clients[-1].send(http.build("GET", f"/held/a?{number}"))
        site.barrier()
    site.log.wait_for(rf"{old}#.*gracefully shutting down")
    late = site.connect()  # It waits for the successor.
    late.send(http.build("GET", "/quick"))
    elapse(0.3)
    assert procs.alive(old)
    gate.open()
    assert [client.read_response().text for client in clients] == ["0", "1", "2"]
    assert late.read_response().text == str(site.wait_respawn(old))


def test_memory_over_the_limit_has_the_worker_replaced(start):
    site = start("wsgi_max_rss 150m;")
    old = site.worker()

    def grown():
        assert site.get("/growing").status == 200
        return site.log.matching(r"is to be replaced: \d+ MiB resident")

    until(grown, 20, "the replacement")
    until(lambda: not procs.alive(old), what="the old worker's end")
    new = site.wait_respawn(old)
    assert procs.rss(new) < 100 << 20
    assert site.get("/quick").text == str(new)


def test_without_a_master_nothing_is_replaced_and_it_is_said_once(start):
    site = start("wsgi_max_requests 2;", master=False)
    for _ in range(20):
        assert site.get("/quick").status == 200
    (line,) = site.log.matching("replaced")
    assert "[error]" in line and 'cannot be replaced, "master_process" is off' in line


def spend(site):
    """Every worker has had its number of requests."""
    pids = set(site.workers())

    def wishes():
        site.get("/quick")
        lines = site.log.matching("replaced: 5 requests served")
        return pids <= {int(line.split("#")[0].rsplit(" ", 1)[1]) for line in lines}

    until(wishes, 20, "all workers want to be replaced")
    return pids


def leaving(site):
    """The worker that has the token, and has begun to leave."""
    (pid,) = until(
        lambda: set(site.workers(shutting_down=True)) - set(site.workers()), what="one that leaves"
    )
    return pid


def test_a_holder_that_is_killed_is_followed_by_the_next(start):
    """It leaves while a response is under way, so that it can be caught in the act."""
    site = start("wsgi_max_requests 5;", workers=2)
    site.allow_alert("exited on signal 9")
    gate = site.gate("a")
    clients = []

    def spread():
        clients.append(site.connect())
        clients[-1].send(http.build("GET", "/held/a?x"))
        return len(site.log.matching(REPLACED)) >= 1 and len(site.log.matching("its turn")) >= 1

    until(spread, 20, "both workers want to be replaced")
    old = set(site.workers(shutting_down=True))
    victim = leaving(site)
    site.signal("KILL", victim)
    # Its successor hands the token on: now the other one leaves.
    until(lambda: replacements(site) >= 2, 15, "the other one's turn")
    gate.open()
    until(lambda: not any(map(procs.alive, old)), 15, "both have been replaced")
    until(lambda: len(site.workers()) == 2, what="two workers")


def test_workers_that_a_reload_has_told_to_leave_take_no_turn(start):
    """One has the turn, one waits for it, both serve a request still: new ones need not care."""
    site = start("wsgi_max_requests 5;", workers=2)
    gate = site.gate("a")

    def spread():
        site.connect().send(http.build("GET", "/held/a?x"))
        return len(site.log.matching(REPLACED)) >= 1 and len(site.log.matching("its turn")) >= 1

    until(spread, 20, "both workers want to be replaced")
    site.log.wait_for("gracefully shutting down")
    old = site.reload()
    new = set(site.workers())

    def replaced():
        site.get("/quick")
        lines = site.log.matching(REPLACED)
        return new & {int(line.split("#")[0].rsplit(" ", 1)[1]) for line in lines}

    until(replaced, 20, "a replacement of a new worker")
    assert all(map(procs.alive, old))
    # The one that waited does not take its turn while it leaves.
    lines = site.log.matching(REPLACED)
    assert len([line for line in lines if any(f" {pid}#" in line for pid in old)]) == 1
    gate.open()
    until(lambda: not any(map(procs.alive, old)), 15, "the old workers' end")


@pytest.mark.parametrize("when, long", [("is to be replaced", 2.5), ("its turn", 8)])
def test_a_worker_whose_master_has_gone_stays(start, when, long):
    """Killed after the worker has decided to leave, and before it has left."""
    site = start("wsgi_max_requests 5;", workers=2)
    site.gate("a")

    def decided():
        site.connect().send(http.build("GET", "/held/a?x"))
        lines = [site.log.matching("is to be replaced"), site.log.matching("its turn")]
        return lines[0] if when == "is to be replaced" else all(lines) and lines[1]

    (line,) = until(decided, 20, "the decision")
    worker = int(line.split("#")[0].rsplit(" ", 1)[1])
    workers = site.workers()
    os.kill(site.pid, signal.SIGKILL)
    site.process.wait(10)
    for gate in site.gates:
        gate.open()
    elapse(long)
    assert procs.alive(worker)
    assert "shutting down" not in procs.title(worker)
    for pid in filter(procs.alive, workers):
        os.kill(pid, signal.SIGTERM)
    until(lambda: not any(map(procs.alive, workers)), what="the end of the workers")


def test_the_successor_has_its_turn_until_it_has_imported(start):
    site = start(
        "wsgi_max_requests 5; wsgi_env IMPORT_TAKES 1.5;", workers=2,
        server=SERVER + "location /slow { wsgi_app slow_import:application; }",
    )
    site.wait_event("imported", count=2)
    spend(site)
    site.wait_event("importing", count=3)
    # The second one is replaced when the first one's successor has imported.
    until(lambda: replacements(site) >= 2, 15, "the second one's turn")
    assert len(site.events("imported")) >= 3


def test_a_reload_in_the_middle_loses_nothing_and_the_next_can_be_replaced(start):
    site = start("wsgi_max_requests 5;", workers=2)
    with Load(site.port, "/quick", 2) as load:
        for _ in range(3):
            seen = replacements(site)
            until(lambda: replacements(site) > seen, 30, "a replacement")
            site.reload()
        seen = replacements(site)
        until(lambda: replacements(site) > seen + 2, 30, "replacements after the reloads")
    assert load.failures() == []


def test_the_gap_of_a_single_worker(start):
    site = start("wsgi_max_requests 50;")
    slowest = 0.0
    for _ in range(3):
        old = site.worker()
        while site.workers() == [old]:
            begun = time.monotonic()
            assert site.get("/quick").status == 200
            slowest = max(slowest, time.monotonic() - begun)
        site.wait_respawn(old)
    print(f"slowest request over 3 replacements of a single worker: {slowest * 1000:.0f} ms")


def test_an_access_log_with_a_buffer_loses_nothing_when_threads_are_stuck(nginx):
    site = nginx(
        main="thread_pool default threads=2;",
        http="wsgi_request_timeout 300ms;"
             "access_log @DIR@/buffered.log combined buffer=32k;",
        server="location /overdue/ { wsgi_app overdue:application; }" + SERVER,
    )
    old = site.worker()
    assert site.get("/overdue/sleep/").status == 504
    site.wait_respawn(old)
    until(lambda: not procs.alive(old), what="the old worker's end")
    with open(f"{site.dir}/buffered.log") as file:
        assert "GET /overdue/sleep/" in file.read()
