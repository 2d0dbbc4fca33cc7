"""Requests in the background while something happens to nginx."""

import concurrent.futures
import threading
import time

from . import http
from .poll import until

# For so long, in seconds, a connection may be open without a request in a worker that leaves.
SILENCE = 0.3


def at_once(function, items, threads):
    """What function returns for each item, several at a time."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


class Load:
    """Clients that ask for path again and again, each time on a new connection."""

    def __init__(self, port, path, clients=4):
        self.port, self.path = port, path
        self.answers = []
        self.slowest = 0.0
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]
        self.turns = dict.fromkeys(self.threads, 0)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        for thread in self.threads:
            thread.join(30)

    def _ask(self):
        while not self.done.is_set():
            start = sent = time.monotonic()
            try:
                with http.Connection(self.port, timeout=20) as client:
                    client.send(http.build("GET", self.path))
                    sent = time.monotonic()
                    response = client.read_response()
                answer = response.status if response.complete else response.end
            except (OSError, AssertionError) as error:
                answer = f"{type(error).__name__}: {error}"
            if answer in ("nothing", "reset") and sent - start > SILENCE:
                # It was held up, and may have been taken for a client that wants nothing.
                continue
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.answers.append(answer)
            self.turns[threading.current_thread()] += 1

    def each(self, count):
        """Wait until each client has had so many more answers."""
        enough = {thread: turns + count for thread, turns in self.turns.items()}
        until(lambda: all(self.turns[thread] >= enough[thread] for thread in self.threads), 20,
              "an answer for each client")

    def failures(self):
        return [answer for answer in self.answers if answer != 200]
