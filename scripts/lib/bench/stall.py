"""The longest that a client waits while the server is reloaded: new connections all the time."""

import http.client
import signal
import threading
import time

from bench import load

CLIENTS = 4
QUIET = 3
# The trial, the import, and what the old ones take to leave.
RELOAD = 10


class Clients:
    """Each asks again and again, on a new connection each time."""

    def __init__(self, server, case):
        self.server, self.case = server, case
        self.slowest, self.requests, self.failed = 0.0, 0, 0
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        for thread in self.threads:
            thread.join(60)

    def ask(self):
        while not self.done.is_set():
            start = time.monotonic()
            try:
                is_good = load.fetch(self.server.port, self.case) == (200, load.HELLO)
            except (OSError, ValueError, http.client.HTTPException):
                is_good = False
            with self.lock:
                self.slowest = max(self.slowest, time.monotonic() - start)
                self.requests += 1
                self.failed += not is_good

    def take(self, seconds):
        """The slowest of the requests that end in the next seconds."""
        with self.lock:
            self.slowest = 0.0
        time.sleep(seconds)
        with self.lock:
            return self.slowest


def measure(server, case):
    with Clients(server, case) as clients:
        quiet = clients.take(QUIET)
        old = server.family.pids()
        # The process that was started first has the application.
        server.family.started[0].send_signal(signal.SIGHUP)
        slowest = clients.take(RELOAD)
        new = server.family.pids()
    if set(new) <= set(old):
        raise load.Wrong("was not reloaded")
    return {
        "requests": clients.requests,
        "errors": {"failed": clients.failed} if clients.failed else {},
        "slowest_before_ms": 1000 * quiet, "slowest_ms": 1000 * slowest,
    }


def run(server, case):
    try:
        server.start(case)
        return measure(server, case)
    except (load.Wrong, OSError) as error:
        return {"failed": str(error)}
    finally:
        server.stop()
