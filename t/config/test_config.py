"""nginx -t refuses what is wrong, names the directive, and says where."""

import os
import re
import sys

import pytest
from lib.commands import commands
from lib.config import MODULE

PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
HTTP_ONLY = {
    "wsgi_python_home": "@DIR@/venv", "wsgi_python_path": "@DIR@/site",
    "wsgi_chdir": "@DIR@/site", "wsgi_env": "A b", "wsgi_switch_interval": "5ms",
    "wsgi_shutdown_timeout": "5s", "wsgi_max_requests": "5", "wsgi_max_rss": "1g",
    "wsgi_check_timeout": "5s", "wsgi_reload": "on", "wsgi_balance": "off", "wsgi_umask": "022",
    "wsgi_tzset": "off", "wsgi_stdio_level": "info", "wsgi_uwsgi_api": "on",
}
EVERYWHERE = {
    "wsgi_thread_pool": "default", "wsgi_queue": "5", "wsgi_param": "A b", "wsgi_mount": "/app",
    "wsgi_buffering": "off", "wsgi_buffer_size": "8k", "wsgi_max_temp_file_size": "0",
    "wsgi_temp_path": "@DIR@/temp 1 2", "wsgi_read_timeout": "5s",
    "wsgi_request_buffering": "off", "wsgi_request_timeout": "5s", "wsgi_ignore_client_abort": "on",
    "wsgi_slow_request": "1s repeat=5s depth=20",
    "wsgi_hide_header": "X-A", "wsgi_pass_header": "X-A", "wsgi_ignore_headers": "Vary",
    "wsgi_debug": "off", "wsgi_check": "off", "wsgi_websocket": "on",
    "wsgi_websocket_threads": "10", "wsgi_websocket_max_message": "64k",
    "wsgi_websocket_ping": "30s timeout=5s",
}
FLAGS = ["wsgi_intercept_errors", "wsgi_force_ranges", "wsgi_pass_request_headers",
         "wsgi_pass_request_body"]
EVERYWHERE |= dict.fromkeys(FLAGS, "on")
ALL = HTTP_ONLY | EVERYWHERE | {"wsgi_app": "mod:app", "wsgi_status": "json"}
REPEATABLE = {"wsgi_python_path", "wsgi_env", "wsgi_param", "wsgi_hide_header", "wsgi_pass_header",
              "wsgi_ignore_headers"}


def check(make_nginx, http="", server="", location="", main="", events="", limit="", when=""):
    """nginx -t with a snippet put where it belongs."""
    blocks = location
    if when:
        blocks += f"\nif ($arg_a) {{ {when} }}"
    if limit:
        blocks += f"\nlimit_except GET {{ {limit} }}"
    if blocks:
        server += f"\nlocation /tested {{\n{blocks}\n}}"
    if "wsgi_check " not in http:
        # There is no such application; test_check.py has what that means.
        http += "\nwsgi_check off;"
    site = make_nginx(main=main, events=events, http=http, server=server)
    os.makedirs(f"{site.dir}/venv/lib/{PYTHON}/site-packages")
    os.mkdir(f"{site.dir}/venv/bin")
    site.write("venv/pyvenv.cfg", "home = /usr/bin\n")
    for path in ("site/app.py", "site/site.wsgi", "plain_file"):
        site.write(path, "")
    os.mkdir(f"{site.dir}/empty")
    status, said = site.test_config()
    return site, status, said


def refused(make_nginx, directive, text="", **where):
    """Refused with one [emerg] that says text (or the directive's name), and the line of it."""
    site, status, said = check(make_nginx, **where)
    assert status == 1, said
    lines = [line for line in said.split("\n") if "[emerg]" in line]
    assert len(lines) == 1, said
    found = re.search(r" in (\S+):(\d+)$", lines[0])
    assert found, f"no place: {lines[0]}"
    assert found.group(1) == site.conf
    with open(site.conf) as file:
        assert directive in file.read().split("\n")[int(found.group(2)) - 1], lines[0]
    assert re.search(text or directive, lines[0]), lines[0]


