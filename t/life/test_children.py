"""Processes an application starts, in a worker of nginx, which has its own ideas of children."""

import os
import re
import signal

import pytest
from lib import http, procs
from lib.poll import until

MODULES = os.environ.get("TEST_NGINX_MODULES", "/usr/lib/nginx/modules")
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location = /streaming_fork { wsgi_app children:streaming_fork; }
    location = /forks { wsgi_app children:forks; }
"""


@pytest.fixture
def site(nginx):
    return nginx(apps=["children", "plain"], server=SERVER)


def ask(site, what):
    response = site.get(f"/children/{what}")
    assert response.status == 200, response
    return response.text


def test_every_child_reports_its_own_exit_status(site):
    assert ask(site, "codes") == "60 of 60"


def test_the_output_of_a_child_is_read(site):
    assert ask(site, "output") == "hello"


def test_descriptor_2_of_a_child_is_the_error_log(site):
    ask(site, "descriptors")
    site.log.wait_for("^to its standard error$")
    site.log.wait_for("^to its standard output, sent there$")


def test_terminate_ends_a_child(site):
    assert ask(site, "terminate") == str(-signal.SIGTERM)


def test_a_child_is_killed_at_its_timeout(site):
    assert ask(site, "timeout") == "TimeoutExpired"


def test_a_child_starts_with_no_signal_blocked(site):
    assert re.fullmatch(r"SigBlk:\s*0+", ask(site, "signals"))


def test_sys_executable_is_a_python_that_starts(site):
    assert ask(site, "executable") == "True"


@pytest.mark.parametrize("how", ["pooled", "pooled_by_default"])
def test_a_multiprocessing_pool_works(site, how):
    assert ask(site, how) == "[1, 2, 3]"


def of_nginx(descriptors):
    return [
        target for target in descriptors
        if re.search(r"socket:|eventpoll|eventfd|anon_inode", target)
    ]


def logs(pid):
    return {fd for fd, target in procs.fds(pid).items() if target.endswith(".log")}


def test_a_child_inherits_no_descriptor_of_nginx(site):
    with site.connect() as client:  # A connection of somebody else, open meanwhile.
        client.send(http.build("GET", "/plain", close=False))
        client.read_response()
        child = int(ask(site, "keep"))
        try:
            assert of_nginx(procs.fds(site.worker()).values())
            assert procs.alive(child)
            inherited = procs.fds(child).values()
            assert of_nginx(inherited) == []
            assert [target for target in inherited if "memfd:" in target] == []
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_inherits_no_body_of_a_request(site):
    """The body lies in a file of nginx, which the worker has open twice."""
    response = site.post("/children/keep", body=b"x" * 100_000)
    assert response.status == 200
    child = int(response.body)
    try:
        assert [target for target in procs.fds(child).values() if "/body/" in target] == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_stays_keeps_no_descriptor_of_nginx(site):
    with site.ask("/plain", close=False) as client:
        client.read_response()
        child = int(ask(site, "forked_keep"))
        try:
            until(lambda: of_nginx(procs.fds(child).values()) == [], what="all are closed")
            assert procs.alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


def is_refused(port):
    """Nobody listens. A child may be told of before it has run, and has closed what it inherits."""
    try:
        http.Connection(port).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("how", ["keep", "forked_keep"])
def test_a_child_that_stays_does_not_hold_the_port(site, how):
    child = int(ask(site, how))
    try:
        site.quit()
        until(lambda: is_refused(site.port), what="the port is free")
        site.spawn()
        assert site.get("/plain").body == b"plain"
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_does_not_hold_a_port_that_each_worker_has_of_its_own(nginx):
    site = nginx(apps=["children"], workers=2, server="listen 127.0.0.1:@PORT2@ reuseport;")
    child = int(ask(site, "forked_keep"))
    try:
        site.quit()
        assert procs.alive(child)
        until(lambda: is_refused(site.ports["PORT2"]), what="the port is free")
    finally:
        os.kill(child, signal.SIGKILL)


def test_no_signal_to_a_forked_child_meets_a_handler_of_nginx(site):
    assert ask(site, "forked_signals") == "8 of 8"


def test_neither_a_forked_child_nor_its_parent_keeps_signals_blocked(site):
    assert ask(site, "forked_mask") == "[] []"


def test_terminate_ends_a_forked_process(site):
    assert ask(site, "forked_process") == str(-signal.SIGTERM)


def test_a_forked_pool_ends_with_its_block(site):
    assert ask(site, "forked_pool") == "gone"


@pytest.mark.parametrize("how", ["reload", "quit", "stop", "replaced"])
def test_a_daemon_process_ends_with_its_worker(nginx, how):
    http = "wsgi_max_requests 1;" if how == "replaced" else ""
    site = nginx(apps=["children"], http=http)
    child = int(ask(site, "forked_daemon"))
    try:
        if how in ("quit", "stop"):
            site.end({"quit": "QUIT", "stop": "TERM"}[how])
        elif how == "reload":
            site.reload(gone=True)
        until(lambda: not procs.alive(child), what="the end of the daemon process")
        assert site.log.matching("did not stop") == []
    finally:
        if procs.alive(child):
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_keeps_no_log_and_no_channel_of_nginx(nginx):
    """The channels of workers that came after its own reach a worker through a socket."""
    site = nginx(apps=["children"], workers=3)
    child = int(ask(site, "forked_keep"))
    other = next(pid for pid in site.workers() if pid != procs.parent(child))
    os.kill(child, signal.SIGKILL)
    site.expect_alert("exited on signal 9")
    os.kill(other, signal.SIGKILL)
    site.wait_respawn(other)
    until(lambda: len(site.workers()) == 3 and other not in site.workers())
    site.settle()
    for child in [int(ask(site, "forked_keep")) for _ in range(6)]:
        try:
            until(lambda: of_nginx(procs.fds(child).values()) == [], what="all are closed")
            until(lambda: logs(child) <= {2}, what="the logs are closed")
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("how", ["keep", "forked_keep"])
def test_a_child_inherits_no_connection_of_stream_or_mail(nginx, how):
    # Or they are built in.
    modules = [f"{MODULES}/ngx_{kind}_module.so" for kind in ("stream", "mail")]
    modules = filter(os.path.exists, modules)
    site = nginx(
        apps=["children"],
        main="".join(f"load_module {module};\n" for module in modules) + """
            stream { server { listen 127.0.0.1:@PORT2@; return ''; preread_buffer_size 1k;
                              preread_timeout 60s; ssl_preread on; } }
            mail { auth_http 127.0.0.1:1/; server { listen 127.0.0.1:@PORT3@; protocol imap; } }
        """,
    )
    with site.connect(site.ports["PORT2"]), site.connect(site.ports["PORT3"]) as mail:
        assert mail.sock.recv(1) == b"*"
        child = int(ask(site, how))
        try:
            until(lambda: of_nginx(procs.fds(child).values()) == [], what="none is inherited")
        finally:
            os.kill(child, signal.SIGKILL)


def test_os_system_inherits_no_descriptor_of_nginx(site):
    lines = ask(site, "system").split("\n")
    assert of_nginx(lines) == []


def test_a_child_that_leaves_with_2_keeps_its_status(site):
    assert ask(site, "forked_exit") == "2"


def test_a_forked_child_can_work_and_leave(site):
    assert ask(site, "forked_work") == "from the child"


def test_a_child_of_a_child_has_what_that_has_opened(site):
    assert ask(site, "forked_twice") == "0 of 40"


@pytest.mark.parametrize("how", ["forked_return", "forked_raise"])
def test_a_forked_child_that_comes_back_leaves_and_answers_nobody(site, how):
    with site.ask(f"/children/{how}", close=False) as client:
        response = client.read_response()
        assert response.text == "child left with 70"
        assert response.rest == b""
        client.send(http.build("GET", "/plain", close=False))
        assert client.read_response().body == b"plain"
    assert len(site.workers()) == 1


def test_a_forked_child_that_comes_back_amid_a_response_adds_nothing(site, proto):
    response = proto(site, "GET", "/streaming_fork")
    assert response.body == b"first child left with 70"
    assert response.complete


@pytest.mark.parametrize("step", ["iter", "next", "close"])
def test_a_forked_child_that_comes_back_is_asked_for_nothing_more(site, step):
    assert site.get(f"/forks?{step}").body == b"partpart"
    child = int(site.wait_event("forked")[0].split()[1])
    until(lambda: not procs.alive(child), what="the child's end")
    assert site.events(f"asked {child}") == []
    assert site.get("/plain").body == b"plain"


def test_a_forked_child_that_comes_back_from_an_import_leaves(nginx):
    site = nginx(apps=["forked_import"])
    child = int(site.get("/forked_import").text)
    until(lambda: not procs.alive(child), what="the child's end")


def test_after_a_fork_the_port_is_free_once_nginx_has_stopped(site):
    ask(site, "forked_return")
    worker = site.worker()
    site.stop()
    assert not procs.alive(worker)
    until(lambda: is_refused(site.port), what="the port is free")


def test_nginx_is_not_confused_by_the_children(site):
    worker = site.worker()
    for what in ("codes", "forked_exit", "terminate"):
        ask(site, what)
    assert site.worker() == worker
    site.reload(gone=True)
    assert ask(site, "codes") == "60 of 60"


def test_no_zombie_is_left_behind(site):
    for what in ("codes", "terminate", "forked_return", "output"):
        ask(site, what)
    worker = site.worker()

    def zombies():
        found = [procs.stat(pid) for pid in procs.pids()]
        return [f for f in found if f and int(f[1]) == worker and f[0] == "Z"]

    until(lambda: not zombies(), what="no zombie")
