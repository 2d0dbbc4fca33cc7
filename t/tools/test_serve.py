"""scripts/serve: one's own application in one line. How it is served, and how it ends."""

import fcntl
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys

import pytest
from lib import config, http, procs
from lib.poll import until
from lib.serve import APP, AS_ROOT, FACTORY, ODD, ROOT, checkout, django, environment, target

# ------- each form serves a request


def test_a_django_project_is_served_with_the_static_files_of_its_admin(site):
    site.start(django(site), *AS_ROOT, "--workers", "2")
    assert "settings miniproject.settings" in site.said()
    assert f"virtualenv {site.dir}/project/.venv" in site.said()
    assert site.get().status == 200
    assert site.get("/miniProj/segment/querySegment").status == 200
    style = site.get("/static/admin/css/base.css")
    assert (style.status, style.header("Content-Type")) == (200, "text/css")
    assert len(site.pids) == 3


def test_the_static_root_of_a_django_project_is_served(site):
    path = site.write("collected/of mine.css", "body {}")
    folder = django(site, settings=f"STATIC_URL = 'files/'\nSTATIC_ROOT = '{site.dir}/collected'\n"
                                   "print('settings may print')\n")
    site.start(folder, *AS_ROOT)
    response = site.get("/files/of%20mine.css")
    assert response.body == open(path, "rb").read()


def test_the_settings_of_the_environment_go_before_those_of_manage_py(site):
    folder = django(site)
    with open(f"{folder}/miniproject/other.py", "w") as file:
        file.write("from .settings import *\nWSGI_APPLICATION = None\nSTATIC_URL = None\n")
    text = site.config_of(folder, *AS_ROOT, env={"DJANGO_SETTINGS_MODULE": "miniproject.other"})
    assert "wsgi_env DJANGO_SETTINGS_MODULE miniproject.other;" in text
    # Without WSGI_APPLICATION it is the wsgi.py beside the settings.
    assert target(text) == "miniproject.wsgi:application"
    assert "location /static" not in text
    os.unlink(f"{folder}/miniproject/wsgi.py")
    site.start(folder, *AS_ROOT, env={"DJANGO_SETTINGS_MODULE": "miniproject.other"})
    assert "application django.core.wsgi:get_wsgi_application()" in site.said()
    assert site.get().status == 200


def computed(site):
    """A project whose manage.py computes its settings, as that of Mezzanine does."""
    folder = django(site)
    for name in ("manage.py", "miniproject/wsgi.py"):
        with open(f"{folder}/{name}") as file:
            text = file.read()
        assert "'miniproject.settings'" in text.replace('"', "'")
        text = re.sub("[\"']miniproject.settings[\"']", "'%s.settings' % 'PROJECT'.lower()", text)
        with open(f"{folder}/{name}", "w") as file:
            file.write(text.replace("PROJECT", "MINIPROJECT"))
    return folder


def test_settings_that_manage_py_computes_are_asked_for(site):
    site.start(computed(site), *AS_ROOT)
    assert ("whose manage.py computes its settings: asking it\n"
            "serve: settings miniproject.settings") in site.said()
    assert site.get("/miniProj/segment/querySegment").status == 200
    assert site.get("/static/admin/css/base.css").status == 200


def test_a_manage_py_that_cannot_compute_its_settings_is_refused_with_the_reason(site):
    folder = computed(site)
    with open(f"{folder}/manage.py") as file:
        text = file.read()
    with open(f"{folder}/manage.py", "w") as file:
        file.write(text.replace("'MINIPROJECT'", "undefined"))
    said = site.refused(folder, *AS_ROOT)
    assert "cannot load the settings of the project: NameError: name 'undefined'" in said


def test_the_virtualenv_can_be_chosen(site):
    folder = django(site)
    os.unlink(f"{folder}/.venv")
    os.symlink(sys.prefix, f"{site.dir}/elsewhere")
    assert "has no Django" in site.refused(folder, *AS_ROOT)
    site.start(folder, "--venv", f"{site.dir}/elsewhere", *AS_ROOT)
    assert f"virtualenv {site.dir}/elsewhere" in site.said()
    assert site.get().status == 200
    assert site.run(folder, "--venv", f"{site.dir}/nowhere").returncode == 2


def test_why_a_manage_py_is_not_taken_for_that_of_django_is_said(site):
    site.write("manage.py", "print('something else')\n")
    site.write("wsgi.py")
    site.start(site.dir)
    assert "not taken for Django: manage.py: does not say what DJANGO_SETTINGS_MODULE is" \
        in site.said()


