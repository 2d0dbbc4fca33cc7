"""Requests held back by gates: who was called, who was closed, who is told what."""

import time

import gate
from record import record


def application(environ, start_response):
    """/held/NAME waits for the gate NAME and answers with its query string."""
    name, tag = environ["PATH_INFO"].rsplit("/", 1)[1], environ["QUERY_STRING"]
    record("called", name, tag)
    gate.wait(name)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(tag)))])
    return [tag.encode()]


class Body:
    def __init__(self, name):
        self.name, self.step = name, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.step += 1
        if self.step == 1:
            return b"first"
        if self.step == 2:
            gate.wait(self.name)
        if self.step > 100_000:
            raise StopIteration
        return b"more"

    def close(self):
        record("closed", self.name, self.step)


def midway(environ, start_response):
    """A chunk, then silence until the gate opens."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(environ["PATH_INFO"].rsplit("/", 1)[1])


def in_steps(environ, start_response):
    """/NAME: a chunk when the gate NAME opens, and the end when NAME-end does."""
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    record("called", name)
    gate.wait(name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"chunk"
    gate.wait(f"{name}-end")


def before_head(environ, start_response):
    """Silence before the head; returns something to close."""
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    gate.wait(name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(name)


class SlowEnd(list):
    """Nothing to send, and a close() that waits for the gate."""

    def close(self):
        gate.wait("close")
        record("closed")


def slow_close(environ, start_response):
    """Longer in the application than the event loop looks after those that wait."""
    time.sleep(0.05)
    start_response("302 Found", [("Content-Type", "text/plain"), ("Location", "/")])
    return SlowEnd()
