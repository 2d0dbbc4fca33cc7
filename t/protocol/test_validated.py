"""wsgiref.validate around every application of the tests that keeps the rules: no complaint.

Applications that are not here break PEP 3333 on purpose (raising, exc_info, most of respond and
late), end or hold the worker (fatal, children, stuck), or leave out what only the validator asks
for: a Content-Type (closing, consistent), a size for read().
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
from lib import config
from lib.respond import Expr, respond

TYPE = [("Content-Type", "text/plain")]


def answer(**spec):
    """The header that tells apps/differential.py what to answer."""
    return {"X-Answer": json.dumps({"headers": [["Content-Type", "a/b"]], **spec})}


def asked(**spec):
    return respond(**{"headers": TYPE} | spec).removeprefix("/respond")


# By application: method, path?query, headers, body, the body of the answer (None: anything).
KINDS = ["list", "tuple", "generator", "iterator", "write", "both", "file"]
REQUESTS = {
    "respond:application": [
        *[("GET", asked(body=[b"one", b"", b"two"], kind=kind), {}, b"", b"onetwo")
          for kind in KINDS],
        *[("HEAD", asked(body=[b"one"], kind=kind), {}, b"", b"") for kind in KINDS],
        ("GET", asked(body=Expr("(b'%d' % n for n in range(1000))")), {}, b"", None),
        ("GET", asked(body=[], headers=[], status="204 No Content"), {}, b"", b""),
        ("GET", asked(body=[b"six"], headers=[*TYPE, ("Content-Length", "3")]), {}, b"", b"six"),
    ],
    "reader:application": [
        ("POST", "?f.read(100)", {}, b"a\nb", b"b'a\\nb'"),
        ("POST", "?[f.readline(),f.readlines(),list(f)]", {}, b"a\nb", b"[b'a\\n', [b'b'], []]"),
    ],
    "reader:keep": [("POST", "", {}, b"abc", b"{}")],
    "environ:bare": [
        (method, "/a%20b/%FF?q=%ff", {"X-A": "b", "Content-Type": "a/b"}, body, None)
        for method, body in (("GET", b""), ("HEAD", b""), ("POST", b"x" * 20_000), ("PUT", b""))
    ],
    "stream:fast": [("GET", "?5", {}, b"", None), ("HEAD", "?100000", {}, b"", b"")],
    "stream:fast_writes": [("GET", "?5", {}, b"", None)],
    "stream:burst": [("HEAD", "", {}, b"", b"")],
    "stream:parts": [("GET", "", {}, b"", b"onetwothree")],
    "stream:writes": [("GET", "", {}, b"", b"onetwothree")],
    "stream:head_later": [("GET", "", {}, b"", b"two")],
    "stream:trailing": [("GET", "", {}, b"", b"one")],
    "talk": [
        ("GET", f"/{name}?'word'", {}, b"", b"said") for name in
        ("write", "writelines", "printed", "to_stderr", "warned", "logged", "buffered",
         "in_pieces", "threads", "nothing", "shared", "handled")
    ],
    "pages": [
        ("GET", f"/{name}", {"X-User": "ann"}, b"", None) for name in
        ("part", "auth", "page", "stream", "encoded", "sized", "ranged", "expired", "error", "ssi")
    ],
    "filtered": [
        ("GET", f"/{name}", {"X-Name": "ann"}, b"", None) for name in
        ("plain", "both", "pieces", "zipped", "russian", "bare_russian", "binary", "granted")
    ],
    **{
        f"classics:{name}": [
            (method, "/x?y", {}, b"", None) for method in ("GET", "HEAD")
        ] for name in ("greeting", "counting", "environ_lines", "echo", "written", "generated",
                       "headers", "redirect", "nothing", "unmodified", "binary", "shifted")
    },
    "differential": [
        (method, "/x?y", answer(kind=kind, size=size), body, None)
        for kind in ("list", "tuple", "generator", "iterator", "map", "write", "write and list",
                     "file", "file object")
        for method, size, body in (("GET", 5000, b""), ("HEAD", 9, b""), ("POST", 0, b"body"))
    ],
    **{
        name: [("GET", "", {}, b"", None), ("HEAD", "", {}, b"", b"")] for name in
        ("environ", "plain", "tidy", "mutate", "local", "place", "factory", "factory:inner",
         "nested:part", "nested:page", "leaving")
    },
    "nested:big": [("GET", "?3", {}, b"", None)],
    "lines": [("POST", "", {}, b"a\nb\nc\n", None)],
    "upload": [("POST", "", {}, b"x" * 200_000, None)],
    "held": [("GET", "/a?tag", {}, b"", b"tag")],
    "held:midway": [("GET", "/a", {}, b"", b"first" + b"more" * 99_999)],
    "held:before_head": [("GET", "/a", {}, b"", b"first" + b"more" * 99_999)],
    "background": [("GET", f"/{what}", {}, b"", None) for what in ("pooled", "looped")],
    "soak_mix": [
        *[("GET", f"/{what}", {}, b"", None) for what in
          ("small?a=b", "stream?chunks=3", "large", "file", "written?a", "sleep?seconds=0")],
        ("POST", "/echo", {}, b"abc", None),
    ],
    "outlive": [("POST", "?cycle", {}, b"abc", b"kept")],
    "outlive:collected": [("POST", "", {}, b"a\nb", b"a\nb")],
    "late:good": [("GET", "", {}, b"", b"body")],
    **{
        f"{name}_site": [
            ("GET", "/hello/x?q=%C3%A9", {}, b"", None), ("GET", "/stream", {}, b"", None),
            ("GET", "/download", {}, b"", None), ("HEAD", "/download", {}, b"", b""),
            ("GET", "/redirect", {}, b"", None), ("GET", "/missing", {}, b"", None),
            ("GET", "/count", {}, b"", None),
        ] for name in ("django", "flask", "bottle", "falcon", "pyramid")
    },
    "miniproject.wsgi": [
        *[(method, path, {}, b"", None) for method, path in
          (("GET", "/"), ("HEAD", "/"), ("GET", "/miniProj/segment/querySegment"),
           ("GET", "/stream/?lines=3&delay=0"), ("GET", "/live/"), ("GET", "/admin/"),
           ("GET", "/missing"))],
        ("POST", "/upload/", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", None),
    ],
}
FAILS = {"/missing": 404, "/upload/": 403}
GATES = ["two", "three", "end", "a"]


@pytest.fixture(scope="module")
def site(tmp_path_factory, shared_nginx):
    download = tmp_path_factory.mktemp("files") / "download.txt"
    download.write_bytes(b"download" * 10_000)
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(f"{config.HERE}/apps/miniproject", f"{project}/src",
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    settings = {"MINIPROJECT_DB": f"{project}/db.sqlite3", "MINIPROJECT_SECRET_KEY": "test"}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True, timeout=50,
        cwd=f"{project}/src", env=os.environ | settings,
    )
    settings |= {"DOWNLOAD": download, "DJANGO_SETTINGS_MODULE": "miniproject.settings"}
    # A process has settings for one Django: apps/django_site.py and the project have an nginx each.
    started = {}

    def site(target):
        kind = "project" if target == "miniproject.wsgi" else "tests"
        if kind not in started:
            env = "".join(f'wsgi_env {name} "{value}";' for name, value in settings.items()
                          if kind == "project" or name == "DOWNLOAD")
            started[kind] = shared_nginx(
                server=SERVER, main="user root;" if os.getuid() == 0 else "",
                http=f'wsgi_python_home "{sys.prefix}"; wsgi_chdir "{project}/src"; {env}',
            )
            for gate in GATES:
                started[kind].gate(gate).open()
        return started[kind]

    return site


SERVER = r"""
    listen 127.0.0.1:@PORT2@ http2;
    location = /collect { wsgi_app validated:collect; }
    location ~ ^/(?<target>[\w.:]+)(?<rest>/.*)?$ {
        wsgi_app validated:application;
        wsgi_param TARGET $target;
        wsgi_param SCRIPT_NAME "";
        wsgi_param PATH_INFO $rest;
    }
"""


def assert_no_complaint(nginx, mark):
    assert nginx.get("/collect").body == b"collected"
    assert nginx.log.matching("AssertionError|without being closed|WSGIWarning", mark) == []


def test_the_validator_has_no_complaint_of_a_stream_that_takes_its_time(site):
    nginx = site("chatty")
    mark = nginx.log.mark()
    assert nginx.get("/chatty").body == b"chunk " * 10
    assert_no_complaint(nginx, mark)


@pytest.mark.parametrize("target", REQUESTS)
def test_the_validator_has_no_complaint(site, proto, target):
    nginx = site(target)
    mark = nginx.log.mark()
    for method, path, headers, body, wanted in REQUESTS[target]:
        response = proto(nginx, method, f"/{target}{path}", headers, body)
        assert response.complete
        assert response.status < 400 or response.status == FAILS.get(path), (method, path, response)
        if wanted is not None:
            assert response.body == wanted
    assert_no_complaint(nginx, mark)
