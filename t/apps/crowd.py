"""Computes for a moment, and counts the requests that were not alone."""

import threading
import time

# As long as that, in seconds of this thread's CPU time.
EACH = 0.001
_lock = threading.Lock()
_counts = {"at work": 0, "all": 0, "in company": 0}


def application(environ, start_response):
    with _lock:
        _counts["at work"] += 1
        _counts["all"] += 1
        _counts["in company"] += _counts["at work"] > 1
    end = time.thread_time() + EACH
    while time.thread_time() < end:
        pass
    with _lock:
        _counts["at work"] -= 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def counts(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{_counts['all']} {_counts['in company']}".encode()]
