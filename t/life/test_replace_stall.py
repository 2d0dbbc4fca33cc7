"""One worker is replaced, or the binary: others serve while the successor imports."""

import os
import signal

from lib import http, procs
from lib.poll import until
from lib.stall import WAITS, answers, reload, switched

from common.nginx import FORCED

MODULES = os.environ.get("TEST_NGINX_MODULES", "/usr/lib/nginx/modules")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def spend(site):
    """One of two workers has had its requests and has gone; the other one's pid."""
    pids = site.workers()

    def asked():
        site.get("/step")
        return site.log.matching("gracefully shutting down")

    (line,) = until(asked, 20, "one that leaves")
    left = int(line.split("#")[0].rsplit(" ", 1)[1])
    until(lambda: not procs.alive(left), what="the end of the one that leaves")
    return (set(pids) - {left}).pop()


def test_the_other_worker_serves_while_the_successor_imports(start):
    site = start("wsgi_max_requests 30;", workers=2)
    gate = site.gate("old")
    other = spend(site)
    site.wait_event("waiting old")
    assert answers(site, 50) == {"old"}
    # At the start a worker may have waited for one that was quicker, too.
    (successor,) = set(site.workers()) - {other}
    assert site.log.matching(rf" {successor}#.*{WAITS}")
    gate.open()
    site.log.wait_for("accepts connections .* after its start")


def test_the_other_worker_serves_while_one_that_was_killed_is_followed(start):
    site = start(workers=2)
    site.allow_alert("exited on signal 9")
    gate = site.gate("old")
    victim, other = site.workers()
    site.signal("KILL", victim)
    site.wait_event("waiting old")
    assert answers(site, 50) == {"old"}
    # Without anybody else the successor accepts at once.
    site.signal("KILL", other)
    site.wait_event("waiting old", count=2)
    for _ in range(20):
        site.barrier()
    gate.open()
    assert answers(site) == {"old"}


def test_with_a_socket_of_its_own_the_successor_hands_over_while_it_imports(start, monkeypatch):
    for name in FORCED:
        monkeypatch.delenv(name, raising=False)
    log = "log_format ran '$wsgi_worker'; access_log @DIR@/ran.log ran;"
    site = start("wsgi_balance on;" + log, workers=2,
                 server="listen 127.0.0.1:@PORT2@ reuseport;")
    site.allow_alert("exited on signal 9")
    gate = site.gate("old")
    victim, other = site.workers()
    site.signal("KILL", victim)
    site.wait_event("waiting old")
    # Half of the connections are the successor's, which has nothing to run them with.
    assert answers(site, 50, port=site.ports["PORT2"]) == {"old"}
    (successor,) = set(site.workers()) - {other}
    ran = read(f"{site.dir}/ran.log").split("\n")
    assert f"{successor}, {other}" in ran and str(other) in ran and str(successor) not in ran
    gate.open()
    until(lambda: answers(site, 10, port=site.ports["PORT2"]) == {"old"}
          and str(successor) in read(f"{site.dir}/ran.log").split("\n"), what="its own requests")


def test_a_worker_that_a_signal_has_told_to_quit_is_not_relied_on(start):
    site = start(workers=2, server="location = /pid { return 200 $pid; }")
    site.allow_alert("exited on signal 9")
    client = site.connect()
    client.send(http.build("GET", "/pid", close=False))
    busy = int(client.read_response().text)
    # The worker stays until this request is complete.
    client.send(b"GET /step HTTP/1.1\r\nHost: a\r\n")
    site.settle()
    (other,) = set(site.workers()) - {busy}
    gate = site.gate("old")
    site.signal("QUIT", busy)
    site.log.wait_for(f"{busy}#.* gracefully shutting down")
    site.signal("KILL", other)
    site.wait_event("waiting old")
    for _ in range(20):
        site.barrier()
    client.send(b"\r\n")
    assert client.read_response().text == "old"
    gate.open()
    assert answers(site) == {"old"}


