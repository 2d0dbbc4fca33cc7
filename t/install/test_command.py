"""nginx-wsgi: its commands and the options of serve."""

import os
import re
import socket
import subprocess
import sys

import pytest
from lib import config, h2client, http
from lib.command import COMMAND
from lib.poll import until
from lib.serve import APP, AS_ROOT, FACTORY, django
from lib.tls import make_certificate

SNIPPET = "add_header X-Snippet yes;\nlocation = /own { return 204; }\n"


def listens(text):
    return re.findall(r"^ +listen (.*);$", text, re.M)


# ------- the commands


def test_a_directory_is_served_and_nothing_is_left_in_the_temporary_directory(site):
    site.write("wsgi.py")
    site.start(".")
    assert eval(site.get("/x").body) == ("wsgi", site.dir, "/x")
    # A body in a temporary file.
    assert http.request(site.port, "POST", "/", body=b"x" * 100_000).status == 200
    (directory,) = os.listdir(site.tmp)
    assert f"configuration: {site.tmp}/{directory}/nginx.conf" in site.said()
    assert site.stop() == 0
    assert os.listdir(site.tmp) == []


@pytest.mark.parametrize("text", ["pkg.web", "pkg.web:create_app()", "pkg/web.py"])
def test_a_module_needs_no_callable(site, text):
    site.write("pkg/__init__.py", "")
    site.write("pkg/web.py", FACTORY)
    site.start(text)
    assert eval(site.get().body)[0] == "pkg.web"


@pytest.mark.parametrize("text, expected", [
    ("empty", "empty.py has none of application, app, create_app(), make_app(); name another"),
    ("nothing.there", "there is no file or directory"),
])
def test_a_module_without_an_application_is_refused(site, text, expected):
    site.write("empty.py", "")
    assert expected in site.refused("serve", text)


