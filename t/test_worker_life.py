"""The life of a worker with Python inside: its place, its deaths, its end."""

import json
import os
import pwd
import signal
import subprocess
import sys

import pytest
from lib import http, procs
from lib.poll import until

HELLO = "def application(e, s):\n    s('200 OK', [])\n    return [b'{}']\n"


def shown(site):
    return json.loads(site.get("/place").body)


def test_the_environment_holds_what_wsgi_env_says_and_nothing_of_root(nginx):
    site = nginx(apps=["place"], http='wsgi_env SHOP "two words"; wsgi_env EMPTY "";')
    found = shown(site)["environ"]
    assert found["SHOP"] == "two words"
    assert found["EMPTY"] == ""
    assert "HOME" not in found
    assert "PATH" not in found
    assert set(found) <= {"SHOP", "EMPTY", "EVENTS", "GATES", "TZ", "LC_CTYPE", "NGINX"}


def test_variables_that_nginx_keeps_reach_the_application(nginx):
    site = nginx(apps=["place"], main="env KEPT=yes;", http="wsgi_env OWN 1;")
    found = shown(site)["environ"]
    assert (found["KEPT"], found["OWN"]) == ("yes", "1")


def test_encodings_are_utf_8_whatever_the_locale(nginx, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    found = shown(nginx(apps=["place"]))
    assert found["fs"].lower() == "utf-8"
    assert found["preferred"].lower() == "utf-8"
    assert found["stdout"].lower() == "utf-8"
    assert found["utf8"] == 1


def test_python_variables_of_the_environment_do_not_shape_the_interpreter(nginx, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONUTF8", "0")
    found = shown(nginx(apps=["place"], main="env PYTHONHOME; env PYTHONPATH; env PYTHONUTF8;"))
    assert "/nowhere" not in found["path"]
    assert found["utf8"] == 1


def test_wsgi_chdir_is_the_working_directory_and_the_first_of_sys_path(make_nginx):
    site = make_nginx(apps=["place"], http="wsgi_chdir @DIR@/site;")
    site.write("site/here.py", HELLO.format("here"))
    site.values["SERVER"] = "location /here { wsgi_app here; }"
    found = shown(site.start())
    assert found["cwd"] == f"{site.dir}/site"
    assert found["path"][0] == f"{site.dir}/site"
    assert site.get("/here").body == b"here"


def test_wsgi_chdir_may_be_relative_to_the_prefix(nginx):
    site = nginx(apps=["place"], http="wsgi_chdir site;")
    assert shown(site)["cwd"] == f"{site.dir}/site"


def test_the_working_directory_is_not_on_sys_path_by_itself(nginx):
    found = shown(nginx(apps=["place"]))
    assert "" not in found["path"] and "." not in found["path"]
    assert all(os.path.isabs(entry) for entry in found["path"])


def test_wsgi_python_path_comes_first_and_its_pth_files_count(make_nginx):
    site = make_nginx(apps=["place"], http="wsgi_python_path @DIR@/one @DIR@/two;")
    for name in ("one", "two", "three"):
        os.mkdir(f"{site.dir}/{name}", 0o755)
    site.write("two/more.pth", f"{site.dir}/three\n")
    path = shown(site.start())["path"]
    order = [path.index(f"{site.dir}/{name}") for name in ("one", "two")]
    standard = path.index(os.path.dirname(os.__file__))
    assert order == sorted(order) and order[-1] < standard
    assert f"{site.dir}/three" in path


def test_argv_and_executable_are_set(nginx):
    found = shown(nginx(apps=["place"]))
    assert found["argv"] == [""]
    assert os.access(found["executable"], os.X_OK)
    assert os.path.basename(found["executable"]).startswith("python")


def make_venv(site):
    """A virtualenv of the base interpreter, which a worker of any user can read."""
    base = os.path.realpath(sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", f"{site.dir}/venv"], check=True,
                   timeout=60)
    (lib,) = [entry for entry in os.listdir(f"{site.dir}/venv/lib")]
    packages = f"venv/lib/{lib}/site-packages"
    site.write(f"{packages}/in_venv.py", HELLO.format("venv"))
    return f"{site.dir}/{packages}"


def test_wsgi_python_home_is_the_virtualenv(make_nginx):
    site = make_nginx(apps=["place"], http="wsgi_python_home @DIR@/venv;",
                      server="location /in_venv { wsgi_app in_venv; }")
    packages = make_venv(site)
    found = shown(site.start())
    assert found["prefix"] == f"{site.dir}/venv"
    assert found["base_prefix"] != found["prefix"]
    assert os.path.dirname(found["executable"]) == f"{site.dir}/venv/bin"
    assert packages in found["path"]
    assert site.get("/in_venv").body == b"venv"


def test_wsgi_switch_interval_reaches_the_interpreter(nginx):
    assert shown(nginx(apps=["place"], http="wsgi_switch_interval 2ms;"))["switch"] == 0.002
    assert shown(nginx(apps=["place"]))["switch"] == 0.005


def test_a_request_does_not_run_on_the_main_thread_and_cannot_set_signals(nginx):
    site = nginx(apps=["place"])
    found = shown(site)
    assert found["main"] is False
    assert found["signal"] == "ValueError"
    site.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give workers another user")
def test_the_application_runs_as_the_user_of_the_workers(nginx):
    site = nginx(apps=["place"], main="user www-data;")
    assert shown(site)["uid"] == pwd.getpwnam("www-data").pw_uid


def test_thread_locals_live_from_request_to_request(nginx):
    site = nginx(apps=["local"], main="thread_pool one threads=1;",
                 app_directives="wsgi_thread_pool one;")
    answers = [site.get("/local").text.split() for _ in range(20)]
    assert [int(count) for _, count in answers] == list(range(1, 21))
    assert len({thread for thread, _ in answers}) == 1


def test_each_thread_keeps_its_own_locals(nginx):
    site = nginx(apps=["local"], main="thread_pool some threads=4;",
                 app_directives="wsgi_thread_pool some;")
    seen = {}
    for _ in range(40):
        thread, count = site.get("/local").text.split()
        assert int(count) == seen.get(thread, 0) + 1
        seen[thread] = int(count)


@pytest.mark.parametrize("status, becomes", [(0, 0), (1, 1), (2, 70), (3, 3), (70, 70)])
def test_a_worker_that_an_application_ends_comes_back(nginx, status, becomes):
    site = nginx(apps=["fatal", "plain"])
    worker = site.worker()
    if becomes:
        site.expect_alert(rf"worker process {worker} exited with code {becomes}")
    assert site.get(f"/fatal/os_exit?{status}").end in ("nothing", "reset")
    site.log.wait_for(rf"worker process {worker} exited with code {becomes}$")
    site.wait_respawn(worker)
    assert site.get("/plain").body == b"plain"
    assert site.log.matching("cannot be respawned") == []


@pytest.mark.parametrize("how, number", [("segfault", signal.SIGSEGV), ("abort", signal.SIGABRT)])
def test_a_worker_that_crashes_comes_back(nginx, how, number):
    site = nginx(apps=["fatal", "plain"])
    worker = site.worker()
    site.expect_alert(rf"worker process {worker} exited on signal {number.value}")
    assert site.get(f"/fatal/{how}").end in ("nothing", "reset")
    site.wait_respawn(worker)
    assert site.get("/plain").body == b"plain"


def test_a_worker_that_is_killed_comes_back_with_its_application(nginx):
    site = nginx(apps=["plain"])
    site.expect_alert("exited on signal 9")
    for _ in range(3):
        worker = site.worker()
        os.kill(worker, signal.SIGKILL)
        site.wait_respawn(worker)
        assert site.get("/plain").body == b"plain"


@pytest.mark.parametrize("how", ["recursion", "nested_json", "nested_repr", "memory"])
def test_an_application_at_its_limits_gets_an_exception(nginx, how):
    site = nginx(apps=["fatal"])
    worker = site.worker()
    expected = "MemoryError" if how == "memory" else "RecursionError"
    assert site.get(f"/fatal/{how}").text == expected
    assert site.worker() == worker


def test_a_long_backtracking_match_does_not_exhaust_the_stack(nginx):
    assert nginx(apps=["fatal"]).get("/fatal/backtracking").text == "None"


def test_static_files_are_served_while_c_code_holds_the_gil(nginx):
    site = nginx(apps=["fatal"])
    with site.connect() as client:
        client.send(http.build("GET", "/fatal/hold_the_gil"))
        site.wait_event("holding")
        for _ in range(20):
            site.barrier()
        assert site.events("held") == []
        assert client.read_response().text == "held"


@pytest.mark.parametrize("end", ["quit", "stop"])
def test_atexit_functions_run_once_when_nginx_ends(nginx, end):
    site = nginx(apps=["leaving"], workers=2)
    site.wait_event("imported", count=2)
    workers = site.workers()
    getattr(site, end)()
    assert sorted(site.events("atexit")) == sorted(f"atexit {pid}" for pid in workers)


def test_atexit_functions_run_in_the_worker_that_a_reload_replaces(nginx):
    site = nginx(apps=["leaving"])
    site.wait_event("imported")
    (old,) = site.reload(gone=True)
    assert site.events("atexit") == [f"atexit {old}"]
    assert int(site.get("/leaving").text) == site.worker()


def test_the_application_is_imported_once_in_each_worker_before_any_request(nginx):
    site = nginx(workers=2, server="""
        location /one { wsgi_app leaving:application; }
        location /two { wsgi_app leaving:application; }
        location /three { wsgi_app leaving; }
    """)
    site.wait_event("imported", count=2)
    for _ in range(20):
        for path in ("/one", "/two", "/three"):
            site.get(path)
    assert sorted(site.events("imported")) == sorted(f"imported {p}" for p in site.workers())


def test_without_an_application_python_is_not_started(nginx):
    site = nginx()
    with open(f"/proc/{site.worker()}/maps") as file:
        maps = file.read()
    assert "/encodings" not in maps and "lib-dynload" not in maps
    assert len(os.listdir(f"/proc/{site.worker()}/task")) == 1


def test_the_cache_processes_start_no_python(nginx):
    site = nginx(
        apps=["leaving"],
        http="proxy_cache_path @DIR@/cache keys_zone=zone:1m;",
        server="location /p { proxy_cache zone; proxy_pass http://127.0.0.1:@PORT@/static; }",
    )
    site.wait_event("imported")
    assert site.get("/leaving").status == 200
    helpers = [p for p in procs.children(site.pid) if "cache" in procs.cmdline(p)]
    assert helpers
    assert len(site.events("imported")) == 1


def test_stop_of_an_idle_nginx_is_clean(nginx):
    site = nginx(apps=["plain"])
    assert site.get("/plain").status == 200
    worker = site.worker()
    site.stop(timeout=3)
    assert site.log.matching(rf"worker process {worker} exited with code 0$")


def test_memory_and_descriptors_do_not_grow_with_requests(nginx):
    site = nginx(apps=["plain", "fatal"], http="keepalive_requests 10000;")

    def work(count):
        with site.connect() as client:
            for number in range(count):
                client.send(http.build("GET", "/plain", close=False))
                assert client.read_response().status == 200
                if number % 10 == 0:
                    assert site.get("/fatal/nothing").status == 500  # A KeyError.

    work(2000)
    before, descriptors = procs.rss(site.worker()), site.fd_count()
    work(4000)
    assert procs.rss(site.worker()) - before < 1 << 20
    until(lambda: site.fd_count() <= descriptors, what="descriptors are as before")
