"""What a worker gives an application instead of what nginx has left of it."""

import json
import os
import stat

import pytest
ROOT = os.getuid() == 0
MAIN = "user daemon;" if ROOT else ""

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
