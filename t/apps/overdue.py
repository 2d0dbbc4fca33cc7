"""Requests that take too long, in ways that an exception can and cannot end."""

import atexit
import ctypes
import os
import time

import gate
from record import record

atexit.register(record, "at exit")


def spin(seconds=3600.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def compute(seconds):
    """As spin(), but seconds of a processor."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def down(depth, seconds):
    return down(depth - 1, seconds) if depth else spin(seconds)


def unread(name):
    """Waits at a gate in code whose source is a FIFO beside it: who shows the source waits too."""
    path = os.path.join(os.environ["GATES"], f"{name}.py")
    exec(compile("gate.wait(name)", path, "exec"), {"gate": gate, "name": name})


def application(environ, start_response):
    """/overdue/HOW/ARG; what is raised is recorded, and so is the end."""
    how, arg = environ["PATH_INFO"].rsplit("/", 2)[1:]
    record("called", how, arg)
    try:
        {
            "spin": lambda: spin(float(arg or 3600)),
            "compute": lambda: compute(float(arg)),
            "sleep": lambda: time.sleep(float(arg or 3600)),
            "gate": lambda: gate.wait(arg),
            "gate_with_gil": lambda: gate.wait_with_gil(arg),
            "unread": lambda: unread(arg),
            "deep": lambda: down(20, float(arg)),
            "with_gil": lambda: ctypes.PyDLL(None).usleep(int(float(arg) * 1e6)),
        }[how]()
    except BaseException as exc:
        record("raised", type(exc).__name__, isinstance(exc, Exception))
        raise
    finally:
        record("ended", how, arg)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


class Body:
    """Chunks first; then it takes too long. close() takes its time, too."""

    def __init__(self, chunk, seconds):
        self.chunk, self.seconds, self.sent = chunk, seconds, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.sent += 1
        if self.sent > 1:
            spin(self.seconds)
        if self.sent > 1000:
            raise StopIteration
        return self.chunk

    def close(self):
        spin(0.05)
        record("closed")


def streaming(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(b"chunk", 3600)


def flooding(environ, start_response):
    """More than a client takes that does not read."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(b"x" * 30000, 0)


def large(environ, start_response):
    """More than the client's window and all buffers, at once."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    record("made")
    return [b"x" * 30_000_000]


class Edge(list):
    """A result whose close() must not be interrupted."""

    def close(self):
        try:
            spin(0.002)
        except BaseException as exc:
            record("close was hit by", type(exc).__name__)
        record("closed")


def edge(environ, start_response):
    """Ends just about when its time is over: the query string says after how long."""
    record("called")
    spin(float(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Edge([b"done"])


def quick(environ, start_response):
    """Nothing may hit this one."""
    spin(0.002)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


class InC(Edge):
    """Takes too long in C, and runs no Python until its close()."""

    def __iter__(self):
        return map(time.sleep, [0.9])


def in_c(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return InC()


hoard = []


def growing(environ, start_response):
    hoard.append(bytearray(b"x" * (10 << 20)))
    return quick(environ, start_response)
