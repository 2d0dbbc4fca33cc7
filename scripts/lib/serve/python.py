"""The Python of an application: its virtualenv, whether the module fits it, what Django says."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from common.paths import PYTHON, ROOT
from serve import Problem, users

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


class Unasked(Exception):
    """The Python could not be asked, which need not keep the module from running the project."""


def virtualenv(given, directories):
    """The one given, else that in one of the directories, else that of $VIRTUAL_ENV, else None."""
    if given:
        return given
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


def version_of_module(module):
    """3.11, or 3.13t for free threads: from the name of the libpython it is linked with."""
    found = re.search(rb"libpython(\d+\.\d+t?)\.so", Path(module).read_bytes())
    if not found:
        raise Problem(f"{module} is not linked with a libpython")
    return found[1].decode()


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


def executable(venv):
    """The Python to ask: that of the virtualenv, else the one the module is built for."""
    if venv:
        return str(venv / "bin" / "python")
    if "/" in PYTHON:
        return str(ROOT / PYTHON)
    return shutil.which(PYTHON) or PYTHON


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
