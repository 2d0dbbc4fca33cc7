"""The processes of a server: starting and stopping them, their CPU time and their memory."""

import contextlib
import os
import signal
import subprocess
import time

from common import proc
from common.processes import WORKER_USERS, environment, worker_user


def worker():
    """The unprivileged user and group of all servers if this is root, else None."""
    if os.geteuid() != 0:
        return None
    if user := worker_user():
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
        return proc.descendants([process.pid for process in self.started])

    def ended(self):
        """A process that was started and is gone."""
        return next((process for process in self.started if process.poll() is not None), None)

    def cpu(self):
        """CPU nanoseconds so far, for each process."""
        found = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found[pid] = proc.cpu_clock(pid)
        return found

    def switches(self):
        """Voluntary context switches so far, for each process."""
        return {pid: proc.voluntary_switches(pid) for pid in self.pids()}

    def loops(self):
        """CPU nanoseconds and voluntary switches so far of each process's first thread, which is
        the event loop in nginx."""
        pids = self.pids()
        return ({pid: proc.cpu_of_thread(pid, pid) for pid in pids},
                {pid: proc.switches_of_thread(pid, pid) for pid in pids})

    def memory(self):
        """PSS of all processes together, in bytes."""
        return sum(proc.rollup(pid).get("Pss", 0) for pid in self.pids())

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
            if proc.started(pid) == began:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.wait()
        self.started = []
