"""scripts/serve as a test starts it, and the sites that it is given."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys

from common import proc

from . import config, http, procs
from .poll import SLOWDOWN, until

SCRIPT = os.path.join(config.ROOT, "scripts/serve")
MINIPROJECT = os.path.join(config.HERE, "apps/miniproject")
SYSTEM = os.environ.get("PYO3_PYTHON") or "/usr/bin/python3"
ROOT = os.getuid() == 0
# The tests' virtualenv lies where the checkout lies, which may be closed to another user.
AS_ROOT = ["--user", "root"] if ROOT else []
ODD = "a \"b' $c ${d};e{f}#g\\new ü"
PLAIN = """
import os
def {name}(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr((__name__, os.getcwd(), environ["PATH_INFO"])).encode()]
"""
APP = PLAIN.format(name="application")
FACTORY = PLAIN.format(name="_app") + "\ndef create_app(debug=False):\n    return _app\n"


def environment(**changes):
    kept = {name: value for name, value in os.environ.items()
            if name not in ("VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE", "PYTHONPATH")}
    return kept | {"NGINX": config.BINARY} | changes


class Site:
    """A directory of its own, and the scripts/serve that is started for it."""

    def __init__(self):
        self.dir = config.temp_dir()
        os.chmod(self.dir, 0o755)
        self.process = None
        self.pids = []
        self.log = f"{self.dir}.log"
        self.lock = None

    def write(self, path, text=APP):
        path = os.path.join(self.dir, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def command(self, *args, script=SCRIPT, module=config.MODULE):
        port = [] if "--port" in args else ["--port", "0"]
        return [sys.executable, script, *args, *port, *(["--module", module] if module else [])]

    def run(self, *args, cwd=None, env=None, **options):
        """To its end: for errors and --print-config."""
        if "--print-config" in args and not self.lock:
            # All that is printed is written to one directory of the checkout.
            self.lock = os.open(config.ROOT, os.O_RDONLY)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        return subprocess.run(self.command(*args, **options), cwd=cwd or self.dir,
                              env=environment(**(env or {})), capture_output=True, text=True,
                              errors="surrogateescape", timeout=50 * SLOWDOWN)

    def config_of(self, *args, **options):
        done = self.run(*args, "--print-config", **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *args, **options):
        done = self.run(*args, **options)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr and "starting nginx" not in done.stderr
        assert done.stdout == ""
        return done.stderr

    def start(self, *args, cwd=None, env=None, prefix=(), python=(), **options):
        command = [*prefix, *python, *self.command(*args, **options)[1 if python else 0:]]
        self.process = subprocess.Popen(
            command, cwd=cwd or self.dir, env=environment(**(env or {})),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.log, "wb"),
        )
        # One that has ended too, so that what it said is shown.
        until(lambda: self.url() or self.process.poll() is not None, 40, "the URL")
        assert self.process.poll() is None, self.said()
        self.port = int(self.url())
        self.look()
        return self

    def look(self):
        """The processes of nginx, when all are there: it listens before it has its workers."""
        conf = re.search(r"configuration: (\S+/nginx\.conf)$", self.said(), re.M)[1]
        with open(conf, errors="replace") as file:
            wanted = int(re.search(r"^worker_processes (\d+);$", file.read(), re.M)[1])

        def found():
            masters = [pid for pid in proc.descendants([self.process.pid])
                       if procs.cmdline(pid).startswith("nginx: master")]
            pids = [*masters, *(pid for master in masters for pid in procs.children(master))]
            return pids if len(pids) == 1 + wanted else None

        self.pids = until(found, 20, f"nginx with {wanted} workers")

    def said(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def url(self):
        found = re.search(r"^serve: http://127\.0\.0\.1:(\d+)/ until Ctrl-C$", self.said(), re.M)
        return found and found[1]

    def get(self, path="/"):
        return http.request(self.port, "GET", path)

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(30 * SLOWDOWN)

    def left(self):
        return [f"{pid}: {procs.cmdline(pid)}" for pid in self.pids if procs.alive(pid)]

    def finish(self):
        faults = []
        if self.process and self.process.poll() is None:
            status = self.stop()
            faults += [f"exit status {status}"] if status else []
        if left := self.left():
            faults += left
            for pid in self.pids:
                if procs.alive(pid):
                    os.kill(pid, signal.SIGKILL)
        if self.process:
            faults += re.findall(r".*\[(?:alert|emerg|crit)\].*", self.said())
            # That of a script that was killed.
            for directory in re.findall(r"configuration: (\S+)/nginx.conf", self.said()):
                shutil.rmtree(directory, ignore_errors=True)
            os.unlink(self.log)
        if self.lock:
            os.close(self.lock)
        shutil.rmtree(self.dir)
        return faults


def django(site, name="project", settings=""):
    """A copy of the demo's project, with its database made; the tests' virtualenv is its .venv."""
    folder = f"{site.dir}/{name}"
    shutil.copytree(MINIPROJECT, folder,
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    os.symlink(sys.prefix, f"{folder}/.venv")
    with open(f"{folder}/miniproject/settings.py", "a") as file:
        file.write(settings)
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True,
                   cwd=folder, env=environment(), timeout=50)
    return folder


def checkout(site, build="exit 1\n", requirements="exit 0\n"):
    """A copy of the scripts where other programs stand for what they call."""
    folder = f"{site.dir}/checkout"
    for name in ("scripts", "python"):
        shutil.copytree(f"{config.ROOT}/{name}", f"{folder}/{name}",
                        ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (("build", build), ("requirements", requirements)):
        with open(f"{folder}/scripts/{name}", "w") as file:
            file.write("#!/bin/sh\n" + text)
    return folder


def target(text):
    (found,) = re.findall(r"^\s*wsgi_app (.*);$", text, re.M)
    return found


def chdir(text):
    (found,) = re.findall(r"^\s*wsgi_chdir (.*);$", text, re.M)
    return found
