"""nginx_wsgi.LogHandler: Python's logging in nginx's error log, and outside of nginx."""

import os
import re
import subprocess
import sys

import pytest
from lib.config import HERE, ROOT
from lib.errorlog import ErrorLog, context, message

APP = "location /logs/ { error_log @DIR@/own.log debug; wsgi_app logs:application; }"
# nginx has debugging lines of its own there, if it was built so.
PLAIN = "): hello"
PLACE = r"shop\.views \(/\S*/logs\.py:\d+\): "


@pytest.fixture
def site(nginx):
    site = nginx(server=APP)
    site.own = ErrorLog(f"{site.dir}/own.log")
    return site


def say(site, how, text):
    """The lines that come of it."""
    assert site.get(f"/logs/{how}?{text}").body == b"logged"
    # They travel to the log beside the answer: a last one shows that all have arrived.
    assert site.get("/logs/40?THE-END").body == b"logged"
    site.own.wait_for(PLACE + "THE-END")
    return [line for line in site.own.lines() if "THE-END" not in line]


@pytest.mark.parametrize("number, level", [
    (60, "crit"), (50, "crit"), (40, "error"), (30, "warn"), (25, "info"), (20, "info"),
    (10, "debug"),
])
def test_levels_are_those_of_nginx(site, number, level):
    (line,) = [line for line in say(site, number, "hello") if PLAIN in line]
    assert f" [{level}] " in line
    assert re.fullmatch(PLACE + "hello", message(line))
    # Which nginx leaves out at this level.
    request = f'request: "GET /logs/{number}?hello HTTP/1.1", host: "localhost"'
    assert (request in context(line)) == (level != "debug")


def test_a_traceback_is_one_text(site):
    lines = [line for line in say(site, "failed", "why") if "[error]" in line]
    assert re.fullmatch(PLACE + "it went wrong", message(lines[0])) and context(lines[0])
    assert message(lines[1]) == "Traceback (most recent call last):"
    assert message(lines[-1]) == "ValueError: why"
    assert not any(context(line) for line in lines[1:])


def test_a_formatter_of_its_own_is_used(site):
    (line,) = [line for line in say(site, "formatted", "hello") if "[error]" in line]
    assert message(line) == "own ERROR hello"


def test_a_record_that_cannot_be_formatted_is_told_of(site):
    lines = say(site, "wrong", "hello")
    assert any("--- Logging error ---" in line for line in lines)
    assert any("%d format: a" in line for line in lines)


def test_another_thread_has_no_request(site):
    site.get("/logs/thread?hello")
    (line,) = site.log.wait_for(PLACE + "hello")
    assert context(line) == "" and "[error]" in line


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_children_write_to_the_same_log(site, how):
    assert site.get(f"/logs/{how}?hello").body == b"logged"
    (line,) = site.log.wait_for(PLACE + "hello$")
    # From the child itself, which has no nginx.
    assert ("[ERROR]" in line) == (how == "spawn")


def test_an_installed_package_comes_first(make_nginx):
    site = make_nginx(http="wsgi_python_path @DIR@/site;", server="""
        location / { wsgi_app mine:application; }""")
    site.write("site/nginx_wsgi/__init__.py", "WHOSE = 'mine'")
    site.write("site/mine.py", """
import nginx_wsgi

def application(environ, start_response):
    start_response("200 OK", [])
    return [nginx_wsgi.WHOSE.encode()]
""")
    site.start()
    assert site.get("/").body == b"mine"


def outside(code, **environ):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/python:{HERE}/apps", **environ},
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    return run.stderr


def test_outside_of_nginx_it_writes_to_stderr():
    said = outside("import logs; logs.log.warning('hello'); logs.WAYS['formatted']('there')")
    first, second = said.splitlines()
    assert re.fullmatch(r"\S+ \S+ \[WARNING\] shop\.views \(<string>:1\): hello", first)
    assert second == "own ERROR there"


def test_outside_it_finds_whatever_stderr_is():
    said = outside("import io, logs, sys\n"
                   "real, sys.stderr = sys.stderr, io.StringIO()\n"
                   "logs.log.error('hello')\n"
                   "real.write(sys.stderr.getvalue().upper())")
    assert said.endswith(": HELLO\n")


def test_looking_for_the_package_imports_nothing(nginx):
    # Python looks with a lock that other imports wait for.
    assert nginx(apps=["found"]).get("/found").text == "True []"
