"""Returns an iterable with close() that records each step and its thread.

The query string names the case; see apps in test_close.py. Not validated: some cases break
rules, and the validator would call close() on its own account.
"""

import threading

import gate
from record import record

STATUS = {"204": "204 No Content", "304": "304 Not Modified"}
HEADERS = {"short": [("Content-Length", "99")], "long": [("Content-Length", "2")]}


class Body:
    def __init__(self, case):
        self.case, self.count = case, 0

    def __iter__(self):
        record("iter", threading.get_ident())
        return self

    def __next__(self):
        self.count += 1
        record("next", threading.get_ident())
        if self.case == "raises at once" or (self.case == "raises later" and self.count == 2):
            raise ValueError(self.case)
        if self.case == "exits" and self.count == 2:
            raise SystemExit(1)
        if self.case == "bad item":
            return "text"
        if self.case == "endless":
            return b"x" * 10_000
        if self.case == "waits" and self.count == 2:
            gate.wait("close")
        if self.count > 3:
            raise StopIteration
        return b"part"

    def close(self):
        record("close", threading.get_ident())
        if self.case == "close raises":
            raise ValueError("in close")
        if self.case == "close exits":
            raise SystemExit(2)


def application(environ, start_response):
    case = environ["QUERY_STRING"].replace("%20", " ")
    record("call", threading.get_ident())
    if case != "no start":
        status = STATUS.get(case, "200 OK")
        start_response(status, HEADERS.get(case, []))
    return Body(case)


def raises(environ, start_response):
    """Nothing was returned: there is nothing to close."""
    record("call", threading.get_ident())
    start_response("200 OK", [])
    raise ValueError("before the return")


class NoIter:
    """close() but no iteration: still closed."""

    def close(self):
        record("close", threading.get_ident())


def no_iter(environ, start_response):
    record("call", threading.get_ident())
    start_response("200 OK", [])
    return NoIter()