def accepted(make_nginx, **where):
    _, status, said = check(make_nginx, **where)
    assert status == 0, said
    assert "[warn]" not in said and "[emerg]" not in said


BAD_HTTP = [
    ("wsgi_max_requests", "0", 'invalid value "0"'),
    ("wsgi_max_requests", "-1", 'invalid value "-1"'),
    ("wsgi_max_requests", "5 jitter=x", 'invalid value "jitter=x"'),
    ("wsgi_max_requests", "5 jit=5", 'invalid parameter "jit=5"'),
    ("wsgi_max_rss", "0", 'invalid value "0"'),
    ("wsgi_max_rss", "lots", 'invalid value "lots"'),
    ("wsgi_balance", "yes", 'invalid value "yes", it must be "on" or "off"'),
    ("wsgi_reload", "yes", 'invalid value "yes", it must be "on" or "off"'),
    ("wsgi_python_home", "@DIR@/nowhere", "/nowhere"),
    ("wsgi_python_home", "nowhere", "nowhere"),
    ("wsgi_python_home", "@DIR@/plain_file", "plain_file"),
    ("wsgi_python_home", "@DIR@/empty", r"/empty"),
    ("wsgi_python_home", '""', ""),
    ("wsgi_python_path", '""', ""),
    ("wsgi_chdir", "@DIR@/nowhere", "/nowhere"),
    ("wsgi_chdir", "@DIR@/plain_file", "plain_file"),
    ("wsgi_chdir", '""', ""),
    ("wsgi_env", '"" value', ""),
    ("wsgi_env", "A=B value", "A=B"),
    ("wsgi_tzset", "yes", 'invalid value "yes", it must be "on" or "off"'),
    ("wsgi_umask", "22", 'invalid value "22", it must be octal, from "000" to "0777"'),
    ("wsgi_umask", "028", 'invalid value "028", it must be octal, from "000" to "0777"'),
    ("wsgi_umask", "1022", 'invalid value "1022", it must be octal, from "000" to "0777"'),
    ("wsgi_umask", "00022", 'invalid value "00022", it must be octal, from "000" to "0777"'),
    ("wsgi_umask", "-22", 'invalid value "-22", it must be octal, from "000" to "0777"'),
    ("wsgi_umask", '""', 'invalid value "", it must be octal, from "000" to "0777"'),
    ("wsgi_switch_interval", "soon", "invalid value"),
    ("wsgi_switch_interval", "-1", "invalid value"),
    ("wsgi_switch_interval", "0", ""),
    ("wsgi_stdio_level", "loud", 'invalid value "loud"'),
    ("wsgi_stdio_level", '""', 'invalid value ""'),
    ("wsgi_uwsgi_api", "1", 'invalid value "1", it must be "on" or "off"'),
    ("wsgi_shutdown_timeout", "soon", "invalid value"),
    ("wsgi_shutdown_timeout", "-5s", "invalid value"),
    ("wsgi_check_timeout", "soon", "invalid value"),
    ("wsgi_check_timeout", "0", "invalid value"),
]
BAD_ANYWHERE = [
    ("wsgi_request_timeout", "x", 'invalid value "x"'),
    ("wsgi_slow_request", "x", 'invalid value "x"'),
    ("wsgi_slow_request", "1s repeat=0", 'invalid value "repeat=0"'),
    ("wsgi_slow_request", "1s repeat=x", 'invalid value "repeat=x"'),
    ("wsgi_slow_request", "1s depth=0", 'invalid value "depth=0"'),
    ("wsgi_slow_request", "1s depth=-1", 'invalid value "depth=-1"'),
    ("wsgi_slow_request", "1s depth=9999999999", 'invalid value "depth=9999999999"'),
    ("wsgi_slow_request", "1s 5s", 'invalid parameter "5s"'),
    ("wsgi_ignore_client_abort", "maybe", 'invalid value "maybe", it must be "on" or "off"'),
    ("wsgi_debug", "1", 'invalid value "1", it must be "on" or "off"'),
    ("wsgi_websocket", "1", 'invalid value "1", it must be "on" or "off"'),
    ("wsgi_websocket_threads", "0", 'invalid value "0"'),
    ("wsgi_websocket_threads", "-1", 'invalid value "-1"'),
    ("wsgi_websocket_threads", "many", 'invalid value "many"'),
    ("wsgi_websocket_max_message", "0", 'invalid value "0"'),
    ("wsgi_websocket_max_message", "1x", 'invalid value "1x"'),
    ("wsgi_websocket_ping", "often", 'invalid value "often"'),
    ("wsgi_websocket_ping", "30s timeout=0", 'invalid value "timeout=0"'),
    ("wsgi_websocket_ping", "30s timeout=x", 'invalid value "timeout=x"'),
    ("wsgi_websocket_ping", "30s 5s", 'invalid parameter "5s"'),
    ("wsgi_thread_pool", "unknown", 'unknown thread pool "unknown"|unknown'),
    ("wsgi_thread_pool", '""', ""),
    ("wsgi_check", "maybe", 'invalid value "maybe", it must be "on" or "off"'),
    ("wsgi_check", '""', "invalid value"),
    ("wsgi_queue", "many", "invalid"),
    ("wsgi_queue", "-1", "invalid"),
    ("wsgi_queue", "5x", "invalid"),
    ("wsgi_queue", "5 timeout=soon", "invalid"),
    ("wsgi_queue", "5 timeout=", "invalid"),
    ("wsgi_queue", "5 timout=1s", "invalid"),
    ("wsgi_queue", "5 1s", "invalid"),
    ("wsgi_param", '"" value', ""),
    ("wsgi_param", "A b sometimes", "sometimes"),
    ("wsgi_mount", '""', ""),
    ("wsgi_mount", "app", "app"),
    ("wsgi_mount", "/app/", "/app/"),
    ("wsgi_mount", "/", ""),
    ("wsgi_buffer_size", "much", "invalid value"),
    ("wsgi_buffer_size", "-1", "invalid value"),
    ("wsgi_buffer_size", "0", ""),
    ("wsgi_buffering", "maybe", 'invalid value "maybe", it must be "on" or "off"'),
    ("wsgi_buffering", '""', "invalid value"),
    ("wsgi_max_temp_file_size", "much", "invalid value"),
    ("wsgi_max_temp_file_size", "-1", "invalid value"),
    ("wsgi_temp_path", '""', "empty path"),
    ("wsgi_temp_path", "@DIR@/temp x", "invalid value"),
    ("wsgi_temp_path", "@DIR@/temp 0", "invalid value"),
    ("wsgi_temp_path", "@DIR@/temp 1 2 3 4", "invalid number of arguments"),
    ("wsgi_read_timeout", "soon", "invalid value"),
    ("wsgi_read_timeout", "-1s", "invalid value"),
    ("wsgi_ignore_headers", "Server", 'invalid value "Server"'),
    ("wsgi_ignore_headers", "Vary X-Accel", 'invalid value "X-Accel"'),
    *((flag, value, f'invalid value "{value}", it must be "on" or "off"')
      for flag in FLAGS for value in ("yes", "1")),
]
BAD_APP = [
    '""', "1x:app", "a..b", ".a:app", "a.:app", "mod:", "mod:f(", "mod:f)", "mod:f(x)", "mod:()",
    "$var:app", "mod:$app", ":app", "mod:a-b", "mod:app:x", "mod:1x", "mod:a.", '"mod: app"',
    "app.py", "a-b:app", "@DIR@/site/app.py:1x", "@DIR@/site/app.py:", "@DIR@/site/app.py:f(",
    "@DIR@/site/nowhere.py", "site/nowhere.py", "@DIR@/site", "@DIR@/site/$x.py",
    "site.wsgi:", "site/nowhere.wsgi", "paste:app.ini",
]
BAD_ARGUMENTS = [
    ("x", 'no literal of Python at "x"'), ("1 2", 'a comma is missing at "2"'),
    ("a=1, a=2", 'argument "a" is given twice'), ("if=1", 'no name of an argument at "if=1"'),
    ("a=1, 2", 'an argument without a name follows one with a name at "2"'),
    ("os.environ", 'no literal of Python at "os.environ"'), ("007", "no decimal number"),
    (r'"\\z"', "an escape other than"), ('"$x"', "variables are not supported"),
    ('"', "a text without an end at"), ("[1", '"," or "]" is missing at the end of the arguments'),
    ("{[]: 1}", "a key that is no text, number, True, False or None"),
]


