"""What goes wrong in production, each in a way that a status has to name."""

import ctypes
import threading
import time

import gate
from record import record

_first, _second = threading.Lock(), threading.Lock()
_meet = threading.Barrier(2)
_kept = []


def asleep_in_c():
    ctypes.CDLL(None).sleep(3600)


def one_way():
    with _first:
        _meet.wait(30)
        take(_second)


def other_way():
    with _second:
        _meet.wait(30)
        take(_first)


def take(lock):
    with lock:
        pass


def endless_loop():
    while True:
        pass


def never_releases():
    ctypes.PyDLL(None).sleep(3600)


def execute(query):
    gate.wait(query)


def slow_database():
    execute("SELECT-pg_sleep")


def leak():
    _kept.append(bytearray(b"x") * (40 << 20))


def application(environ, start_response):
    """/faults/NAME does it."""
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    record("fault", name)
    globals()[name]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def large(environ, start_response):
    """More than a client takes that does not read."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(32 << 20))])
    return [b"x" * (32 << 20)]


def sleeping(environ, start_response):
    """Until the gate is open, whatever becomes of the client."""
    record("called")
    gate.wait("sleeping")
    time.sleep(0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