@pytest.mark.skipif(not ROOT, reason="only root can change to another user")
@pytest.mark.parametrize("closed", ["", "database", "folder"])
def test_a_database_that_the_workers_cannot_write_is_named(site, closed):
    path = site.write("data/db", "")
    folder = django(site, settings=f"DATABASES['default']['NAME'] = '{path}'\n")
    www = pwd.getpwnam("www-data")
    for each, name in ((path, "database"), (f"{site.dir}/data", "folder")):
        os.chown(each, 0 if closed == name else www.pw_uid, -1)
    done = site.run(folder, "--print-config", "--user", "www-data")
    if "cannot read" in done.stderr:
        pytest.skip("the tests' virtualenv lies where www-data cannot read it")
    assert done.returncode == 0, done.stderr
    expected = {
        "database": f"www-data cannot write to the database {path}:",
        "folder": f"www-data cannot write in {site.dir}/data, where SQLite needs files beside the"
                  f" database {path}:",
    }
    assert ("warning" in done.stderr) == bool(closed)
    assert expected.get(closed, "") in done.stderr


def test_a_flask_file_is_served_with_the_active_virtualenv(site):
    path = site.write("hello.py", """
import flask
import neighbour
site = flask.Flask(__name__)
@site.route("/<name>")
def hello(name):
    return neighbour.GREETING + name
""")
    site.write("neighbour.py", "GREETING = 'Hello '\n")
    site.start(f"{path}:site", *AS_ROOT, cwd="/", env={"VIRTUAL_ENV": sys.prefix})
    assert site.get("/you").body == b"Hello you"


def test_a_package_with_a_factory_is_served(site):
    site.write("shop/__init__.py", FACTORY)
    site.start(site.dir)
    assert site.get("/x").body.decode() == repr(("shop", site.dir, "/x"))


def test_a_plain_wsgi_py_is_served(site):
    site.write("wsgi.py")
    site.start(".")
    assert site.get("/").body.decode() == repr(("wsgi", site.dir, "/"))


def test_a_module_of_the_current_directory_is_served(site):
    site.write("pkg/deep.py", FACTORY)
    site.start("pkg.deep:create_app()")
    assert site.get("/").body.decode() == repr(("pkg.deep", site.dir, "/"))


def test_the_application_has_the_callers_environment_but_not_his_python_settings(site):
    site.write("app.py", """
import json, os
def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(dict(os.environ)).encode()]
""")
    site.start(site.dir, env={"DATABASE_URL": "sqlite://;\"$x", "PYTHONPATH": "/nowhere"})
    found = json.loads(site.get().body)
    assert found["DATABASE_URL"] == "sqlite://;\"$x"
    assert not {"PYTHONPATH", "NGINX"} & set(found)


# ------- configuration


def test_the_printed_configuration_is_valid_and_can_be_used(site):
    site.write("wsgi.py")
    site.write("files/x", "")
    text = site.config_of(site.dir, "--static", "/files=files", "--static", "/home=~/files",
                          "--threads", "7", "--workers", "3", env={"HOME": site.dir})
    directory, path = re.match(r"# Written by scripts/serve: nginx -p (\S+) -c (\S+)\n",
                               text).groups()
    with open(path) as file:
        assert file.read() == text
    done = subprocess.run([config.BINARY, "-t", "-e", "stderr", "-p", directory, "-c", path],
                          capture_output=True, text=True, env=environment(), timeout=30)
    assert done.returncode == 0, done.stderr
    for line in ("thread_pool wsgi threads=7;", "worker_processes 3;",
                 f"load_module {config.MODULE};"):
        assert line in text
    assert text.count(f"alias {site.dir}/files/;") == 2


def test_it_listens_on_the_loopback_only_unless_told(site):
    site.write("wsgi.py")

    def listen(*args):
        return re.findall(r"listen (.*);", site.config_of(site.dir, "--port", "8123", *args))

    assert listen() == ["127.0.0.1:8123"]
    assert listen("--listen", "::1") == ["[::1]:8123"]
    assert listen("--listen", "0.0.0.0") == ["0.0.0.0:8123"]


def test_static_files_are_served_by_nginx(site):
    site.write("wsgi.py")
    site.write("files/a b.css", "body {}")
    site.start(site.dir, "--static", "/assets=files", "--static", "/with space/=files")
    for url in ("/assets/a%20b.css", "/with%20space/a%20b.css"):
        response = site.get(url)
        assert (response.body, response.header("Content-Type")) == (b"body {}", "text/css")
    assert site.get("/assets/none").status == 404
    assert b"'wsgi'" in site.get("/assetsx").body


@pytest.mark.parametrize("what", ["", "wsgi.py", "my-app.py"])
def test_odd_characters_in_names_of_directories(site, what):
    site.write(f"{ODD}/wsgi.py")
    site.write(f"{ODD}/my-app.py")
    site.write(f"{ODD}/files/x.txt", "static")
    folder = f"{site.dir}/{ODD}"
    site.start(f"{folder}/{what}", "--static", f"/s={folder}/files")
    _, cwd, _ = eval(site.get().body)
    assert cwd == folder
    assert site.get("/s/x.txt").body == b"static"


