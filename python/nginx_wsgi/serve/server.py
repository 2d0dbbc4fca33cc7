"""The nginx that serves: where it listens, its start, its end. This process may be process 1."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import time
from dataclasses import replace

from ..common import ports
from . import Problem

STARTING = 20
# Seconds after SIGTERM until what is left is killed.
LEAVING = 10
# What ends it, and what else is waited for. Process 1 gets no signal that it does not wait for.
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}
WAITED_FOR = ENDING | {signal.SIGHUP, signal.SIGCHLD}
PR_SET_PDEATHSIG = 1


def free(bind):
    """The place, with a port for 0; a Problem if it is taken."""
    if bind.path:
        free_path(bind.path)
        return bind
    try:
        return replace(bind, port=ports.free_port(str(bind.address), bind.port))
    except OSError as error:
        raise Problem(f"port {bind.port} of {bind.address}: {error.strerror}; choose another with"
                      " --port, or a free one with --port 0") from None


def free_path(path):
    """Removes a socket that an nginx which was killed has left."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Problem(f"{path} is there and no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise Problem(f"something listens on {path} already")
    os.unlink(path)


def answers(bind):
    """Whether it is open. The application may still be loading."""
    if bind.path:
        family, where = socket.AF_UNIX, bind.path
    else:
        family = socket.AF_INET6 if bind.address.version == 6 else socket.AF_INET
        where = (str(bind.address), bind.port)
    with socket.socket(family) as probe:
        return probe.connect_ex(where) == 0


def environ(given):
    """nginx reads a variable NGINX of its own: descriptors that another master hands over."""
    return {name: value for name, value in given.items() if name != "NGINX"}


def block_signals():
    """From here on they are taken by wait(), and by no thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)


def in_child():
    """What nginx is to have before it is one: all signals, and SIGQUIT when this process dies."""
    try:
        import ctypes
        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        prctl = None

    def prepare():
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if prctl:
            prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)

    return prepare


class Server:

    def __init__(self, command, given):
        # In a session of its own, so that Ctrl-C reaches this process only, which then quits it
        # gracefully.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=environ(given), start_new_session=True,
            preexec_fn=in_child(),
        )

    def signal(self, number):
        os.kill(self.process.pid, number)

    def ended(self):
        """Whether the master is gone. It stays a zombie: its process group keeps its number.

        Other children are there only for process 1, whom all orphans of the system belong to.
        """
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while found := os.waitid(os.P_ALL, 0, flags):
            if found.si_pid == self.process.pid:
                return True
            os.waitpid(found.si_pid, 0)
        return False

    def wait(self, timeout=None):
        """The next signal that is not about children, None when the time is over."""
        end = timeout and time.monotonic() + timeout
        while not self.ended():
            if timeout is None:
                found = signal.sigwaitinfo(WAITED_FOR)
            else:
                found = signal.sigtimedwait(WAITED_FOR, max(0, end - time.monotonic()))
                if not found:
                    return None
            if found.si_signo != signal.SIGCHLD:
                return found.si_signo
        raise Problem("nginx has stopped")

    def wait_until_up(self, binds):
        """Returns when all of them are open, or with the signal that ends it before."""
        end = time.monotonic() + STARTING
        try:
            while not all(map(answers, binds)):
                if (number := self.wait(0.02)) in ENDING:
                    return number
                if time.monotonic() > end:
                    raise Problem(f"nginx does not listen on {', '.join(map(str, binds))}")
            number = self.wait(0)
        except Problem as problem:
            said = "nginx has not started; what it says is above" if self.ended() else problem
            raise Problem(said) from None
        return number if number in ENDING else None

    def stop(self, patience):
        """Quits gracefully; an nginx that takes longer is made to. Nothing of it is left."""
        for number, seconds in ((signal.SIGQUIT, patience), (signal.SIGTERM, LEAVING)):
            end = time.monotonic() + seconds
            if not self.ended():
                self.signal(number)
            while not self.ended() and (left := end - time.monotonic()) > 0:
                signal.sigtimedwait({signal.SIGCHLD}, left)
        # Workers of a master that was killed, and what the application has started.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