@pytest.mark.parametrize("directive, value, text", BAD_HTTP)
def test_a_bad_value_of_the_interpreter_is_refused(make_nginx, directive, value, text):
    refused(make_nginx, directive, text, http=f"{directive} {value};")


@pytest.mark.parametrize("place", ["http", "server", "location"])
@pytest.mark.parametrize("directive, value, text", BAD_ANYWHERE)
def test_a_bad_value_of_an_application_is_refused(make_nginx, directive, value, text, place):
    refused(make_nginx, directive, text, **{place: f"{directive} {value};"})


@pytest.mark.parametrize("value", BAD_APP)
def test_a_bad_wsgi_app_is_refused(make_nginx, value):
    refused(make_nginx, "wsgi_app", location=f"wsgi_app {value};")


@pytest.mark.parametrize("arguments, said", BAD_ARGUMENTS)
def test_a_bad_argument_of_a_factory_is_named(make_nginx, arguments, said):
    refused(make_nginx, "wsgi_app", said, location=f"wsgi_app 'mod:make({arguments})';")


@pytest.mark.parametrize("directive", sorted(set(ALL) - REPEATABLE))
def test_a_duplicate_is_refused(make_nginx, directive):
    place = "http" if directive in HTTP_ONLY else "location"
    twice = f"{directive} {ALL[directive]};\n" * 2
    refused(make_nginx, directive, f'"{directive}" directive is duplicate', **{place: twice})