def test_odd_characters_in_the_directories_of_a_django_project(site):
    site.start(django(site, name=ODD), *AS_ROOT)
    assert site.get().status == 200
    assert site.get("/static/admin/css/base.css").status == 200


def test_a_directory_whose_name_is_not_utf8(site):
    folder = os.fsdecode(os.fsencode(f"{site.dir}/") + b"\xff$")
    os.mkdir(folder)
    for name in ("wsgi.py", "my-app.py"):
        with open(f"{folder}/{name}", "w") as file:
            file.write(APP)
    site.start(f"{folder}/my-app.py")
    assert site.get().status == 200
    assert site.stop() == 0
    site.start(folder)
    assert site.get().status == 200


def test_with_reload_an_edit_is_served_and_a_slip_is_shown(site):
    path = site.write("wsgi.py")
    site.start(site.dir, "--reload")
    assert site.get().status == 200
    for text, shown in [(APP.replace("repr(", "repr('again') + repr("), b"again"),
                        ("(", b"SyntaxError"), ("undefined_name\n", b"NameError"),
                        (APP.replace("repr(", "repr('mended') + repr("), b"mended")]:
        with open(path, "w") as file:
            file.write(text)
        until(lambda: shown in site.get().body, 20, shown)


def test_tracebacks_are_not_shown_to_other_machines(site):
    site.write("wsgi.py")
    open_to_all = site.config_of(site.dir, "--reload", "--listen", "0.0.0.0")
    assert "wsgi_reload on;" in open_to_all and "wsgi_debug" not in open_to_all
    assert "wsgi_debug on;" in site.config_of(site.dir, "--reload")
    assert "wsgi_debug" not in site.config_of(site.dir)


# ------- start and end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_leaves_no_process_and_no_port(site, number):
    site.write("wsgi.py", APP + "\nimport subprocess\n"
               "child = subprocess.Popen(['sleep', '1000'])\n")
    site.start(site.dir, "--workers", "2")
    assert site.get().status == 200
    directory = re.search(r"configuration: (\S+)/nginx.conf", site.said())[1]
    # The children of the application.
    for worker in site.pids[1:]:
        until(lambda: procs.children(worker), what="the application's child")
        site.pids += procs.children(worker)
    assert len(site.pids) == 5
    assert site.stop(number) == 0
    # One that was killed needs a processor to leave.
    until(lambda: site.left() == [], what="nothing is left")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", site.port), 5)
    assert not os.path.exists(directory)


def test_ctrl_c_lets_a_request_finish(site):
    site.write("wsgi.py", f"""
import fcntl, os
def application(environ, start_response):
    start_response("200 OK", [])
    yield b"begun "
    with open("{site.dir}/gate") as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    yield b"done"
""")
    with open(site.write("gate", ""), "r+") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        site.start(site.dir)
        client = http.Connection(site.port)
        client.send(http.build("GET", "/"))
        client.read_until(b"begun ")
        site.process.send_signal(signal.SIGINT)
        until(lambda: "stopping" in site.said(), what="the script stops")
        # A second one changes nothing.
        site.process.send_signal(signal.SIGINT)
    assert client.read_to_end()[0].endswith(b"4\r\ndone\r\n0\r\n\r\n")
    assert site.process.wait(30) == 0


def test_nginx_quits_when_the_script_is_killed(site):
    site.write("wsgi.py")
    site.start(site.dir)
    site.process.kill()
    site.process.wait()
    until(lambda: site.left() == [], what="nginx has quit")


def test_an_nginx_that_ends_ends_the_script(site):
    site.write("wsgi.py")
    site.start(site.dir)
    os.kill(site.pids[0], signal.SIGQUIT)
    assert site.process.wait(30) == 1
    assert "serve: nginx has stopped" in site.said()


def test_without_a_module_it_is_built(site):
    folder = checkout(site, build=f"cd \"$(dirname \"$0\")/..\" && mkdir -p target/modules &&"
                                  f" cp '{config.MODULE}' target/modules/\n"
                                  "cp /dev/null target/built\n",
                      requirements="[ \"$*\" = '--install demo' ]\n")
    site.write("wsgi.py")
    site.start(site.dir, script=f"{folder}/scripts/serve", module=None)
    assert os.path.exists(f"{folder}/target/built")
    assert site.get().status == 200


@pytest.mark.parametrize("stub, expected", [
    ({"build": "exit 1\n"}, "the module could not be built"),
    ({"requirements": "exit 1\n"}, "something is missing: scripts/requirements demo names it"),
])
def test_what_is_missing_ends_it(site, stub, expected):
    folder = checkout(site, **stub)
    site.write("wsgi.py")
    assert expected in site.refused(site.dir, script=f"{folder}/scripts/serve", module=None)
