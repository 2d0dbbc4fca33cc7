"""reload, reopen, upgrade, and the modes in which nginx runs."""

import os
import re
import shutil
import signal
import subprocess

from lib import procs
from lib.config import BINARY, MODULE, ROOT
from lib.held import HELD, ONE, hold
from lib.load import Load
from lib.poll import until
from lib.sources import HELLO


def test_no_request_is_lost_when_nginx_reloads_under_load(nginx):
    site = nginx(apps=["slow_import"], http="wsgi_env IMPORT_TAKES 0.5;", workers=2)
    site.wait_event("imported", count=2)
    with Load(site.port, "/slow_import") as load:
        for number in range(3):
            site.reload(gone=True)
            answered = len(load.answers)
            until(lambda n=answered: len(load.answers) > n + 50, 20, "answers after the reload")
            # Two workers at the start, then at each reload two and the check.
            wanted = 2 + 3 * (number + 1)
            site.wait_event("imported", wanted)
            assert len(site.events("imported")) == wanted
    assert load.failures() == []


def test_a_reload_every_moment_loses_nothing(nginx):
    site = nginx(apps=["plain"])
    with Load(site.port, "/plain", clients=2) as load:
        for _ in range(10):
            site.reload()
    assert load.failures() == []
    until(lambda: len(site.workers(shutting_down=True)) == 1, 15, "all old workers have left")


def test_twenty_reloads_at_once_end_in_one_worker(nginx):
    site = nginx(apps=["slow_import"], http="wsgi_env IMPORT_TAKES 0.05;")
    for _ in range(20):
        site.signal("HUP")

    def over():
        """None is under way: the master sleeps, with no HUP to look at, and has written of all."""
        (waiting,) = re.findall(r"^ShdPnd:\s+(\w+)$", procs.read(site.pid, "status").decode(), re.M)
        asleep = procs.state(site.pid) == "S" and not int(waiting, 16) & 1 << signal.SIGHUP - 1
        said = site.log.matching(r"\(SIGHUP\) received|: reconfiguring$|start worker process \d+$")
        (worker,) = re.findall(r"start worker process (\d+)$", said[-1]) or [None]
        return (asleep and len(site.log.matching(": reconfiguring$")) > 0
                and site.workers(shutting_down=True) == [int(worker or 0)])

    until(over, 30, "the last reload's end")
    assert site.get("/slow_import").text == str(site.worker())


def test_static_files_answer_while_the_new_worker_imports(make_nginx):
    site = make_nginx(apps=["gated_import"], http="wsgi_check off;")
    site.start()
    assert site.get("/gated_import").status == 200
    gate = site.gate("import")
    (old,) = site.workers()
    site.signal("HUP")
    site.wait_event("waiting import")
    for _ in range(10):
        site.barrier()
    # The old worker has the application, and serves until the new one has it too.
    assert site.get("/gated_import").body == b"imported at last"
    assert site.events("imported") == ["imported"]
    gate.open()
    until(lambda: not procs.alive(old), what="the old worker's end")
    assert site.get("/gated_import").body == b"imported at last"
    assert site.events("imported") == ["imported"] * 2


def test_a_running_request_survives_a_reload(nginx):
    site = nginx(server=HELD)
    client, gate = hold(site, "/held/a?old")
    (old,) = site.reload()
    assert site.get("/held/free?new").text == "new"
    assert procs.alive(old)
    gate.open()
    assert client.read_response().text == "old"
    until(lambda: not procs.alive(old), what="the old worker has left")


def test_queued_requests_survive_a_reload(nginx):
    site = nginx(server=HELD, main=ONE, http="wsgi_thread_pool one;")
    gate = site.gate("a")
    clients = [site.ask(f"/held/a?{number}") for number in range(10)]
    site.wait_event("waiting a")
    site.barrier()
    site.reload()
    gate.open()
    assert [client.read_response().text for client in clients] == list("0123456789")


def test_requests_that_wait_for_the_import_survive_a_reload(make_nginx):
    site = make_nginx(apps=["gated_import"], http="wsgi_check off;")
    gate = site.gate("import")
    site.start()
    client = site.ask("/gated_import")
    site.wait_event("waiting import")
    site.barrier()
    site.signal("HUP")
    site.wait_event("waiting import", count=2)
    gate.open()
    assert client.read_response().body == b"imported at last"
    until(lambda: len(site.workers(shutting_down=True)) == 1, what="the old worker has left")


