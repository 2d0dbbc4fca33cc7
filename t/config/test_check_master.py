"""wsgi_check: what the master goes on with while and after it checks."""

import os
import signal

import pytest
from lib import procs
from lib.poll import elapse, until
from lib.shop import BROKEN, SEEN, barrier, change, gated, refuse, seen
from lib.sources import HELLO

MODULE = "/ngx_http_wsgi_module.so"


@pytest.mark.parametrize("taken", [False, True])
def test_a_worker_that_dies_during_a_check_is_noticed(shop, taken):
    site = shop(workers=2).start()
    assert site.get("/shop").body == b"open"
    # The other worker has read the file, too.
    site.settle()
    gate = site.gate("import")
    change(site, gated(site, HELLO.format("new") if taken else BROKEN))
    site.expect_alert(r"worker process \d+ exited on signal 9")
    if not taken:
        site.expect_alert(r"\[emerg\]")
    old = site.workers()
    site.signal("HUP")
    site.wait_event("waiting")
    os.kill(old[0], signal.SIGKILL)
    until(lambda: procs.state(old[0]) in ("Z", None), what="the worker's death")
    assert site.get("/shop").body == b"open"
    if not taken:
        # What the new worker, in place of the dead one, is to load.
        change(site, HELLO.format("open"))
    gate.open()
    site.log.wait_for(rf"worker process {old[0]} exited on signal 9")
    until(lambda: len(site.workers()) == 2 and old[0] not in site.workers(), what="two workers")
    if taken:
        until(lambda: set(site.workers()).isdisjoint(old), what="new workers")
    else:
        assert old[1] in site.workers()
    until(lambda: site.get("/shop").body == (b"new" if taken else b"open"), what="the answer")
    assert site.log.matching("unknown process") == []


@pytest.mark.parametrize("early", [True, False])
def test_a_worker_is_not_replaced_while_the_master_is_busy_with_a_check(shop, early):
    """Nobody would start another."""
    quick = "location /quick { wsgi_app overdue:quick; }"
    site = shop(http="wsgi_max_requests 20;", server=quick).start()
    (old,) = site.workers()
    assert site.get("/shop").body == b"open"
    gate = site.gate("import")
    change(site, gated(site, BROKEN))
    site.expect_alert(r"\[emerg\]")

    def spend():
        for _ in range(19):
            assert site.get("/quick").text == str(old)

    if early:
        spend()
    site.signal("HUP")
    site.wait_event("waiting")
    if not early:
        spend()
    site.log.wait_for("replaced: 20 requests served")
    # Longer than the farewell.
    elapse(2.5)
    assert site.get("/quick", timeout=3).text == str(old)
    assert site.log.matching("gracefully") == []
    change(site, HELLO.format("new"))
    gate.open()
    site.log.wait_for("burnt down", timeout=20)
    new = site.wait_respawn(old)
    until(lambda: site.get("/quick").text == str(new), what="an answer of the new worker")


def test_signals_that_come_during_a_check_are_acted_on_afterwards(shop):
    site = shop().start()
    assert site.get("/shop").body == b"open"
    gate = site.gate("import")
    change(site, gated(site, HELLO.format("new")))
    site.signal("HUP")
    site.wait_event("waiting")
    mark = site.log.mark()
    site.signal("USR1")
    site.signal("QUIT")
    assert site.get("/shop").body == b"open"
    assert procs.alive(site.pid)
    gate.open()
    until(lambda: site.process.poll() is not None, 15, "nginx's end")
    assert site.process.returncode == 0
    assert site.log.matching("SIGQUIT", mark)


def test_a_master_that_is_killed_takes_the_check_with_it(shop):
    site = shop().start()
    assert site.get("/shop").body == b"open"
    site.gate("import")
    change(site, SEEN + gated(site, ""))
    site.signal("HUP")
    site.wait_event("waiting")
    (child,) = seen(site, 1)
    (worker,) = site.workers()
    assert procs.alive(child)
    os.kill(site.pid, signal.SIGKILL)
    site.process.wait(10)
    until(lambda: not procs.alive(child), what="the end of the check")
    os.kill(worker, signal.SIGTERM)
    until(lambda: not procs.alive(worker), what="the end of the worker")


def test_nothing_that_processes_share_is_taken_down_by_a_check(shop):
    http = "limit_req_zone $uri zone=z:1m rate=1r/m;"
    server = "listen unix:@DIR@/sock; location = /once { limit_req zone=z; }"
    site = shop(http=http, server=server).start()
    site.write("html/once", "once")
    assert site.get("/once").body == b"once"
    refuse(site, "import os\nos._exit(0)", "ended")
    refuse(site, BROKEN, "burnt down")
    change(site, HELLO.format("new"))
    site.reload(gone=True)
    assert site.get("/shop").body == b"new"
    assert site.get("/once").status == 503
    assert os.path.exists(f"{site.dir}/sock") and site.read_pid() == site.pid
    assert site.log.matching("was locked by|deleting socket") == []


def test_the_master_neither_runs_python_nor_keeps_the_module(shop):
    site = shop().start()
    for number in range(3):
        refuse(site, BROKEN, "burnt down")
        change(site, HELLO.format(number))
        site.reload(gone=True)
    with open(f"/proc/{site.pid}/maps") as file:
        assert MODULE in file.read()
    assert len(os.listdir(f"/proc/{site.pid}/task")) == 1
    site.wsgi = False
    site.reload(gone=True, server="", http="")
    with open(f"/proc/{site.pid}/maps") as file:
        assert MODULE not in file.read()


def test_reloads_leave_no_descriptor_in_the_master(shop):
    site = shop().start()
    site.reload(gone=True)
    count = len(procs.fds(site.pid))
    for _ in range(10):
        site.reload(gone=True)
        refuse(site, BROKEN, "burnt down")
        change(site, HELLO.format("open"))
    assert len(procs.fds(site.pid)) == count


def test_reloads_that_come_during_a_check_lead_to_one_more(shop):
    site = shop().start()
    gate = site.gate("import")
    change(site, gated(site, HELLO.format("new")))
    site.signal("HUP")
    site.wait_event("waiting")
    for _ in range(5):
        site.signal("HUP")
    gate.open()
    until(lambda: site.get("/shop").body == b"new", 15, "the new code")
    elapse(0.3)
    barrier(site)
    assert len(site.log.matching("\\[notice\\].*: reconfiguring")) == 2
