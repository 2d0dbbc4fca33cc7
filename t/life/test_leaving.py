"""A worker that is asked to leave while Python is stuck: bounded, quiet, and it says where."""

import pytest
from lib import procs
from lib.poll import elapse, until

HTTP = "wsgi_shutdown_timeout 1s;"
SERVER = """
    location /stuck/ { wsgi_app stuck:application; }
    location /thread { wsgi_app stuck:thread; }
    location /working { wsgi_app stuck:working; }
    location /midway/ { wsgi_app held:midway; }
"""
KINDS = ["stuck_in_sleep", "stuck_in_lock", "stuck_with_gil", "stuck_in_loop", "stuck_at_fork"]


@pytest.fixture
def start(nginx):
    return lambda **options: nginx(**{"http": HTTP, "server": SERVER, "apps": ["plain"]} | options)


def make_stuck(site, kind):
    """A thread is stuck and its client has left."""
    client = site.ask(f"/stuck/{kind}")
    site.wait_event(f"stuck {kind}")
    return client


def leave(site, how, worker):
    """Ask the worker to leave; the CPU time it used until it had gone."""
    site.allow_alert("python did not stop")
    used = [procs.cpu_seconds(worker)] * 2
    site.signal({"quit": "QUIT", "stop": "TERM", "reload": "HUP"}[how])

    def is_gone():
        site.process.poll()
        now = procs.cpu_seconds(worker)
        used[1] = max(used[1], now or 0)
        return not procs.alive(worker)

    # The longest: the shutdown timeout of 1 s, 2 s for stop, and time for a busy machine.
    until(is_gone, 6, f"the worker's end after {how}")
    return used[1] - used[0]


@pytest.mark.parametrize("how", ["quit", "stop", "reload"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stuck_thread_does_not_keep_a_worker_from_leaving(start, how, kind):
    site = start()
    worker = site.worker()
    make_stuck(site, kind).close()
    cpu = leave(site, how, worker)
    # The loop itself burns a core until the worker is gone; the leaving adds nothing.
    assert cpu < (4 if kind == "stuck_in_loop" else 0.5)
    site.log.wait_for(rf"worker process {worker} exited with code 0$")
    site.log.wait_for(r"\[error\].*python did not stop within \d+ ?m?s")
    stack = site.log.wait_for(rf'File ".*stuck\.py", line \d+ in {kind}')
    assert "[error]" in stack[0]
    if how == "reload":
        until(lambda: [p for p in site.workers() if p != worker], what="a new worker")
        assert site.get("/plain").body == b"plain"
    else:
        until(lambda: site.process.poll() is not None, 3, "the master's end")


def test_a_stuck_thread_leaves_the_rest_of_the_pool_at_work(nginx):
    site = nginx(http=HTTP, server=SERVER, apps=["plain"],
                 main="thread_pool default threads=4;")
    for kind in ("stuck_in_sleep", "stuck_in_lock", "stuck_in_sleep"):
        make_stuck(site, kind)
    site.allow_alert("python did not stop")
    for _ in range(20):
        assert site.get("/plain").body == b"plain"
    assert site.get("/static").body == b"static"


@pytest.mark.parametrize("how", ["quit", "stop"])
def test_a_thread_of_the_application_does_not_keep_a_worker_from_leaving(start, how):
    site = start()
    assert site.get("/thread?daemon").body == b"started"
    worker = site.worker()
    leave(site, how, worker)
    site.log.wait_for(rf"worker process {worker} exited with code 0$")


def test_a_thread_that_is_no_daemon_ends_its_work_before_the_worker_leaves(start):
    site = start(http="wsgi_shutdown_timeout 50s;")
    gate = site.gate("work")
    assert site.get("/working").body == b"started"
    site.wait_event("waiting work")
    worker = site.worker()
    site.signal("QUIT")
    site.log.wait_for("exiting$")
    elapse(0.3)
    assert procs.alive(worker)
    gate.open()
    until(lambda: site.process.poll() is not None, 5, "nginx's end")
    assert site.events("worked") == ["worked"]


def test_stop_waits_no_longer_than_the_master_does(start):
    """Else the master would kill the worker, and nobody would know what was stuck."""
    site = start(http="wsgi_shutdown_timeout 50s;")
    worker = site.worker()
    make_stuck(site, "stuck_in_sleep").close()
    leave(site, "stop", worker)
    site.log.wait_for(rf"worker process {worker} exited with code 0$")
    site.log.wait_for(r'File ".*stuck\.py", line \d+ in stuck_in_sleep')


def test_worker_shutdown_timeout_cuts_a_request_that_does_not_end(start):
    site = start(main="worker_shutdown_timeout 500ms;")
    worker = site.worker()
    client = make_stuck(site, "stuck_in_sleep")
    leave(site, "quit", worker)
    assert client.read_response().end in ("nothing", "reset")
    site.log.wait_for(rf"worker process {worker} exited with code 0$")


def test_worker_shutdown_timeout_cuts_a_stream(start):
    site = start(main="worker_shutdown_timeout 500ms;")
    site.gate("a")
    client = site.ask("/midway/a")
    site.wait_event("waiting a")
    worker = site.worker()
    leave(site, "quit", worker)
    response = client.read_response()
    assert response.body == b"first"
    assert not response.complete


def test_the_time_counts_from_the_end_of_the_last_request(start):
    """A request that takes longer than the timeout is still answered after a quit."""
    site = start(http="wsgi_shutdown_timeout 2s;")
    gate = site.gate("a")
    client = site.ask("/midway/a")
    site.wait_event("waiting a")
    site.signal("QUIT")
    elapse(2.5)
    gate.open()
    assert client.read_response().complete
    until(lambda: site.process.poll() is not None, 5, "nginx's end")
    assert site.log.matching("did not stop") == []


def test_nginx_leaves_at_once_when_nothing_is_stuck(start):
    site = start(http="wsgi_shutdown_timeout 50s;")
    assert site.get("/plain").body == b"plain"
    site.quit(timeout=3)


@pytest.mark.parametrize("how", ["quit", "stop", "reload"])
def test_an_import_that_hangs_does_not_keep_a_worker_from_leaving(make_nginx, how):
    site = make_nginx(http=f"{HTTP} wsgi_check off;", apps=["gated_import"])
    gate = site.gate("import")
    worker = site.start().worker()
    site.wait_event("waiting import")
    leave(site, how, worker)
    site.log.wait_for(rf"worker process {worker} exited with code 0$")
    gate.open()


def test_a_keep_alive_connection_does_not_delay_the_end(start):
    site = start()
    client = site.ask("/plain", close=False)
    client.read_response()
    site.quit(timeout=3)
    assert client.at_eof()