@pytest.mark.parametrize("directive", sorted(REPEATABLE))
def test_what_may_be_repeated_is_accepted(make_nginx, directive):
    second = {"wsgi_python_path": "@DIR@", "wsgi_env": "B c", "wsgi_param": "B c",
              "wsgi_ignore_headers": "Expires"}.get(directive, ALL[directive])
    accepted(make_nginx, http=f"{directive} {ALL[directive]};\n{directive} {second};\n")


def test_the_same_variable_twice_is_refused(make_nginx):
    refused(make_nginx, "wsgi_env", http="wsgi_env A b;\nwsgi_env A c;\n")


def test_an_unknown_variable_is_refused(make_nginx):
    # nginx knows only at the end which variables there are, and names no line.
    _, status, said = check(make_nginx, location="wsgi_param A $no_such_variable;")
    assert status == 1
    assert '[emerg]' in said and 'unknown "no_such_variable" variable' in said


WRONG_PLACES = (
    [(name, place) for name in HTTP_ONLY for place in ("main", "server", "location", "when")]
    + [(name, place) for name in EVERYWHERE for place in ("main", "limit")]
    + [(name, "when") for name in EVERYWHERE if name != "wsgi_param"]
    + [("wsgi_app", place) for place in ("main", "http", "server")]
)


@pytest.mark.parametrize("directive, place", WRONG_PLACES)
def test_a_directive_in_a_wrong_place_is_refused(make_nginx, directive, place):
    text = f'"{directive}" directive is not allowed here'
    refused(make_nginx, directive, text, **{place: f"{directive} {ALL[directive]};"})


@pytest.mark.parametrize("directive", ["wsgi_python_home", "wsgi_python_path", "wsgi_chdir",
                                       "wsgi_env"])
@pytest.mark.parametrize("place", ["server", "location", "when", "limit"])
@pytest.mark.parametrize("arguments", ["/srv/site", "", "A b c"])
def test_what_a_site_would_have_for_itself_is_refused_with_the_way(make_nginx, directive, place,
                                                                   arguments):
    text = re.escape(f'"{directive}" directive is not allowed here: all servers share one'
                     " interpreter (docs/several-sites.md) in ")
    refused(make_nginx, directive, text, **{place: f"{directive} {arguments};"})


