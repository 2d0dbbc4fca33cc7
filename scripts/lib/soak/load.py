"""The load: all clients, and before them many parts of files."""

import array
import http.client
import random
import socket
import threading
import time

from soak import CHUNK, FILE_SIZE, TIMEOUT, say
from soak.client import Client, Wrong
from soak.deaths import Request
from soak.kinds import MIX, MORTAL_MIX

CLIENTS = 20


class Figures:
    """Counts and latencies of one kind of request."""

    def __init__(self):
        self.done = self.failed = 0
        self.milliseconds = array.array("f")
        self.lock = threading.Lock()

    def quantile(self, part):
        values = sorted(self.milliseconds)
        return values[min(int(len(values) * part), len(values) - 1)] if values else 0.0


class Sender(threading.Thread):
    """Sends the share of one client."""

    def __init__(self, load, number):
        super().__init__(name=f"client {number}", daemon=True)
        self.load = load
        self.client = Client(load.address, number, curious=load.deaths)

    def run(self):
        client, load = self.client, self.load
        kinds, weights = list(load.mix), list(load.mix.values())
        pause = CLIENTS / load.rate
        due = time.monotonic() + client.random.random() * pause
        while not load.stopping.wait(max(0, due - time.monotonic())):
            due = max(due + pause, time.monotonic() - 1)
            self.send(client.random.choices(kinds, weights)[0])
        client.close()

    def send(self, kind):
        client, figures = self.client, self.load.figures[kind.__name__]
        client.begin()
        began = time.monotonic()
        try:
            kind(client)
        except (Wrong, OSError, http.client.HTTPException, ValueError, KeyError) as error:
            client.close()
            with figures.lock:
                figures.failed += 1
            self.load.failure(f"{kind.__name__}: {type(error).__name__}: {error}",
                              Request("", began, time.monotonic(), client.ids, client.workers))
        with figures.lock:
            figures.done += 1
            figures.milliseconds.append((time.monotonic() - began) * 1000)


class Load:
    """All clients and what they found. Where workers die a failure may be right: it is kept."""

    def __init__(self, address, rate, deaths=False):
        self.address = address
        self.rate = rate
        self.deaths = deaths
        self.mix = MORTAL_MIX if deaths else MIX
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.failures = []
        self.broken = []
        self.figures = {kind.__name__: Figures() for kind in self.mix}
        self.senders = [Sender(self, number) for number in range(CLIENTS)]

    def failure(self, text, request=None):
        with self.lock:
            if self.deaths and request:
                request.text = text
                self.broken.append(request)
                return
            self.failures.append((time.time(), text))
            if len(self.failures) <= 20:
                say(f"failed: {text}")

    def start(self):
        for sender in self.senders:
            sender.start()

    def stop(self):
        self.stopping.set()
        for sender in self.senders:
            sender.join(2 * TIMEOUT)
            if sender.is_alive():
                self.failure(f"{sender.name} hangs")

    def answered(self):
        """The ids of the requests that the application has answered, where workers die."""
        return [number for sender in self.senders for number in sender.client.answered]

    def retried(self):
        """How many requests were sent again."""
        return sum(sender.client.retried for sender in self.senders)


def ask_for_files(address, count):
    """Parts of a file, 32 requests at a time on each connection; the number of wrong answers."""
    content = (CHUNK * (FILE_SIZE // len(CHUNK) + 1))[:FILE_SIZE]
    source, wrong = random.Random(count), 0
    while count:
        with socket.create_connection(address, timeout=TIMEOUT) as sock, sock.makefile("rb") as got:
            # nginx closes a connection after 1000 requests.
            for batch in [32] * 31:
                batch = min(batch, count)
                count -= batch
                starts = [source.randrange(FILE_SIZE - 100) for _ in range(batch)]
                sock.sendall(b"".join(
                    b"GET /soak/file HTTP/1.1\r\nHost: a\r\nRange: bytes=%d-%d\r\n\r\n"
                    % (start, start + 99) for start in starts
                ))
                for start in starts:
                    head = b"".join(iter(got.readline, b"\r\n"))
                    body = got.read(100)
                    if b" 206 " not in head[:20] or body != content[start:start + 100]:
                        wrong += 1
    return wrong
