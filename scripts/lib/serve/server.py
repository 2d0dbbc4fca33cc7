"""The nginx that serves: its port, its start, its end."""

import os
import signal
import socket
import subprocess
import time

from common import ports
from common.nginx import command
from serve import Problem

STARTING = 20
# Seconds after each signal until the next one.
LEAVING = 10


def free_port(address, port):
    """The port, or for 0 one that nobody listens on."""
    try:
        return ports.free_port(address, port)
    except OSError as error:
        raise Problem(f"port {port} of {address}: {error.strerror}; choose another with"
                      " --port, or a free one with --port 0") from None


def environ(given):
    """nginx reads a variable NGINX of its own: descriptors that another master hands over."""
    return {name: value for name, value in given.items() if name != "NGINX"}


class Server:

    def __init__(self, directory, given):
        # In a session of its own, so that Ctrl-C reaches this script only, which then quits it
        # gracefully. If this script is killed the kernel sends the quit signal.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "QUIT", *command(directory)],
            stdin=subprocess.DEVNULL, env=environ(given), start_new_session=True,
        )

    def ended(self):
        """Whether the master is gone. It stays a zombie: its process group keeps its number."""
        found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def wait_until_up(self, family, address, port):
        """Returns when the port is open. The application may still be loading."""
        end = time.monotonic() + STARTING
        while not self.ended():
            with socket.socket(family) as probe:
                if probe.connect_ex((address, port)) == 0:
                    return
            if time.monotonic() > end:
                raise Problem(f"nginx does not listen on port {port}")
            time.sleep(0.02)
        raise Problem("nginx has not started; what it says is above")

    def wait(self):
        """Returns when nginx has ended by itself."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def stop(self):
        """Quits gracefully; an nginx that takes longer is made to. Nothing of it is left."""
        for number in (signal.SIGQUIT, signal.SIGTERM):
            end = time.monotonic() + LEAVING
            if not self.ended():
                os.kill(self.process.pid, number)
            while not self.ended() and time.monotonic() < end:
                time.sleep(0.02)
        # Workers of a master that was killed, and what the application has started.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()
