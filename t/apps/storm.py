"""For storms of requests: counts what it is called for and what is closed.

Not validated: the validator would call close() on its own account.
"""

import threading

import gate

_lock = threading.Lock()
_counts = {"called": 0, "closed": 0}


def count(name):
    with _lock:
        _counts[name] += 1


class Body:
    def __init__(self, chunks):
        self.chunks = iter(chunks)

    def __iter__(self):
        return self.chunks

    def close(self):
        count("closed")


def application(environ, start_response):
    """Returns the query string so many times as chunks; reads the body first."""
    times = int(environ["PATH_INFO"].rsplit("/", 1)[1])
    environ["wsgi.input"].read()
    count("called")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(environ["QUERY_STRING"].encode() for _ in range(times))


def held(environ, start_response):
    """Waits for the gate of its name."""
    count("called")
    gate.wait(environ["PATH_INFO"].rsplit("/", 1)[1])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body([environ["QUERY_STRING"].encode()])


def counts(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{_counts['called']} {_counts['closed']}".encode()]
