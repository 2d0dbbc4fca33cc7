"""What scripts/serve finds in a directory without importing it, and what it says of the rest."""

import os
import re
import socket
import sys

import pytest
from lib.poll import until
from lib.serve import AS_ROOT, FACTORY, SYSTEM, chdir, django, target

# ------- what is found without an import


@pytest.mark.parametrize("files, expected", [
    ({"wsgi.py": "application = make()", "app.py": "app = x()"}, "wsgi:application"),
    ({"app.py": "app = x()\napplication = app"}, "app:application"),
    ({"app.py": "application = None\nfrom here import app"}, "app:app"),
    ({"application.py": "async def app(scope, receive, send): pass\ndef make_app(): pass"},
     "application:make_app()"),
    ({"app.py": "def create_app(config): pass", "main.py": "def app(*args): pass"}, "main:app"),
    ({"app.py": "if __name__ == '__main__':\n    application = x()\nelse:\n    app = y()"},
     "app:app"),
    ({"main.py": "try:\n    from x import app\nexcept ImportError:\n    app = None"}, "main:app"),
    ({"main.py": "class application: pass"}, "main:application"),
    ({"main.py": "def app(): pass"}, "main:app()"),
    ({"main.py": "app: object = x()\nraise SystemExit"}, "main:app"),
    ({"app.py": "print 'python 2'", "main.py": "app = x()"}, "main:app"),
    ({"pkg/__init__.py": "from . import app", "pkg/app.py": "app = x()"}, "pkg.app:app"),
    ({"pkg/__init__.py": "", "pkg/wsgi.py": "application = x()", "other/__init__.py": ""},
     "pkg.wsgi:application"),
    ({"manage.py": "import os", "wsgi.py": "application = x()"}, "wsgi:application"),
])
def test_what_a_directory_serves(site, files, expected):
    for name, text in files.items():
        site.write(name, text)
    text = site.config_of(site.dir)
    assert target(text) == expected
    assert chdir(text) == site.dir


def test_a_directory_or_file_inside_a_package_is_imported_from_above_it(site):
    site.write("top/__init__.py", "")
    path = site.write("top/sub/__init__.py", FACTORY)
    for text in map(site.config_of, (os.path.dirname(path), path)):
        assert target(text) == "top.sub:create_app()"
        assert chdir(text) == site.dir


def test_a_file_that_cannot_be_imported_by_its_name_is_loaded_as_a_file(site):
    for name in ("my-app.py", "json.py", "site.wsgi", "script"):
        path = site.write(name)
        assert target(site.config_of(path)) == f"{path}:application"
    site.start(f"{site.dir}/my-app.py")
    assert site.get().status == 200


@pytest.mark.parametrize("name, folder", [
    ("", "plain"), ("#other", "plain"), ("", "with $"), ("", "with #"), ("#other", "with #")])
def test_a_file_of_pastedeploy_is_no_python(site, name, folder):
    path = site.write(f"{folder}/site.ini", "[app:main]\nuse = egg:it\n[app:other]\nuse = egg:it\n")
    text = site.config_of(path + name)
    place = path if folder == "plain" else "./application/site.ini"
    assert target(text).strip('"') == f"paste:{place}{name or '#main'}"
    assert chdir(text).strip('"') == os.path.dirname(path)


# ------- errors


def test_a_directory_without_an_application_is_refused_with_what_was_looked_for(site):
    site.write("wsgi.py", "import sys")
    site.write("manage.py", "print()")
    site.write("main.py", "1 +")
    said = site.refused(site.dir)
    assert f"no WSGI application in {site.dir}" in said
    for line in (
        "manage.py: does not say what DJANGO_SETTINGS_MODULE is",
        "wsgi.py: has none of application, app, create_app(), make_app()",
        "app.py: not there",
        f"main.py: cannot parse {site.dir}/main.py, line 1: invalid syntax",
        "packages: none with an application",
    ):
        assert f"\n    {line}" in said