@pytest.mark.parametrize("directive", sorted(set(ALL) - {"wsgi_status"}))
def test_a_directive_without_arguments_is_refused(make_nginx, directive):
    place = "http" if directive in HTTP_ONLY else "location"
    text = f'invalid number of arguments in "{directive}" directive'
    refused(make_nginx, directive, text, **{place: f"{directive};"})


@pytest.mark.parametrize(
    "directive, value",
    [(name, f"{value} one two three") for name, value in ALL.items()
     if name not in ("wsgi_python_path", "wsgi_ignore_headers")]
    + [("wsgi_env", "A"), ("wsgi_param", "A")],
)
def test_a_directive_with_a_wrong_number_of_arguments_is_refused(make_nginx, directive, value):
    place = "http" if directive in HTTP_ONLY else "location"
    text = f'invalid number of arguments in "{directive}" directive'
    refused(make_nginx, directive, text, **{place: f"{directive} {value};"})


def test_the_default_pool_need_not_be_declared(make_nginx):
    accepted(make_nginx, location="wsgi_app mod:app; wsgi_thread_pool default;")


def test_a_declared_pool_is_accepted(make_nginx):
    accepted(make_nginx, main="thread_pool wsgi threads=2;",
             location="wsgi_app mod:app; wsgi_thread_pool wsgi;")


@pytest.mark.parametrize("life", ["wsgi_max_requests 100;", "wsgi_max_rss 1g;"])
@pytest.mark.parametrize("main, warned", [("", 1), ("worker_shutdown_timeout 10s;", 0)])
def test_a_replacement_that_would_wait_for_websockets_is_warned_of(make_nginx, life, main, warned):
    _, status, said = check(make_nginx, http=life + " wsgi_websocket on;", main=main,
                            location="wsgi_app mod:app;")
    assert status == 0, said
    assert len(re.findall(r'\[warn\] .*"wsgi_websocket" with ', said)) == warned


@pytest.mark.parametrize("aio", ["aio threads;", "aio threads=default;"])
def test_a_pool_shared_with_aio_threads_is_refused(make_nginx, aio):
    _, status, said = check(
        make_nginx, server=f"location /files {{ {aio} }}", location="wsgi_app mod:app;"
    )
    assert status == 1
    assert re.search(r'\[emerg\].*(pool|aio).*"?default.* in \S+:\d+', said), said


def test_a_named_pool_shared_with_aio_threads_is_refused(make_nginx):
    _, status, said = check(
        make_nginx, main="thread_pool both threads=2;", http="aio threads=both;",
        location="wsgi_app mod:app; wsgi_thread_pool both;",
    )
    assert status == 1
    assert re.search(r"\[emerg\].*both.* in \S+:\d+", said), said


def test_aio_threads_with_a_pool_of_its_own_is_accepted(make_nginx):
    accepted(make_nginx, main="thread_pool files threads=2;", http="aio threads=files;",
             location="wsgi_app mod:app;")


def test_aio_threads_with_a_variable_does_not_find_a_pool_of_applications(nginx):
    """What is posted there would wait behind runners, which stay: no answer, and no end."""
    site = nginx(
        main="thread_pool wsgi threads=2; thread_pool files threads=1;",
        http="wsgi_thread_pool wsgi;",
        server="location /files/ { aio threads=$arg_pool; output_buffers 1 8k; sendfile off; "
               "alias @DIR@/html/; }",
        apps=["plain"],
    )
    site.write("html/big", "x" * 100_000)
    assert site.get("/plain").body == b"plain"
    for _ in range(2):
        assert site.get("/files/big?pool=files").body == b"x" * 100_000
        assert b"x" not in site.get("/files/big?pool=wsgi").body
        assert site.get("/plain").body == b"plain"
    assert len(site.log.matching(r'\[error\].*thread pool "wsgi" not found')) == 2
    assert site.quit() == 0


