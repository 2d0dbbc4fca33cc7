"""The processes of a server: starting and stopping them, their CPU time and their memory."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

WORKER_USERS = ("www-data", "nobody")


def worker():
    """The unprivileged user and group of all servers if this is root, else None."""
    if os.geteuid() != 0:
        return None
    for name in WORKER_USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    raise SystemExit(f"bench: none of the users {', '.join(WORKER_USERS)} is there")


def unprivileged(command):
    """The command as the user of the servers; the kernel ends it if this script is killed.

    That user keeps one capability of root, since the virtualenv lies in target/, which may be
    closed to others; the secure bit lets access(2) respect it.
    """
    setpriv = ["setpriv", "--pdeathsig", "TERM"]
    if user := worker():
        setpriv += [f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups",
                    "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
                    "--securebits=+no_setuid_fixup"]
    return [*setpriv, *command]


def environment(extra=()):
    """The environment without what steers Python, nginx or the peers."""
    kept = {
        name: value for name, value in os.environ.items()
        if not re.match(r"PYTHON|VIRTUAL_ENV$|NGINX$|GRANIAN_|GUNICORN_|UWSGI_|WEB_CONC", name)
    }
    return kept | dict(extra)


def leave_on_signals():
    """A signal raises SystemExit, so that all is stopped; further ones change nothing."""
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number, _):
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in caught:
        signal.signal(each, leave)


def stat(pid):
    """Parent and start time of a process, None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return int(fields[1]), int(fields[19])


def descendants(roots):
    """The processes and all their children's children, as {pid: start time}."""
    known = {int(name): stat(name) for name in os.listdir("/proc") if name.isdigit()}
    known = {pid: found for pid, found in known.items() if found}
    family = {pid: known[pid][1] for pid in roots if pid in known}
    grown = True
    while grown:
        children = {pid: began for pid, (parent, began) in known.items()
                    if parent in family and pid not in family}
        family |= children
        grown = bool(children)
    return family


def cpu_clock(pid):
    """Nanoseconds of CPU, user and system, of all threads of a process, ended ones included.

    The process's CPU clock, as clock_getcpuclockid() names it: the sum of the first fields of
    /proc/PID/task/*/schedstat, and what threads that are gone have left.
    """
    return int(time.clock_gettime_ns((~pid << 3) | 2))


def pss(pid):
    """Proportional set size in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+) kB", text, re.M).group(1)) * 1024


class Family:
    """What one server consists of: processes that were started and their descendants."""

    def __init__(self):
        self.started = []

    def start(self, command, log, environ=(), cwd=None):
        with open(log, "ab") as output:
            process = subprocess.Popen(
                unprivileged([str(word) for word in command]), cwd=cwd, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env=environment(environ), start_new_session=True,
            )
        self.started.append(process)
        return process

    def pids(self):
        return descendants([process.pid for process in self.started])

    def ended(self):
        """A process that was started and is gone."""
        return next((process for process in self.started if process.poll() is not None), None)

    def cpu(self):
        """CPU nanoseconds so far, for each process."""
        found = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found[pid] = cpu_clock(pid)
        return found

    def memory(self):
        """PSS of all processes together, in bytes."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, AttributeError):
                total += pss(pid)
        return total

    def stop(self):
        """Asks them to end, the front first; kills what is left after five seconds."""
        family = self.pids()
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + 5
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
        for pid, began in family.items():
            found = stat(pid)
            if found and found[1] == began:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.wait()
        self.started = []
