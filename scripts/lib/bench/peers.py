"""Brings the virtualenv and the peers: from PyPI into target/bench/venv, from Debian by apt-get."""

import shutil
import subprocess
import sys

from bench import layout
from common.paths import APPS, PYTHON
from common.processes import environment
from common.requirements import Missing, require

# Chosen versions, so that two runs compare the same.
PACKAGES = {
    "uwsgi": "uWSGI==2.0.31",
    "gunicorn": "gunicorn==27.0.1",
    "granian": "granian==2.8.7",
    "bjoern": "bjoern==3.2.2",
    "flask-sock": "flask-sock==0.7.0 Flask==3.1.3 simple-websocket==1.1.0",
    "matplotlib": "matplotlib==3.11.2",
}
# Peers that need Debian packages: the job of scripts/requirements that brings them.
DEBIAN = {"bjoern": "bjoern", "mod_wsgi": "mod_wsgi"}
STAMPS = layout.BENCH / "installed"


def say(*words):
    print("bench:", *words, file=sys.stderr, flush=True)


def make_venv():
    """Makes it again when the Python changes; what was installed is then gone too."""
    stamp = STAMPS / "venv"
    about = f"{PYTHON} {version_of_python(PYTHON, '-VV')}"
    if stamp.exists() and stamp.read_text() == about:
        return
    say("making a virtualenv in target/bench/venv")
    shutil.rmtree(layout.VENV, ignore_errors=True)
    shutil.rmtree(STAMPS, ignore_errors=True)
    STAMPS.mkdir(parents=True)
    try:
        subprocess.run([PYTHON, "-m", "venv", layout.VENV], check=True, env=environment())
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"bench: {PYTHON} makes no virtualenv: {error}") from None
    stamp.write_text(about)


def version_of_python(python, option="-V"):
    return output([python, option])


def output(command):
    return subprocess.run(command, capture_output=True, text=True, env=environment()).stdout.strip()


def pip_install(name, *packages):
    """Installs packages once; a failure is tried again in the next run."""
    stamp = STAMPS / name
    if stamp.exists() and stamp.read_text() == " ".join(packages):
        return
    say(f"installing {name}")
    try:
        done = subprocess.run(
            [layout.VENV / "bin/python", "-m", "pip", "install", "--quiet",
             "--disable-pip-version-check", *packages],
            capture_output=True, text=True, timeout=1200, env=environment(),
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"pip install {name} takes too long") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
        raise Missing(f"pip install {name}: {lines[0] if lines else 'failed'}")
    stamp.write_text(" ".join(packages))


def install_django():
    needs = (APPS / "miniproject/requirements.txt").read_text().split()
    pip_install("Django", *needs)


def install(peer):
    """Raises Missing with the reason."""
    if peer in DEBIAN:
        require(DEBIAN[peer])
    if peer == "mod_wsgi":
        check_mod_wsgi()
    if peer == "bjoern-libpython":
        install("bjoern")
        make_python()
    if peer in PACKAGES:
        pip_install(peer, *PACKAGES[peer].split())


# `python3` of Debian has an interpreter of its own, and this one that of the shared library.
MAIN = "#include <Python.h>\nint main(int argc, char **argv) { return Py_BytesMain(argc, argv); }\n"
CONFIG = ("import sysconfig\n"
          "for name in ('INCLUDEPY', 'LIBDIR', 'LDVERSION'): print(sysconfig.get_config_var(name))")


def make_python():
    """The virtualenv's python-libpython, a Python that is the shared library and nothing else."""
    program = layout.VENV / "bin/python-libpython"
    if program.exists():
        return
    include, directory, version = output([PYTHON, "-c", CONFIG]).split()
    done = subprocess.run(
        ["cc", "-x", "c", "-", "-o", program, f"-I{include}", f"-L{directory}",
         f"-Wl,-rpath,{directory}", f"-lpython{version}"],
        input=MAIN, capture_output=True, text=True, env=environment(),
    )
    if done.returncode:
        raise Missing(f"no program can be made of libpython{version}: {done.stderr[-300:]}")


def check_mod_wsgi():
    """Debian's mod_wsgi is made for Debian's Python."""
    found = version_of_python(layout.VENV / "bin/python")
    wanted = version_of_python("/usr/bin/python3")
    if found != wanted:
        raise Missing(f"Debian's mod_wsgi is made for {wanted}, this is {found}")


def versions(peers):
    """What is compared, as {name: version}."""
    found = {"Python": version_of_python(layout.VENV / "bin/python").removeprefix("Python ")}
    for peer in peers:
        if peer in PACKAGES:
            found[peer] = PACKAGES[peer].partition("==")[2]
    if "mod_wsgi" in peers:
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-wsgi-py3"],
                              capture_output=True, text=True)
        found["mod_wsgi"] = done.stdout or "?"
    return found
