"""Threads that never come back, in ways that the interpreter can or cannot interrupt."""

import ctypes
import threading
import time

import gate
from record import record


def stuck_in_sleep():
    time.sleep(3600)


def stuck_in_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def stuck_with_gil():
    ctypes.PyDLL(None).sleep(3600)


def stuck_in_loop():
    while True:
        pass


def stuck_at_fork():
    """fork() runs what a library has registered, which may wait for a lock of its own."""
    libc = ctypes.CDLL(None)
    libc["__register_atfork"](ctypes.cast(libc.pause, ctypes.c_void_p), None, None, None)
    time.sleep(3600)


def application(environ, start_response):
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    record("stuck", name)
    globals()[name]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"never"]


def thread(environ, start_response):
    """A thread of its own that never ends, left behind by a request that does."""
    daemon = environ["QUERY_STRING"] == "daemon"
    threading.Thread(target=stuck_in_sleep, daemon=daemon).start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"started"]


def work():
    gate.wait("work")
    record("worked")


def working(environ, start_response):
    """A thread, no daemon, that ends when the test lets it."""
    threading.Thread(target=work, daemon=False).start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"started"]