def test_several_packages_with_an_application_are_named(site):
    for name in ("one", "two"):
        site.write(f"{name}/__init__.py", FACTORY)
    said = site.refused(site.dir)
    assert "several applications" in said
    assert "\n    one:create_app()\n    two:create_app()\n" in said


@pytest.mark.parametrize("text, expected", [
    ("@/nothing", "there is no file or directory @/nothing"),
    ("nothing.py:app", "there is no file @/nothing.py"),
    ("module", "a module is named as module:callable"),
    ("a b:app", "there is no file @/a b"),
    ("x.py:app(1)", '"app(1)" is neither a callable nor a factory() without arguments'),
    ("x.txt", "@/x.txt has none of application, app, create_app(), make_app()"),
    ("empty.py", "@/empty.py has none of application, app, create_app(), make_app()"),
    ("broken.py", "cannot parse @/broken.py, line 2"),
])
def test_a_name_that_is_nothing_is_refused(site, text, expected):
    site.write("x.txt", "")
    site.write("empty.py", "")
    site.write("broken.py", "\nimport import\n")
    assert expected.replace("@", site.dir) in site.refused(text.replace("@", site.dir))


@pytest.mark.parametrize("args", [
    (), (".", "--port", "65536"), (".", "--port", "x"), (".", "--workers", "0"),
    (".", "--listen", "localhost"), (".", "--static", "/=."), (".", "--static", "x=."),
    (".", "--static", "/x=nowhere"), (".", "--module", "nowhere"), (".", "--unknown"),
])
def test_wrong_arguments_are_a_usage_error(site, args):
    done = site.run(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/serve ")


def test_a_port_that_is_taken_is_named(site):
    site.write("wsgi.py")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = site.refused(site.dir, "--port", str(port))
    assert f"port {port} of 127.0.0.1: Address already in use; choose another" in said


@pytest.mark.parametrize("name", [".venv", "venv", "env", "$VIRTUAL_ENV"])
def test_a_virtualenv_for_another_python_is_refused_with_both_versions(site, name):
    site.write("wsgi.py")
    folder = name.replace("$VIRTUAL_ENV", "active")
    site.write(f"{folder}/pyvenv.cfg", "version = 2.9.1\n")
    env = {"VIRTUAL_ENV": f"{site.dir}/active"}
    said = site.refused(site.dir, env=env if folder == "active" else None)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"virtualenv {site.dir}/{folder} was made for Python 2.9, the module" in said
    assert re.search(rf"built for Python {re.escape(own)}t?:", said)


def test_an_active_virtualenv_that_is_none_is_refused(site):
    site.write("wsgi.py")
    said = site.refused(site.dir, env={"VIRTUAL_ENV": "/nowhere"})
    assert "VIRTUAL_ENV is /nowhere, which is no virtualenv" in said


def test_a_django_project_whose_python_has_no_django_is_refused(site):
    site.write("manage.py", "os.environ['DJANGO_SETTINGS_MODULE'] = 'x.settings'\n")
    site.write(".venv/pyvenv.cfg", "version = 0\n")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    site.write(f".venv/lib/python{version}/site-packages/x", "")
    os.mkdir(f"{site.dir}/.venv/bin")
    os.symlink(SYSTEM, f"{site.dir}/.venv/bin/python")
    assert "/.venv/bin/python has no Django" in site.refused(site.dir)


def test_settings_that_cannot_be_loaded_are_refused_with_the_reason(site):
    folder = django(site)
    with open(f"{folder}/miniproject/settings.py", "a") as file:
        file.write("raise ValueError('no secret')\n")
    assert "cannot load the settings of the project: ValueError: no secret" in (
        site.refused(folder, *AS_ROOT)
    )


def test_an_import_that_fails_is_seen_on_the_terminal(site):
    site.write("wsgi.py", "application = undefined\n")
    site.start(site.dir)
    assert site.get().status == 500
    until(lambda: "NameError: name 'undefined'" in site.said(), what="the traceback")