def test_the_printed_configuration_can_be_used(site):
    site.write("wsgi.py")
    text = site.printed(".", "--threads", "7", "--workers", "3", "--bind", "127.0.0.1:8123")
    for line in ("thread_pool wsgi threads=7;", "worker_processes 3;", "daemon off;",
                 "error_log stderr;", "access_log /dev/stdout;", f"wsgi_chdir {site.dir};"):
        assert line in text
    assert "load_libpython" not in text
    command = re.match(r"# Written by nginx-wsgi: (.*) -p (\S+)/ -c \S+, and (\S+)/tmp is", text)
    binary, folder, _ = command.groups()
    assert binary == f"{config.BINARY} -e stderr"
    assert os.listdir(site.tmp) == []
    os.makedirs(f"{folder}/tmp")
    path = site.write("nginx.conf", text)
    done = subprocess.run([config.BINARY, "-t", "-e", "stderr", "-p", folder, "-c", path],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_check_is_that_of_nginx(site):
    site.write("wsgi.py")
    done = site.call("check", ".")
    assert done.returncode == 0 and "test is successful" in done.stderr
    path = site.write("wrong.conf", "no_such_directive;\n")
    said = site.refused("check", ".", "--conf-snippet", path)
    assert '[emerg] ' in said and f'unknown directive "no_such_directive" in {path}:1' in said
    assert os.listdir(site.tmp) == []


def test_where_the_module_is_can_be_asked(site):
    done = site.call("module-path")
    said = subprocess.run([config.BINARY, "-V"], capture_output=True, text=True).stderr
    folder = re.search(r"--modules-path=(\S+)", said)[1]
    assert done.stdout == f"{folder}/ngx_http_wsgi_module.so\n"


@pytest.mark.parametrize("args", [
    (), ("no-such-command",), ("module-path", "x"), ("serve",), ("serve", ".", "--unknown"),
    ("serve", ".", "--bind", "nowhere"), ("serve", ".", "--bind", "unix:"),
    ("serve", ".", "--bind", "127.0.0.1:65536"), ("serve", ".", "--bind", "unix:/" + "x" * 108),
    ("serve", ".", "--bind", ":1", "--port", "1"), ("serve", ".", "--workers", "none"),
    ("serve", ".", "--keyfile", "wsgi.py"), ("serve", ".", "--status", "x"),
    ("serve", ".", "--conf-snippet", "nowhere"), ("serve", ".", "--graceful-timeout", "0"),
])
def test_wrong_arguments_are_a_usage_error(site, args):
    site.write("wsgi.py")
    done = subprocess.run([*COMMAND, *args], cwd=site.dir, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": f"{config.ROOT}/python"}, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: nginx-wsgi ")


@pytest.mark.parametrize("args", [("-h",), ("serve", "-h"), ("check", "-h"), ("uwsgi2nginx", "-h"),
                                  ("gunicorn2nginx", "-h")])
def test_help_is_printed(site, args):
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=30,
                          env=os.environ | {"PYTHONPATH": f"{config.ROOT}/python"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: nginx-wsgi " in done.stdout


def test_a_uwsgi_ini_is_converted(site):
    path = site.write("uwsgi.ini", "[uwsgi]\nmodule = proj.wsgi\n")
    done = site.call("uwsgi2nginx", path)
    assert done.returncode == 0 and "wsgi_app proj.wsgi" in done.stdout


def test_manage_py_runnginx_serves_the_project(site):
    folder = django(site)
    with open(f"{folder}/miniproject/settings.py", "a") as file:
        file.write("INSTALLED_APPS += ['nginx_wsgi.django']\n")
    manage = [sys.executable, f"{folder}/manage.py"]
    done = subprocess.run([*manage, "help", "runnginx"], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": f"{config.ROOT}/python"}, timeout=50)
    assert "usage: nginx-wsgi serve DIR" in done.stdout
    # The worker finds the app where it finds the project: PYTHONPATH is not for it.
    os.symlink(f"{config.ROOT}/python/nginx_wsgi", f"{folder}/nginx_wsgi")
    site.start(*AS_ROOT, command=[sys.executable, f"{folder}/manage.py", "runnginx"],
               verb=(), cwd="/")
    assert f"virtualenv {sys.prefix}" in site.said()
    assert site.get("/miniProj/segment/querySegment").status == 200
    assert site.get("/static/admin/css/base.css").status == 200


# ------- where it listens


def test_the_port_of_the_environment_is_that_of_all_addresses(site):
    site.write("wsgi.py")
    assert listens(site.printed(".", env={"PORT": "8123"})) == ["0.0.0.0:8123"]
    assert listens(site.printed(".", "--port", "81", env={"PORT": "8123"})) == ["127.0.0.1:81"]
    assert listens(site.printed(".", env={"PORT": ""})) == ["127.0.0.1:8080"]
    for text in ("x", "65536"):
        assert f"PORT is {text}, which is no port" in site.refused(
            "serve", ".", env={"PORT": text})


def test_it_listens_where_bind_says(site):
    site.write("wsgi.py")
    given = ["127.0.0.1:81", ":82", "[::1]:83", "localhost:84", "unix:here"]
    text = site.printed(".", *(word for each in given for word in ("--bind", each)))
    assert listens(text) == ["127.0.0.1:81", "0.0.0.0:82", "[::1]:83", "127.0.0.1:84",
                             f"unix:{site.dir}/here"]


def test_a_unix_socket_is_served_and_removed(site):
    site.write("wsgi.py")
    path = f"{site.dir}/socket"
    # One that somebody has left.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    site.start(".", bind=("--bind", f"unix:{path}"))
    assert http.request(None, "GET", "/", unix=path).status == 200
    assert f"something listens on {path} already" in site.refused("serve", ".", "--bind",
                                                                  f"unix:{path}")
    assert site.stop() == 0
    assert not os.path.exists(path)


def test_a_file_is_not_taken_for_a_left_socket(site):
    path = site.write("wsgi.py")
    assert "is there and no socket" in site.refused("serve", ".", "--bind", f"unix:{path}")
    assert os.path.exists(path)


def test_tls_with_http2(site):
    site.write("wsgi.py")
    make_certificate(site.dir)
    site.start(".", "--certfile", "cert.pem", "--keyfile", "key.pem")
    assert site.url().startswith("https://")
    with http.Connection(site.port, tls=True) as client:
        client.send(http.build("GET", "/"))
        assert client.read_response().status == 200
    assert h2client.request(site.port, "GET", "/", tls=True).status == 200
    assert "[warn]" not in site.said()


# ------- what else nginx does


def test_directives_of_a_snippet_are_in_the_server_block(site):
    site.write("wsgi.py")
    site.write("snip [1].conf", SNIPPET)
    site.start(".", "--conf-snippet", "snip [1].conf")
    assert site.get("/own").status == 204
    assert site.get("/").header("X-Snippet") == "yes"


def test_the_status_page_is_for_this_machine(site):
    site.write("wsgi.py")
    site.start(".", "--status", "/status")
    assert b"workers" in site.get("/status?format=json").body
    text = site.printed(".", "--status", "/status")
    assert re.search(r"location = /status \{\s+wsgi_status;\s+allow 127.0.0.0/8;\s+allow ::1;"
                     r"\s+allow unix:;\s+deny all;\s+\}", text)
    assert "[warn]" not in site.said()


@pytest.mark.parametrize("where", ["stdout", "file", "off"])
def test_requests_are_logged_where_it_is_said(site, where):
    site.write("wsgi.py")
    name = {"stdout": "-"}.get(where, where)
    site.start(".", *([] if where == "stdout" else ["--access-log", name]))
    assert site.get("/logged").status == 200
    path = site.out if where == "stdout" else f"{site.dir}/file"

    def text():
        with open(path) as file:
            return file.read()

    if where == "off":
        assert not os.path.exists(path)
    else:
        until(lambda: '"GET /logged HTTP/1.1" 200' in text(), what="the line")
    assert site.stop() == 0
    assert where == "stdout" or site.output() == ""


def test_a_standard_output_that_cannot_be_opened_gets_the_log_as_well(site):
    """A socket, as systemd has it."""
    site.write("wsgi.py")
    ours, its = socket.socketpair()
    with ours:
        with its:
            site.start(".", out=its)
        assert site.get("/logged").status == 200
        assert site.stop() == 0
        ours.settimeout(20)
        said = b""
        while data := ours.recv(65536):
            said += data
    assert b'"GET /logged HTTP/1.1" 200' in said and said.endswith(b"\n")


def test_a_standard_output_that_nobody_reads_any_more_holds_nothing_up(site):
    site.write("wsgi.py")
    ours, its = socket.socketpair()
    with its:
        site.start(".", out=its)
    ours.close()
    # More than a pipe holds.
    for _ in range(10):
        with http.Connection(site.port) as client:
            for n in range(100):
                client.send(http.build("GET", "/" + "x" * 1000, close=n == 99))
                assert client.read_response().status == 200
    assert site.stop() == 0


def test_standard_output_of_the_application_is_seen_on_standard_error(site):
    site.write("wsgi.py", APP + "\nprint('printed at import')\n")
    site.start(".")
    assert site.get().status == 200
    until(lambda: "printed at import" in site.said(), what="what was printed")


def test_a_port_that_is_taken_is_named(site):
    site.write("wsgi.py")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = site.refused("serve", ".", "--bind", f"127.0.0.1:{port}")
    assert f"port {port} of 127.0.0.1: Address already in use" in said
    assert os.listdir(site.tmp) == []


def test_an_nginx_that_does_not_start_leaves_nothing(site):
    site.write("wsgi.py")
    path = site.write("wrong.conf", "no_such_directive;\n")
    said = site.refused("serve", ".", "--port", "0", "--conf-snippet", path)
    assert "nginx has not started; what it says is above" in said
    assert os.listdir(site.tmp) == []
