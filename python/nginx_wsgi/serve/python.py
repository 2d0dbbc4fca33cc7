"""The Python of an application: its virtualenv, its libpython, what Django says."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import Problem, users

NAMES = (".venv", "venv", "env")
# Printed before the answer, since settings may print too.
MARK = "ngx_http_wsgi_serve:"
QUESTION = f"""
import json, os, django
from django.conf import settings
admin = os.path.join(os.path.dirname(django.__file__), "contrib/admin/static/admin")
root = settings.STATIC_ROOT
print("\\n{MARK}" + json.dumps({{
    "wsgi": settings.WSGI_APPLICATION,
    "url": settings.STATIC_URL,
    "root": os.path.abspath(root) if root else None,
    "admin": admin if "django.contrib.admin" in settings.INSTALLED_APPS else None,
    "settings": settings.SETTINGS_MODULE,
    "sqlite": [os.path.abspath(str(each["NAME"])) for each in settings.DATABASES.values()
               if each.get("ENGINE", "").endswith(("sqlite3", "spatialite"))
               and each.get("NAME") and not str(each["NAME"]).startswith((":", "file:"))],
}}))
"""
# Where a libpython may be: beside the Python that runs, wherever that has been moved to since its
# build (uv, conda), where Python says, and where distributions move it to.
WHERE = """
import json, os, sys, sysconfig
var = sysconfig.get_config_var
folders = [os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_prefix, "lib64"),
           var("LIBDIR"), os.path.join(var("LIBDIR") or "", var("MULTIARCH") or ""), var("LIBPL")]
names = [name for name in (var("INSTSONAME"), var("LDLIBRARY")) if name and ".so" in name]
version = "%d.%d" % sys.version_info[:2]
names += [f"libpython{version}.so.1.0", f"libpython{version}.so"]
print(json.dumps({
    "version": version, "free_threaded": bool(var("Py_GIL_DISABLED")),
    "implementation": sys.implementation.name, "base": sys.base_prefix,
    "standard_library": sysconfig.get_path("stdlib"),
    "places": list(dict.fromkeys(os.path.normpath(os.path.join(folder, name))
                                 for folder in folders if folder for name in names)),
}))
"""


class Unasked(Exception):
    """The Python could not be asked, which need not keep the module from running the project."""


# ------- virtualenvs


def virtualenv(directories):
    """That in one of the directories, else that of $VIRTUAL_ENV, else None."""
    for directory in directories:
        for name in NAMES:
            if (directory / name / "pyvenv.cfg").is_file():
                return directory / name
    active = os.environ.get("VIRTUAL_ENV")
    if not active:
        return None
    if not Path(active, "pyvenv.cfg").is_file():
        raise Problem(f"VIRTUAL_ENV is {active}, which is no virtualenv: it has no pyvenv.cfg")
    return Path(os.path.abspath(active))


def check_virtualenv(venv, version):
    """Refuses one that was made for another Python: nothing in it would be found."""
    if (venv / "lib" / f"python{version}").is_dir():
        return
    cfg = (venv / "pyvenv.cfg").read_text(errors="replace")
    libraries = sorted(path.name[6:] for path in (venv / "lib").glob("python*"))
    said = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", cfg, re.M)
    other = ", ".join(libraries) or (said[1] if said else "an unknown version")
    raise Problem(
        f"the virtualenv {venv} was made for Python {other}, the module was built for"
        f" Python {version}: make the virtualenv with that one, or build the module for the other"
        " with PYO3_PYTHON (docs/install.md)"
    )


# ------- libpython


def version_of_module(module):
    """3.11, or 3.13t for free threads: from the name of the libpython it is linked with; None if it
    is linked with none."""
    found = re.search(rb"libpython(\d+\.\d+t?)\.so", Path(module).read_bytes())
    return found and found[1].decode()


@dataclass
class Interpreter:
    """A Python, its shared library, and the directory of its modules."""

    executable: str
    version: str
    base: Path
    library: Path
    standard_library: Path


def interpreter(executable):
    """Asks a Python for its libpython; refuses one that cannot be embedded, with the way out."""
    try:
        done = subprocess.run([executable, "-I", "-c", WHERE], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"{executable} does not run: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise Problem(f"{executable} does not run: {lines[-1]}")
    said = json.loads(done.stdout)
    version = said["version"]
    if said["implementation"] != "cpython":
        raise Problem(f"{executable} is {said['implementation']}; only CPython is supported")
    if said["free_threaded"]:
        raise Problem(f"{executable} is a free-threaded Python {version}, which is not supported:"
                      " use one with a GIL")
    for place in said["places"]:
        if os.path.isfile(place):
            return Interpreter(executable, version, Path(said["base"]), Path(place),
                               Path(said["standard_library"]))
    raise Problem(
        f"Python {version} in {said['base']} has no shared library, and nginx needs one: there is"
        f" no {said['places'][0]}. Debian and Ubuntu have it in the package libpython{version}; a"
        " Python of one's own is built with ./configure --enable-shared, by pyenv with"
        " PYTHON_CONFIGURE_OPTS=--enable-shared; the images python:X, uv and conda bring it"
    )


# ------- Django


def ask_django(python, found, environ, user):
    """What the settings say, asked as the workers' user: it is the project's code that runs.

    Settings that manage.py computes only manage.py knows.
    """
    way = [] if found.settings else [os.fspath(found.path), "shell"]
    try:
        done = subprocess.run(
            [python, *way, "-c", QUESTION], cwd=found.directory, stdin=subprocess.DEVNULL,
            timeout=60, capture_output=True, env={**environ, "PYTHONDONTWRITEBYTECODE": "1"},
            **users.identity(user),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unasked(f"{python} does not run: {error}") from None
    answer = done.stdout.decode(errors="surrogateescape").rpartition(MARK)[2]
    if done.returncode == 0:
        return json.loads(answer)
    text = done.stderr.decode(errors="replace").strip()
    lines = text.splitlines() or ["no output"]
    if "No module named 'django'" in text:
        raise Problem(f"{python} has no Django: install what the project needs in a virtualenv"
                      f" there, for instance with python3 -m venv {found.directory / NAMES[0]}, or"
                      " name the one that has it with --venv")
    raise Problem(f"{python} cannot load the settings of the project: {lines[-1]}\n"
                  f"more is said by {python} manage.py check")