def test_the_only_worker_has_nobody_who_serves_for_it(start):
    site = start("wsgi_max_requests 5;")
    gate = site.gate("old")
    old = site.worker()
    answers(site, 5)
    site.wait_respawn(old)
    site.wait_event("waiting old")
    for _ in range(20):
        site.barrier()
    gate.open()
    assert answers(site, 3) == {"old"}


def test_an_upgraded_binary_accepts_at_once(start):
    site = start(daemon=True)
    old = site.pid
    (worker,) = site.workers()
    gate = site.gate("old")
    site.signal("USR2")
    until(lambda: site.read_pid() not in (0, old), what="the new master's pid")
    new = site.read_pid()
    site.sessions.add(procs.session(new))
    site.wait_event("waiting old")
    site.signal("WINCH", old)
    until(lambda: not procs.alive(worker), what="the old worker's end")
    for _ in range(20):
        site.barrier()
    gate.open()
    assert answers(site) == {"old"}
    site.signal("QUIT", old)
    until(lambda: not procs.alive(old), what="the old master's end")
    site.pid = new
    site.settle()
    # The new master's first reload is held as any other.
    gate, old = reload(site)
    assert answers(site) == {"old"}
    gate.open()
    switched(site, old)


def test_workers_of_a_master_that_is_called_back_serve(start):
    site = start(daemon=True)
    old = site.pid
    site.signal("USR2")
    until(lambda: site.read_pid() not in (0, old), what="the new master's pid")
    new = site.read_pid()
    site.sessions.add(procs.session(new))
    until(lambda: site.workers(of=new), what="a worker of the new master")
    site.signal("WINCH", old)
    until(lambda: not site.workers(shutting_down=True, of=old), what="the old workers' end")
    site.signal("HUP", old)
    until(lambda: site.workers(of=old), what="workers of the old master again")
    site.signal("QUIT", new)
    until(lambda: not procs.alive(new), what="the new master's end")
    site.pid = old
    assert answers(site) == {"old"}
    gate, workers = reload(site)
    assert answers(site) == {"old"}
    gate.open()
    switched(site, workers)


def test_streams_are_served_beside(start):
    module = f"{MODULES}/ngx_stream_module.so"
    # Or it is built in.
    load = f"load_module {module};" if os.path.exists(module) else ""
    site = start(main=load + """
        stream { server { listen 127.0.0.1:@PORT2@; return old; }
                 server { listen 127.0.0.1:@PORT3@ udp; return old; } }""", workers=2)

    def ask():
        with http.Connection(site.ports["PORT2"]) as client:
            return client.read_to_end()[0]

    gate, old = reload(site, main=site.values["MAIN"].replace("return old", "return new"))
    assert {ask() for _ in range(20)} == {b"old"}
    gate.open()
    switched(site, old)
    assert {ask() for _ in range(20)} == {b"new"}


def test_workers_with_new_sources_do_not_wait_for_those_with_old_ones(make_nginx):
    site = make_nginx(http="wsgi_check off; wsgi_reload on; wsgi_chdir @DIR@/site;",
                      server="location /shop { wsgi_app shop; }", workers=2)
    code = "def application(e, s):\n    s('200 OK', [])\n    return [b'{}']\n"
    site.write("site/shop.py", code.format("open"))
    site.start()
    until(lambda: site.get("/shop").body == b"open", what="the shop")
    # The other worker has read the file, too.
    site.settle()
    old = site.workers()
    site.write("site/shop.py", code.format("rebuilt"))
    until(lambda: site.get("/shop").body == b"rebuilt", what="the new shop")
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    assert {site.get("/shop").body for _ in range(20)} == {b"rebuilt"}


def test_a_master_that_dies_during_a_hold_leaves_workers_that_serve(start):
    site = start()
    gate, (old,) = reload(site)
    workers = site.workers()
    os.kill(site.pid, signal.SIGKILL)
    site.process.wait(10)
    assert answers(site) == {"old"}
    gate.open()
    until(lambda: site.get("/step").text == "new", what="an answer of the new code")
    until(lambda: not procs.alive(old), what="the old worker's end")
    for pid in filter(procs.alive, workers):
        os.kill(pid, signal.SIGTERM)
    until(lambda: not any(map(procs.alive, workers)), what="the end of the workers")
