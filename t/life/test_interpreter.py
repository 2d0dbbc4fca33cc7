"""The interpreter in a worker: where it starts, and what it finds in its surroundings."""

import json
import os
import pwd
import re
import subprocess
import sys

import pytest
from lib import config, procs
from lib.poll import until
from lib.sources import HELLO


def shown(site):
    return json.loads(site.get("/place").body)


def test_the_environment_holds_what_wsgi_env_says_and_nothing_of_root(nginx):
    site = nginx(apps=["place"], http='wsgi_env SHOP "two words"; wsgi_env EMPTY "";')
    found = shown(site)["environ"]
    assert found["SHOP"] == "two words"
    assert found["EMPTY"] == ""
    user = {"PATH", "HOME", "USER", "LOGNAME", "SHELL"}
    if os.getuid() == 0:
        assert found["HOME"] != pwd.getpwuid(0).pw_dir
        assert found["USER"] != "root"
    own = {"SHOP", "EMPTY", "EVENTS", "GATES"}
    # What nginx tells the next master: descriptors of its sockets.
    inherited = {"NGINX", "NGINX_BPF_MAPS"}
    assert set(found) <= own | user | inherited | {"TZ", "LC_CTYPE"}


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


def test_extension_modules_can_be_made_to_prefer_their_own_libraries(make_nginx):
    """The line that docs/limits.md gives for libraries that another nginx module has brought."""
    with open(f"{config.ROOT}/docs/limits.md") as file:
        line = re.search(r"^ +(import os, sys; sys\.setdlopenflags\(.*)$", file.read(), re.M)[1]
    site = make_nginx(http="wsgi_python_path @DIR@/early;",
                      server="location = /flags { wsgi_app @DIR@/flags.py; }")
    site.write("early/deepbind.pth", line + "\n")
    site.write("flags.py", "import sys\nFLAGS = sys.getdlopenflags()\n"
               "def application(environ, start_response):\n    start_response('200 OK', [])\n"
               "    return [str(FLAGS).encode()]\n")
    assert site.start().get("/flags").text == str(os.RTLD_NOW | os.RTLD_DEEPBIND)


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


def test_a_request_does_not_run_on_the_main_thread_and_sets_no_signals(nginx):
    site = nginx(apps=["place"])
    found = shown(site)
    assert found["main"] is False
    # It seems to be set, and is not: the worker ends when it is told to.
    assert found["signal"] == "set"
    worker = site.worker()
    site.signal("TERM", worker)
    site.wait_respawn(worker)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give workers another user")
def test_the_application_runs_as_the_user_of_the_workers(nginx):
    site = nginx(apps=["place"], main="user www-data;")
    assert shown(site)["uid"] == pwd.getpwnam("www-data").pw_uid


MARK = "import os; from record import record; record('started', os.getpid())\n"


def marked(make_nginx, **options):
    """An nginx in which each interpreter that starts says so, by a .pth file."""
    site = make_nginx(http="wsgi_python_path @DIR@/marks;" + options.pop("http", ""), **options)
    site.write("marks/mark.pth", MARK)
    return site


def test_python_is_started_in_the_workers_only(make_nginx):
    cache = "proxy_cache_path @DIR@/cache keys_zone=zone:1m;"
    site = marked(make_nginx, apps=["plain"], workers=2, http=cache)
    site.start()
    assert site.get("/plain").body == b"plain"
    site.wait_event("started", count=2)
    # nginx waits for its workers only.
    until(lambda: len([pid for pid in procs.children(site.pid) if "cache" in procs.cmdline(pid)])
          == 2, what="the manager of the cache, and its loader")
    assert sorted(site.events("started")) == sorted(f"started {pid}" for pid in site.workers())


def test_without_an_application_python_is_not_started(make_nginx):
    site = marked(make_nginx)
    site.start()
    site.barrier()
    site.quit()
    assert site.events() == []


def test_testing_a_configuration_without_a_check_starts_no_python(make_nginx):
    site = marked(make_nginx, apps=["leaving"], http="wsgi_check off;")
    status, said = site.test_config()
    assert status == 0, said
    assert site.events() == []
