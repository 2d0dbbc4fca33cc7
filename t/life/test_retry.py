"""Imports that fail are tried again by fresh workers, one at a time, when somebody asks."""

import os
import time

import pytest
from lib import procs
from lib.load import Load
from lib.poll import elapse, until

# As Django does: what has been begun cannot be begun again in the same interpreter.
SHOP = """
import os, state
from record import record
record("tried", os.getpid())
if state.begun:
    raise RuntimeError("populate() isn't reentrant")
state.begun = True
if not os.path.exists({flag!r}):
    raise ConnectionError("the database is down")
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def shop(make_nginx, **options):
    server = "location /shop { wsgi_app shop; }" + options.pop("server", "")
    site = make_nginx(server=server, http="wsgi_chdir @DIR@/site; wsgi_check off;", **options)
    site.write("site/state.py", "begun = False\n")
    site.flag = f"{site.dir}/database-is-up"
    site.write("site/shop.py", SHOP.format(flag=site.flag))
    return site.start()


def serves(site):
    return site.get("/shop").status == 200


def heal(site):
    """What the application needs is there: it is served, in the end by all workers."""
    site.write("database-is-up", "")
    until(lambda: serves(site), 30, "the application")
    # The others follow, one by one, when they are asked.
    until(lambda: all(serves(site) for _ in range(20)), 30, "the application in all workers")


@pytest.mark.parametrize("workers", [1, 3])
def test_an_application_serves_when_what_it_needs_is_there(make_nginx, workers):
    site = shop(make_nginx, workers=workers, apps=["plain"])
    site.wait_event("tried", count=workers)
    assert site.get("/shop").status == 500
    site.log.wait_for("ConnectionError: the database is down", count=workers)
    if workers == 1:
        # It must be idle: nobody is served while it is replaced.
        heal(site)
    else:
        with Load(site.port, "/plain", 1) as plain, Load(site.port, "/static", 1) as static:
            heal(site)
        for load in (plain, static):
            assert load.answers and load.failures() == []
    assert site.log.matching("populate") == []
    until(lambda: len(site.workers()) == workers, 10, "all workers")
    ends = site.log.matching(r"worker process \d+ exited with code")
    assert ends and all("code 0" in line for line in ends)


def test_one_worker_of_all_makes_the_next_try(make_nginx):
    before = [time.monotonic()]
    site = shop(make_nginx, workers=3)
    site.wait_event("tried", count=3)
    old = set(site.workers())

    def next_try():
        site.get("/shop")
        before.append(time.monotonic())
        return len(site.events("tried")) > 3

    until(next_try, 20, "another try")
    # The others wait for what becomes of it.
    site.log.wait_for("ConnectionError: the", count=4)
    for _ in range(30):
        assert site.get("/shop").status == 500
    found = len(site.events("tried")), len(old & set(site.workers()))
    # The try had not been made when the last look but one began; the next one is due two seconds
    # after its end.
    assert found == (4, 2) or time.monotonic() - before[-2] > 2
    assert site.log.matching("populate") == []


def test_nobody_tries_again_what_nobody_asks_for(make_nginx):
    site = shop(make_nginx)
    site.wait_event("tried")
    site.log.wait_for("ConnectionError")
    worker = site.worker()

    def next_try():
        assert site.get("/shop").status == 500
        return len(site.events("tried")) > 1

    until(next_try, 10, "another try")
    (fresh,) = [pid for pid in site.workers() if pid != worker]
    # Longer than the pause before the next try.
    elapse(3)
    assert site.worker() == fresh
    assert len(site.events("tried")) == 2


def test_a_single_worker_is_not_replaced_while_something_is_under_way(make_nginx):
    site = shop(make_nginx, apps=["held"])
    gate = site.gate("a")
    site.wait_event("tried")
    worker = site.worker()
    client = site.ask("/held/a?under-way")
    site.wait_event("called a under-way")
    site.write("database-is-up", "")

    def asked():
        # Until the pause is over and the worker has been told to wait for its moment.
        answer = site.get("/shop", close=False)
        return answer.header("Connection") == "close" and site.worker() == worker

    until(asked, 10, "a worker that waits for its moment")
    for _ in range(30):
        assert site.get("/shop").status == 500
        site.barrier()
    assert site.worker() == worker
    gate.open()
    assert client.read_response().body == b"under-way"
    until(lambda: serves(site), 10, "the application")
    assert site.worker() != worker


def test_a_single_process_tries_again_itself(make_nginx):
    site = make_nginx(
        master=False, server="location /broken { wsgi_app broken; }", http="wsgi_chdir @DIR@/site;"
    )
    site.write("site/broken.py", "raise ValueError('broken')\n")
    site.start()
    assert site.get("/broken").status == 500
    hello = "def application(e, s):\n    s('200 OK', [])\n    return [b'healed']\n"
    site.write("site/broken.py", hello)
    until(lambda: site.get("/broken").body == b"healed", 20, "the application heals")
    assert procs.alive(site.pid)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_whose_python_could_not_be_started_is_replaced(make_nginx, workers):
    """A deploy swaps the directory of wsgi_chdir while a worker starts."""
    site = make_nginx(
        apps=["plain"], workers=workers, http="wsgi_chdir @DIR@/site; wsgi_check off;"
    )
    site.start()
    assert site.get("/plain").body == b"plain"
    os.rename(f"{site.dir}/site", f"{site.dir}/away")
    site.expect_alert("exited on signal 9")
    for worker in site.workers():
        site.signal("KILL", worker)
        site.wait_respawn(worker)
    until(lambda: len(site.workers()) == workers, what="all workers")
    site.log.wait_for(rf'\[error\].*wsgi_chdir "{site.dir}/site"', count=workers)
    assert site.get("/static").body == b"static"
    os.rename(f"{site.dir}/away", f"{site.dir}/site")
    until(lambda: site.get("/plain").body == b"plain", 20, "the application")
    until(lambda: all(site.get("/plain").status == 200 for _ in range(20)), 20, "all workers")
    assert site.log.matching("cannot be respawned") == []
