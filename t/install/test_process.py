"""The process nginx-wsgi: signals, its end, process 1, an unprivileged user, read-only systems."""

import fcntl
import os
import pwd
import re
import signal
import subprocess
import threading

import pytest
from lib import config, http, procs
from lib.command import COMMAND
from lib.poll import until
from lib.serve import APP, ROOT

HELD = """
import fcntl
def application(environ, start_response):
    start_response("200 OK", [])
    yield b"begun "
    with open("@/gate") as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    yield b"done"
"""
AGAIN = APP.replace("repr((", "repr(('again', ")
IDENTITY = APP.replace("repr((", "repr((os.getuid(), os.getpid(), ")
needs_root = pytest.mark.skipif(not ROOT, reason="only root may do that")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_ends_it_and_leaves_no_process(site, number):
    site.write("wsgi.py", APP + "\nimport subprocess\n"
               "child = subprocess.Popen(['sleep', '1000'])\n")
    site.start(".", "--workers", "2")
    assert site.get().status == 200
    for worker in site.pids[1:]:
        until(lambda: procs.children(worker), what="the application's child")
        site.pids += procs.children(worker)
    assert len(site.pids) == 5
    assert site.stop(number) == 0
    # One that was killed needs a processor to leave.
    until(lambda: site.left() == [], what="nothing is left")
    assert os.listdir(site.tmp) == []


def test_the_end_loses_no_request(site):
    """Many are in the application and others wait for a thread when SIGTERM comes."""
    site.write("wsgi.py", HELD.replace("@", site.dir))
    with open(site.write("gate", ""), "r+") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        site.start(".", "--workers", "2", "--threads", "4", "--status", "/status",
                   "--graceful-timeout", "30")
        clients = [http.Connection(site.port) for _ in range(32)]
        for client in clients:
            client.send(http.build("GET", "/"))
        # All have been accepted: nginx shows them as requests, beside the one that asks.
        until(lambda: in_flight(site) == 32, what="all requests in nginx")
        site.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping; requests that run have 30 seconds" in site.said(), what="the end")
        # Another one changes nothing.
        site.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(site.port), what="nginx listens no more")
    for client in clients:
        response = client.read_response()
        assert (response.status, response.body, response.complete) == (200, b"begun done", True)
        client.close()
    assert site.process.wait(30) == 0


def refuses(port):
    try:
        http.Connection(port).close()
    except ConnectionRefusedError:
        return True
    return False


def in_flight(site):
    text = site.get("/status?format=prometheus").body.decode()
    return sum(float(value) for value in
               re.findall(r'^nginx_wsgi_requests_in_flight\{.*\} ([\d.]+)$', text, re.M))


def test_new_requests_are_served_or_refused_while_it_ends(site):
    """Under load: whoever has got a connection that nginx has taken gets a whole answer."""
    site.write("wsgi.py")
    site.start(".", "--workers", "2")
    outcomes, stopped = [], threading.Event()

    def load():
        while not stopped.is_set():
            try:
                client = http.Connection(site.port)
            except ConnectionRefusedError:
                outcomes.append("refused")
                return
            except ConnectionResetError:
                outcomes.append("not accepted")
                continue
            with client:
                begun = False
                try:
                    client.send(http.build("GET", "/"))
                    client.read_until(b"H")
                    begun = True
                    response = client.read_response()
                    outcomes.append(response.status if response.complete else "cut")
                except (OSError, http.Closed):
                    # Still in the backlog when nginx closed its sockets.
                    outcomes.append("cut" if begun else "not accepted")

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(outcomes) > 200, 30, "some load")
        assert site.stop(signal.SIGTERM) == 0
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert set(outcomes) <= {200, "refused", "not accepted"}
    assert outcomes.count("not accepted") <= 8


def test_a_request_that_takes_too_long_does_not_hold_the_end_up(site):
    site.write("wsgi.py", HELD.replace("@", site.dir))
    with open(site.write("gate", ""), "r+") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        site.start(".", "--graceful-timeout", "1")
        with http.Connection(site.port) as client:
            client.send(http.build("GET", "/"))
            client.read_until(b"begun ")
            assert site.stop(signal.SIGTERM) == 0
    assert site.left() == []