def test_a_running_request_is_finished_at_quit(nginx):
    site = nginx(server=HELD)
    client, gate = hold(site, "/held/a?last")
    site.signal("QUIT")
    until(lambda: "shutting down" in procs.cmdline(procs.children(site.pid)[0]), what="shutdown")
    gate.open()
    assert client.read_response().text == "last"
    until(lambda: site.process.poll() is not None, 10, "nginx's end")


def test_a_reload_with_a_broken_application_breaks_only_that_one(make_nginx):
    site = make_nginx(apps=["plain"], http="wsgi_check off; wsgi_chdir @DIR@/site;",
                      server="location /shop { wsgi_app shop; }")
    site.write("site/shop.py", HELLO.format("open"))
    site.start()
    assert site.get("/shop").body == b"open"
    site.write("site/shop.py", "raise ValueError('burnt down')\n")
    site.reload(gone=True)
    site.log.wait_for(r"\[error\].*ValueError: burnt down")
    assert site.get("/shop").status == 500
    assert site.get("/plain").body == b"plain"
    assert site.get("/static").body == b"static"
    site.write("site/shop.py", HELLO.format("rebuilt"))
    site.reload(gone=True)
    assert site.get("/shop").body == b"rebuilt"


def test_a_reload_with_a_wrong_configuration_changes_nothing(nginx):
    site = nginx(apps=["plain"])
    worker = site.worker()
    site.expect_alert(r"\[emerg\].*wsgi_queue")
    site.write_config(server="wsgi_queue many;")
    site.signal("HUP")
    site.log.wait_for(r"\[emerg\].*wsgi_queue")
    assert site.get("/plain").body == b"plain"
    assert site.worker() == worker
    site.reload(gone=True, server="")
    assert site.get("/plain").body == b"plain"


def test_a_reload_takes_up_changed_directives(nginx):
    site = nginx(apps=["environ"], http="wsgi_env STEP one;", server="wsgi_param STEP one;")
    assert b'"STEP": "one"' in site.get("/environ").body
    site.reload(gone=True, server="wsgi_param STEP two;")
    assert b'"STEP": "two"' in site.get("/environ").body


def test_the_module_can_be_removed_and_added_again_by_reload(nginx):
    site = nginx(apps=["plain"])
    for _ in range(3):
        assert site.get("/plain").body == b"plain"
        apps, site.apps, site.wsgi = site.apps, (), False
        site.reload(gone=True)
        assert site.get("/static").body == b"static"
        assert site.get("/plain").status == 404
        site.apps, site.wsgi = apps, True
        site.reload(gone=True)
    assert site.get("/plain").body == b"plain"


def other_module(binary=BINARY):
    """A dynamic module beside nginx, the one that scripts/requirements is content with."""
    done = subprocess.run([f"{ROOT}/scripts/requirements", "--other-module"], text=True, timeout=60,
                          capture_output=True, env=os.environ | {"NGINX": str(binary)})
    return done.stdout.strip()


def test_any_other_module_that_nginx_loads_will_do(tmp_path):
    real = other_module()
    assert real, "needs a second module: apt-get install libnginx-mod-http-echo"
    folder = tmp_path / "modules"
    folder.mkdir()
    binary = tmp_path / "nginx"
    binary.write_text(f"""#!/bin/sh
        [ "$1" != -V ] || {{ echo "--modules-path={folder} --x" >&2; exit; }}
        exec {BINARY} "$@"
    """)
    binary.chmod(0o755)
    assert other_module(binary) == ""
    # Neither this one nor one that does not load.
    shutil.copy(MODULE, folder)
    (folder / "ngx_http_echo_module.so").write_text("")
    assert other_module(binary) == ""
    shutil.copy(real, folder / "ngx_http_image_filter_module.so")
    assert other_module(binary) == f"{folder}/ngx_http_image_filter_module.so"


def test_the_module_comes_back_after_another_one_took_its_place(nginx):
    """The other module gets the index that this one had; a kept image would share it."""
    assert other_module(), "needs a second module: apt-get install libnginx-mod-http-echo"
    site = nginx(apps=["plain"])
    other = f"load_module {other_module()};"
    for _ in range(2):
        apps, site.apps, site.wsgi = site.apps, (), False
        site.reload(gone=True)
        site.reload(gone=True, main=other)
        assert site.get("/static").body == b"static"
        site.apps, site.wsgi = apps, True
        site.reload(gone=True)
        assert site.get("/plain").body == b"plain"
        site.reload(gone=True, main="")
    assert site.get("/plain").body == b"plain"


