"""Answers after the end: what close() and other threads try, each attempt recorded."""

import threading
import time

import gate
from record import record


def attempt(what, call, *args):
    try:
        call(*args)
        record(what, "done")
    except Exception as error:
        record(what, type(error).__name__)


class Late:
    """close() starts a response and writes, whatever has happened before."""

    def __init__(self, start_response, write=None, fail=False):
        self.start_response, self.write, self.fail = start_response, write, fail
        self.parts = iter([b"body"] if write else [])

    def __iter__(self):
        return self

    def __next__(self):
        if self.fail:
            raise ValueError("before the head")
        return next(self.parts)

    def close(self):
        attempt("start", self.start_response, "200 OK", [("Content-Type", "text/plain")])
        if self.write:
            attempt("write", self.write, b"LATE")
        record("closed")


def never(environ, start_response):
    return Late(start_response)


def failed(environ, start_response):
    return Late(start_response, fail=True)


def good(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    return Late(start_response, write)


class Whole:
    """Has sent all of its Content-Length, and goes on: the query string says how."""

    def __init__(self, how):
        self.parts = iter([b"bo", b"dy"])
        self.how = how

    def __iter__(self):
        return self

    def __next__(self):
        part = next(self.parts, None)
        if part:
            return part
        gate.wait("return")
        record("goes on")
        if self.how == "raises":
            raise ValueError("after the end")
        if self.how == "more":
            self.how = None
            return b"more"
        if self.how == "spins":
            end = time.monotonic() + 3600
            while time.monotonic() < end:
                pass
        raise StopIteration

    def close(self):
        record("closed")


def whole(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return Whole(environ["QUERY_STRING"])


def is_busy(write):
    """Whether another thread is in write()."""
    try:
        write(b"")
        return False
    except RuntimeError:
        return True


kept = []


def thread(environ, start_response):
    """Returns while another thread, which keeps write(), waits for the client."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    kept.append(write)
    # More than the client takes: what follows has to wait.
    write(b"y" * 20_000_000)

    def work():
        record("writing")
        attempt("write", write, b"z" * 20_000_000)
        attempt("again", write, b"more")

    threading.Thread(target=work).start()
    gate.wait("return")
    while not is_busy(write):
        time.sleep(0.005)
    return iter(())