def test_hangup_loads_configuration_and_application_again(site):
    path = site.write("wsgi.py")
    snippet = site.write("more.conf", "")
    site.start(".", "--conf-snippet", snippet)
    assert site.get("/own").status == 200
    for name, text in ((path, AGAIN), (snippet, "location = /own { return 204; }")):
        with open(name, "w") as file:
            file.write(text)
    site.process.send_signal(signal.SIGHUP)
    # Old and new workers may accept at the same time for a moment.
    until(lambda: b"again" in site.get().body, 20, "the new application")
    until(lambda: site.get("/own").status == 204, 20, "the new configuration")
    assert "loading configuration and application again" in site.said()


def test_nginx_quits_when_the_command_is_killed(site):
    site.write("wsgi.py")
    site.start(".")
    site.process.kill()
    site.process.wait()
    until(lambda: site.left() == [], what="nginx has quit")


def test_an_nginx_that_ends_ends_the_command(site):
    site.write("wsgi.py")
    site.start(".")
    os.kill(site.pids[0], signal.SIGQUIT)
    assert site.process.wait(30) == 1
    assert "nginx-wsgi: nginx has stopped" in site.said()


# ------- containers


def inside(site):
    """The process that is process 1 of the namespace."""
    (pid,) = procs.children(site.process.pid)
    return pid


@needs_root
def test_as_process_1_it_ends_orphans_and_obeys_signals(site):
    site.write("wsgi.py", APP + """
import subprocess
# Its child is nobody's when it has ended.
subprocess.run(["sh", "-c", "sleep 0.01 & sleep 0.01 & exit"])
""")
    site.start(".", prefix=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
    assert site.get().status == 200
    first = inside(site)
    with open(f"/proc/{first}/status") as file:
        assert re.search(r"^NSpid:\s+\d+\s+1$", file.read(), re.M)
    until(lambda: [procs.cmdline(pid)[:13] for pid in all_children(first)] == ["nginx: master"],
          what="no orphan is left, dead or alive")
    path = site.write("wsgi.py", AGAIN)
    os.kill(first, signal.SIGHUP)
    until(lambda: b"again" in site.get().body, 20, path)
    site.look()
    os.kill(first, signal.SIGTERM)
    assert site.process.wait(30) == 0


def all_children(pid):
    """Those that have ended and nobody has waited for, too."""
    return [other for other in procs.pids()
            if (fields := procs.stat(other)) and int(fields[1]) == pid]


@needs_root
@pytest.mark.parametrize("first", [False, True])
def test_as_nobody_with_nothing_to_write_to_but_the_temporary_directory(site, first):
    nobody = pwd.getpwnam("nobody")
    site.write("wsgi.py", IDENTITY)
    mounts = f"mount --bind {site.tmp} {site.tmp} && mount -o remount,ro,bind / && exec \"$@\""
    site.start(
        ".", "--workers", "2",
        prefix=["unshare", "--mount", *(["--pid", "--fork", "--kill-child", "--mount-proc"]
                                        if first else []),
                "sh", "-c", mounts, "sh", "setpriv", f"--reuid={nobody.pw_uid}",
                f"--regid={nobody.pw_gid}", "--clear-groups"])
    uid, pid = eval(site.get().body)[:2]
    assert uid == nobody.pw_uid and (pid < 100 or not first)
    # A body in a temporary file.
    assert http.request(site.port, "POST", "/", body=b"x" * 100_000).status == 200
    assert site.get("/logged").status == 200
    os.kill(inside(site) if first else site.process.pid, signal.SIGTERM)
    assert site.process.wait(30) == 0
    assert os.listdir(site.tmp) == []
    assert not re.findall(r"\[(?:warn|error|crit|alert|emerg)\].*", site.said())
    assert "GET /logged" in site.output()


@needs_root
def test_a_temporary_directory_that_the_workers_cannot_reach_is_named(site):
    site.write("wsgi.py")
    os.mkdir(f"{site.dir}/closed", 0o700)
    said = site.refused("serve", ".", env={"TMPDIR": f"{site.dir}/closed"})
    assert f"who cannot read {site.dir}/closed/nginx-wsgi." in said
    assert os.listdir(f"{site.dir}/closed") == []


def test_it_needs_no_shell_and_no_path(site):
    """A container may have neither."""
    site.write("wsgi.py")
    done = subprocess.run([*COMMAND, "check", ".", "--module", config.MODULE], cwd=site.dir,
                          env={"PYTHONPATH": f"{config.ROOT}/python", "TMPDIR": site.tmp,
                               "NGINX": config.BINARY}, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
