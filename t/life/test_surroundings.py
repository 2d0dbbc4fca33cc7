"""What a worker gives an application instead of what nginx has left of it: umask, locale,
environment, and a time zone that is not that of nginx's logs.
"""

import json
import os
import pwd
import re
import stat
import subprocess
import time

import pytest
from lib.poll import until

ROOT = os.getuid() == 0
MAIN = "user daemon;" if ROOT else ""
USER = pwd.getpwnam("daemon") if ROOT else pwd.getpwuid(os.getuid())
PYTHON = os.environ.get("PYO3_PYTHON", "/usr/bin/python3")

FILES = """
import json, os

def application(environ, start_response):
    where = os.environ["EVENTS"] + ".made"
    os.mkdir(where)
    open(where + "/file", "w").close()
    start_response("200 OK", [])
    return [json.dumps([os.stat(where + name).st_mode & 0o777 for name in ("/file", "")]).encode()]
"""


@pytest.fixture
def site(make_nginx):
    def start(app, http="", **options):
        made = make_nginx(http=f"wsgi_chdir @DIR@/site; {http}",
                          server="location / { wsgi_app app; }", **{"main": MAIN} | options)
        made.write("site/app.py", app)
        return made.start()

    return start


@pytest.mark.parametrize("inherited, daemon, http, wanted", [
    (0o027, True, "", 0o022),
    (0, False, "", 0o022),
    (0o027, False, "", 0o027),
    (0o027, True, "wsgi_umask 0077;", 0o077),
    (0o027, False, "wsgi_umask 002;", 0o002),
    (0o027, False, "wsgi_umask 000;", 0),
])
def test_the_umask(site, inherited, daemon, http, wanted):
    """A daemon's is 0 whatever it was started with."""
    before = os.umask(inherited)
    try:
        started = site(FILES, http, daemon=daemon)
    finally:
        os.umask(before)
    assert json.loads(started.get("/").body) == [0o666 & ~wanted, 0o777 & ~wanted]
    # The directory is everybody's, so that the worker may make it.
    cache = os.stat(f"{started.dir}/site/__pycache__")
    assert stat.S_IMODE(cache.st_mode) == 0o777 & ~wanted


def test_a_reload_is_checked_under_the_umask_of_the_workers(site):
    app = ("import os, record\nmask = os.umask(0)\nos.umask(mask)\n"
           "record.record('mask', oct(mask))\n")
    started = site(app + "def application(e, s): pass\n", "wsgi_umask 037;", daemon=True)
    started.wait_event("mask")
    os.chmod(f"{started.dir}/events", 0o666)
    started.reload(gone=True)
    assert started.wait_event("mask", 3) == ["mask 0o37"] * 3


CTYPE = """
import ctypes, locale, os

def application(environ, start_response):
    libc, wide = ctypes.CDLL(None), ctypes.create_unicode_buffer(10)
    number = libc.mbstowcs(wide, "\\u00e4\\u20ac".encode(), 10)
    names = [locale.setlocale(each, None) for each in
             (locale.LC_CTYPE, locale.LC_NUMERIC, locale.LC_TIME, locale.LC_MESSAGES)]
    body = f"{names} {number} {os.environ.get('LC_CTYPE')}"
    start_response("200 OK", [])
    return [body.encode()]

if __name__ == "__main__":
    print(application({}, lambda *args: None)[0].decode(), end="")
"""


@pytest.mark.parametrize("environ", [
    {}, {"LANG": "C.UTF-8"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}, {"LANG": "xx_XX"},
    {"LC_CTYPE": "POSIX"},
])
def test_the_character_type_is_that_of_python_itself(site, environ):
    started = site(CTYPE, " ".join(f"wsgi_env {name} {value};" for name, value in environ.items()))
    told = subprocess.check_output([PYTHON, f"{started.dir}/site/app.py"], env=environ, text=True)
    assert started.get("/").text == told


ENVIRON = """
import json, os

def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(dict(os.environ)).encode()]
"""