def test_reopen_moves_the_lines_of_the_application_to_the_new_log(nginx):
    site = nginx(apps=["talk"])
    site.get("/talk/write?'before%5Cn'")
    site.log.wait_for("before")
    os.rename(f"{site.dir}/error.log", f"{site.dir}/error.log.old")
    site.reopen()
    until(lambda: os.path.exists(f"{site.dir}/error.log"), what="the new log")

    def arrived():
        # The worker opens its files a little after the master.
        site.get("/talk/write?'after%5Cn'")
        return site.log.matching(r"\[error\].*: (\*\d+ )?after,")

    until(arrived, what="a line of the application in the new log")


def test_an_upgrade_of_the_binary_loses_no_request(nginx):
    # A daemon, because nginx ignores USR2 as long as the process that started it is its parent.
    site = nginx(apps=["plain"], daemon=True)
    old = site.pid
    with Load(site.port, "/plain", clients=2) as load:
        site.signal("USR2")
        until(lambda: site.read_pid() not in (0, old), what="the new master's pid")
        new = site.read_pid()
        site.sessions.add(procs.session(new))
        until(lambda: site.workers(of=new), what="a worker of the new master")
        site.signal("WINCH", old)
        until(lambda: not site.workers(shutting_down=True, of=old), what="the old workers' end")
        answered = len(load.answers)
        until(lambda: len(load.answers) > answered + 20, what="answers of the new master")
        site.signal("QUIT", old)
        until(lambda: not procs.alive(old), what="the old master's end")
        answered = len(load.answers)
        until(lambda: len(load.answers) > answered + 20, what="answers after the upgrade")
    assert load.failures() == []
    site.pid = new


def test_an_upgrade_can_be_taken_back(nginx):
    site = nginx(apps=["plain"], daemon=True)
    old = site.pid
    site.signal("USR2")
    until(lambda: site.read_pid() not in (0, old), what="the new master's pid")
    new = site.read_pid()
    until(lambda: site.workers(of=new), what="a worker of the new master")
    site.signal("WINCH", old)
    until(lambda: not site.workers(shutting_down=True, of=old), what="the old workers' end")
    site.signal("HUP", old)
    until(lambda: site.workers(of=old), what="workers of the old master again")
    site.signal("QUIT", new)
    until(lambda: not procs.alive(new), what="the new master's end")
    assert site.get("/plain").body == b"plain"


def test_a_single_process_serves_applications(nginx):
    site = nginx(apps=["plain", "leaving"], master=False)
    for _ in range(10):
        assert site.get("/plain").body == b"plain"
    site.wait_event("imported")
    pid = site.pid
    assert site.quit() == 0
    assert site.events("atexit") == [f"atexit {pid}"]


def test_a_single_process_refuses_to_reload_and_goes_on(nginx):
    site = nginx(apps=["plain"], master=False)
    site.allow_alert("wsgi|reload|master_process")
    assert site.get("/plain").body == b"plain"
    mark = site.log.mark()
    site.signal("HUP")
    site.log.wait_for(r"\[(alert|emerg|error)\].*(wsgi|[Pp]ython).*(reload|restart)", start=mark)
    assert site.get("/plain").body == b"plain"
    assert site.get("/static").body == b"static"


def test_a_single_process_stops(nginx):
    site = nginx(apps=["leaving"], master=False)
    site.wait_event("imported")
    site.stop(timeout=5)
    assert len(site.events("atexit")) == 1


def test_a_daemon_serves_applications_and_logs_what_they_print(nginx):
    site = nginx(apps=["plain", "talk", "leaving"], daemon=True)
    assert site.get("/plain").body == b"plain"
    assert site.get("/talk/printed?'from%20a%20daemon'").status == 200
    site.log.wait_for(r"\[error\].*: (\*\d+ )?from a daemon,")
    site.wait_event("imported")
    site.reload(gone=True)
    assert site.get("/plain").body == b"plain"
    # Two workers, and the trial of the reload.
    site.wait_event("imported", count=3)
    site.stop()
    assert len(site.events("atexit")) == 3


def test_several_workers_serve_and_leave(nginx):
    site = nginx(apps=["leaving"], workers=4)
    site.wait_event("imported", count=4)
    assert site.get("/leaving").status == 200
    site.reload(gone=True)
    # Eight workers, and the trial of the reload.
    site.wait_event("imported", count=9)
    site.quit()
    assert len(site.events("atexit")) == 9
