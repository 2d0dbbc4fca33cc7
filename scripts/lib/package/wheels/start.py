"""How large what pip installs is, and how long a command takes until it answers: beside peers."""

import contextlib
import http.client
import importlib.metadata
import os
import re
import shutil
import signal
import statistics
import subprocess
import time

from common.paths import APPS, ROOT
from common.ports import free_port

from .check import wheel_of
from .steps import WORK, Failed, run, say

VENV_OF_PEERS = WORK / "peers"
PEERS = ("pyvoy==1.3.0", "gunicorn==27.0.1")
ROUNDS = 5
# Longer than any takes.
PATIENCE = 60
LEAVING = 15
HELLO = """
import flask

app = flask.Flask(__name__)

@app.get("/")
def hello():
    return "hello"
"""
# Each with one worker process, and else as it comes.
COMMANDS = {
    "nginx-wsgi": {"hello": ("serve", "hello.py", "--port"),
                   "django": ("serve", "miniproject", "--port")},
    "gunicorn": {"hello": ("hello:app", "--bind"),
                 "django": ("miniproject.wsgi", "--chdir", "miniproject", "--bind")},
    "pyvoy": {"hello": ("hello:app", "--interface", "wsgi", "--port"),
              "django": ("miniproject.wsgi:application", "--interface", "wsgi", "--port")},
}
TITLES = {"hello": "Flask, hello", "django": "the demo, Django"}


def run_all():
    python = prepare()
    place = WORK / "start"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(APPS / "miniproject", place / "miniproject",
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    (place / "hello.py").write_text(HELLO)
    run(python, "manage.py", "migrate", "--verbosity=0", cwd=place / "miniproject")
    print("| | installed, MiB |", " | ".join(f"{TITLES[case]}, s" for case in TITLES), "|")
    print("|---|--:|--:|--:|")
    for name, cases in COMMANDS.items():
        # The first is for what is compiled and cached.
        times = {case: [once(name, cases[case], case, place) for _ in range(ROUNDS + 1)][1:]
                 for case in cases}
        for case, found in times.items():
            say(f"{name}, {case}: " + " ".join(f"{each:.2f}" for each in found))
        distribution = "nginx_wsgi" if name == "nginx-wsgi" else name
        print(f"| {name} {version(distribution)} | {size(distribution) / 2**20:.1f} |",
              " | ".join(f"{statistics.median(found):.2f}" for found in times.values()), "|",
              flush=True)


def prepare():
    """The virtualenv with all of them. Returns its Python."""
    python = VENV_OF_PEERS / "bin/python"
    if not python.exists():
        run("/usr/bin/python3", "-m", "venv", VENV_OF_PEERS)
    run(python, "-m", "pip", "install", "--quiet", *PEERS, "Flask", "-r",
        ROOT / "t/apps/miniproject/requirements.txt")
    # The one that was made last.
    run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel_of())
    return python


# ------- starting


def once(name, arguments, case, place):
    """Seconds from the start of the process to the end of its first answer of 200."""
    port = free_port()
    where = f"127.0.0.1:{port}" if arguments[-1] == "--bind" else str(port)
    folder = place / "miniproject" if name == "pyvoy" and case == "django" else place
    log = WORK / f"start-{name}.log"
    with open(log, "wb") as file:
        begun = time.monotonic()
        process = subprocess.Popen([VENV_OF_PEERS / "bin" / name, *arguments, where], cwd=folder,
                                   stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   start_new_session=True)
        try:
            while not answers(port):
                if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                    raise Failed(f"{name} does not serve {case}:\n{log.read_text()[-2000:]}")
                time.sleep(0.002)
            return time.monotonic() - begun
        finally:
            stop(process)


def stop(process):
    """With all that it has started. pyvoy has been seen to stay after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LEAVING)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request("GET", "/")
        return client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


# ------- sizes


def distributions():
    (packages,) = VENV_OF_PEERS.glob("lib/python*/site-packages")
    return {key(each.metadata["Name"]): each
            for each in importlib.metadata.distributions(path=[str(packages)])}


def key(name):
    return re.sub("[-_.]+", "-", name).lower()


def version(name):
    return distributions()[key(name)].version


def size(name):
    """Bytes of what is installed for it, with what it requires."""
    known = distributions()
    wanted, found = [key(name)], {}
    while wanted:
        one = wanted.pop()
        if one in found or one not in known:
            continue
        found[one] = sum(path.locate().stat().st_size for path in known[one].files
                         if path.locate().is_file())
        wanted += [key(re.match(r"[\w.-]+", text)[0]) for text in known[one].requires or []
                   if "extra ==" not in text]
    return sum(found.values())