def test_the_environment_has_what_belongs_to_the_user_of_the_workers(site):
    found = json.loads(site(ENVIRON).get("/").body)
    assert found["PATH"].startswith("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
    assert found["HOME"] == USER.pw_dir
    assert found["USER"] == found["LOGNAME"] == USER.pw_name
    assert found["SHELL"] == (USER.pw_shell or "/bin/sh")


def test_what_the_configuration_says_of_the_environment_counts(site):
    found = json.loads(site(
        ENVIRON, "wsgi_env HOME /srv; wsgi_env SHELL '';", main=f"{MAIN} env PATH=/opt/bin;"
    ).get("/").body)
    assert (found["HOME"], found["PATH"], found["SHELL"]) == ("/srv", "/opt/bin", "")
    assert found["USER"] == USER.pw_name


ZONE = """
import os, time

def change():
    os.environ["TZ"] = "CST6CDT,M3.2.0,M11.1.0"
    time.tzset()

{when}

def application(environ, start_response):
    if environ["PATH_INFO"] == "/change":
        change()
    if environ["PATH_INFO"] == "/mktime":
        os.environ["TZ"] = "CST6CDT,M3.2.0,M11.1.0"
        time.mktime(time.localtime())
    print("from the application")
    start_response("200 OK", [])
    return [time.strftime("%H:%M ", time.localtime(1000000000)).encode()
            + str(time.localtime(1000000000).tm_gmtoff).encode()]
"""
FORMATS = """
    log_format zones '$time_local|$time_iso8601|$uri';
    access_log @DIR@/zones.log zones;
"""


def lines_of(site, uri, count=1):
    def found():
        with open(f"{site.dir}/zones.log") as file:
            lines = [line.rstrip("\n").split("|") for line in file]
        return [line[:2] for line in lines if len(line) == 3 and line[2] == uri][count - 1:]

    return until(found, what=f"a line of {uri}")


def at_the_next_second(site, path):
    """nginx asks for the local time once a second."""
    second = int(time.time())
    until(lambda: int(time.time()) > second)
    return site.get(path)


@pytest.mark.parametrize("tz", ["UTC", "IST-5:30", "NST3:30NDT,M3.2.0,M11.1.0"])
@pytest.mark.parametrize("when", ["import", "/change", "/mktime"])
def test_the_time_zone_of_an_application_is_not_that_of_the_logs(site, monkeypatch, tz, when):
    monkeypatch.setenv("TZ", tz)
    app = ZONE.format(when="change()" if when == "import" else "")
    started = site(app, FORMATS)
    if when != "import":
        started.get(when)
        # nginx has seen the change now.
        at_the_next_second(started, "/static")
    assert at_the_next_second(started, "/").text == "20:46 -18000"
    at_the_next_second(started, "/last")
    offsets = {local.split()[1] for uri in ("/", "/last") for local, iso in lines_of(started, uri)}
    local, iso = lines_of(started, "/last")[-1]
    wanted = subprocess.check_output(["date", "+%z"], env={"TZ": tz}, text=True).strip()
    assert offsets == {wanted}
    hours = f"{wanted[:3]}:{wanted[3:]}"
    assert re.fullmatch(rf"\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d \{wanted}", local)
    moment = subprocess.check_output(["date", "-d", iso, "+%s"], text=True)
    assert iso.endswith(hours) and abs(int(moment) - time.time()) < 60
    assert subprocess.check_output(
        ["date", "-d", iso, "+%d/%b/%Y:%H:%M:%S"], env={"TZ": tz, "LC_ALL": "C"}, text=True
    ).strip() == local.split()[0]
    # The error log as well.
    line = started.log.wait_for("from the application")[-1]
    stamp = time.strptime(line[:19], "%Y/%m/%d %H:%M:%S")
    assert abs(time.mktime(stamp) + local_offset(wanted) - time.time()) < 60
    if when == "import":
        started.log.wait_for(r'\[info\].*wsgi_app "app:application" has changed the time zone of'
                             r' the worker from .* to C[SD]T \(UTC-[56]\) and C[SD]T')


def local_offset(wanted):
    """What to add to mktime() of a time in that zone: it takes it for one of this process's."""
    sign = -1 if wanted[0] == "-" else 1
    return time.localtime().tm_gmtoff - sign * (int(wanted[1:3]) * 60 + int(wanted[3:])) * 60


@pytest.mark.parametrize("when", ["import", "/change", "/mktime"])
def test_wsgi_tzset_off_keeps_the_time_zone_of_the_process(site, monkeypatch, when):
    monkeypatch.setenv("TZ", "IST-5:30")
    app = ZONE.format(when="change()" if when == "import" else "")
    started = site(app, "wsgi_tzset off;")
    if when != "import":
        started.get(when)
    assert started.get("/").text == "07:16 19800"
    assert started.log.matching("time zone") == []


RELEASE = """
import os, sys

here = {here!r}
later = lambda: __import__("lazy").here

def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{{here}} {{later()}} {{os.path.basename(os.getcwd())}}".encode()]
"""


@pytest.mark.parametrize("how", ["wsgi_chdir @DIR@/current;", "wsgi_python_path @DIR@/current;"])
def test_a_worker_stays_with_the_release_that_it_has_begun_with(make_nginx, how):
    """What is imported after the link has been changed is not of another release."""
    site = make_nginx(http=how, server="location / { wsgi_app app; }", main=MAIN)
    for name in ("one", "two"):
        site.write(f"{name}/app.py", RELEASE.format(here=name))
        site.write(f"{name}/lazy.py", f"here = {name!r}\n")
    os.symlink("one", f"{site.dir}/current")
    site.start()
    site.settle()
    os.symlink("two", f"{site.dir}/next")
    os.replace(f"{site.dir}/next", f"{site.dir}/current")
    assert site.get("/").text.split()[:2] == ["one", "one"]
    if "chdir" in how:
        assert site.get("/").text.split()[2] == "one"
    site.reload(gone=True)
    assert site.get("/").text.split()[:2] == ["two", "two"]


SPAWNS = """
import concurrent.futures, multiprocessing

class Number:
    def __init__(self, value):
        self.value = value

def square(number):
    return Number(number.value ** 2)

def deeper(number):
    return worked(square, number, "spawn")

def worked(function, number, method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, number).result(30)

def application(environ, start_response):
    function, method = environ["PATH_INFO"].strip("/").split("/")
    body = str(worked(globals()[function], Number(5), method).value)
    start_response("200 OK", [])
    return [body.encode()]
"""


@pytest.mark.parametrize("function", ["square", "deeper"])
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_functions_and_objects_of_a_file_reach_other_processes(make_nginx, function, method):
    """The child of a child, too."""
    site = make_nginx(main=MAIN, server="location / { wsgi_app @DIR@/site/own-app.py; }")
    site.write("site/own-app.py", SPAWNS)
    assert site.start().get(f"/{function}/{method}").text == "25"
