"""What a worker gives an application instead of what nginx has left of it: umask, locale,
environment.
"""

import json
import os
import pwd
import stat
import subprocess

import pytest
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
        made = make_nginx(http=f"wsgi_chdir @DIR@/site; {http}", server="location / { wsgi_app app; }",
                          **{"main": MAIN} | options)
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
    app = "import os, record\nmask = os.umask(0)\nos.umask(mask)\nrecord.record('mask', oct(mask))\n"
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
