"""Computes for a moment, and counts the requests that were not alone.

QUERY_STRING is what else it does: "files" lets go of the GIL ten times, each time for no longer
than stat(2) takes; "sleeps" gives it away for as long as it computes.
"""

import os
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
    what = environ["QUERY_STRING"]
    start = time.thread_time()
    for part in range(1, 11):
        while time.thread_time() < start + EACH * part / 10:
            pass
        if what == "files":
            os.stat("/")
    if what == "sleeps":
        time.sleep(EACH)
    with _lock:
        _counts["at work"] -= 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def hog(environ, start_response):
    """From now on a thread of the application computes without end."""
    threading.Thread(target=_compute, daemon=True).start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"begun"]


def _compute():
    while True:
        pass


def counts(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{_counts['all']} {_counts['in company']}".encode()]