def test_a_pool_without_a_queue_is_refused(make_nginx):
    _, status, said = check(
        make_nginx, main="thread_pool none threads=2 max_queue=0;",
        location="wsgi_app mod:app; wsgi_thread_pool none;",
    )
    assert status == 1
    assert re.search(r"\[emerg\].*(none|max_queue).* in \S+:\d+", said), said


@pytest.mark.parametrize("method", ["poll", "select"])
def test_an_event_method_that_threads_cannot_wake_is_refused(make_nginx, method):
    # Debian builds nginx without these two, and then nginx itself refuses them.
    _, status, said = check(make_nginx, events=f"use {method};", location="wsgi_app mod:app;")
    assert status == 1
    assert re.search(rf"\[emerg\].*{method}.* in \S+:\d+", said), said


GOOD_APPS = ["mod", "mod:app", "a.b.c", "a.b.c:app", "mod:make()", "_m1:_a1",
             "@DIR@/site/app.py", "@DIR@/site/app.py:app", "@DIR@/site/app.py:make()",
             "site/app.py", "site/app.py:app", "./plain_file", "site/site.wsgi:app",
             "mod:make(1)", 'mod:make("x")', "'mod:make(\"x\", [1, None], debug=False)'",
             "'site/app.py:make({\"a:b\": (1, 2.5)})'"]


@pytest.mark.parametrize("value", GOOD_APPS)
@pytest.mark.parametrize("place", ["location", "when", "limit"])
def test_a_good_wsgi_app_is_accepted(make_nginx, value, place):
    accepted(make_nginx, **{place: f"wsgi_app {value};"})


def test_the_lists_of_these_tests_have_every_directive_of_the_module():
    assert set(ALL) == {each.name for each in commands(MODULE)}


def test_every_directive_with_a_good_value_is_accepted(make_nginx):
    accepted(
        make_nginx,
        main="thread_pool wsgi threads=3;",
        http="".join(f"{name} {value};\n" for name, value in HTTP_ONLY.items()),
        location="wsgi_app mod:app; wsgi_thread_pool wsgi; wsgi_queue 100 timeout=10s;"
        " wsgi_param A $uri if_not_empty; wsgi_param B b; wsgi_mount /tested;"
        " wsgi_buffering on; wsgi_buffer_size 16k; wsgi_max_temp_file_size 3g;"
        " wsgi_temp_path temp 1 2 3; wsgi_read_timeout 90; wsgi_request_buffering on;"
        " wsgi_hide_header X-A; wsgi_pass_header Date;"
        " wsgi_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Charset"
        " X-Accel-Buffering Expires Cache-Control Set-Cookie Vary; wsgi_intercept_errors On;"
        " wsgi_force_ranges OFF; wsgi_pass_request_headers off; wsgi_pass_request_body off;",
        when="wsgi_param A c;",
    )


def test_a_pool_declared_after_its_use_is_accepted(make_nginx):
    site = make_nginx(server="location / { wsgi_app mod:app; wsgi_thread_pool later; }")
    site.write_config()
    with open(site.conf, "a") as file:
        file.write("thread_pool later threads=2;\n")
    status, said = site.test_config(write=False)
    assert status == 0, said


def test_a_directive_of_the_server_replaces_that_of_http(make_nginx):
    accepted(make_nginx, http="wsgi_queue 1; wsgi_read_timeout 1s; wsgi_buffer_size 1k;"
             " wsgi_buffering on; wsgi_max_temp_file_size 1m; wsgi_temp_path @DIR@/one;",
             server="wsgi_queue 2; wsgi_read_timeout 2s; wsgi_buffer_size 2k;"
             " wsgi_buffering off; wsgi_max_temp_file_size 0; wsgi_temp_path @DIR@/two;")


@pytest.mark.parametrize("value", ["vary VARY", "Expires; wsgi_ignore_headers expires"])
def test_an_ignored_header_named_twice_is_warned_of(make_nginx, value):
    _, status, said = check(make_nginx, location=f"wsgi_ignore_headers {value};")
    assert status == 0
    assert re.search(r'\[warn\].*duplicate value "(VARY|expires)" in \S+:\d+', said), said
