"""The one place where the tests wait: conditions are polled, never slept for."""

import contextlib
import os
import time

INTERVAL = 0.01
# By how much the server is slower than it should be: scripts/sanitize runs it under a checker.
SLOWDOWN = float(os.environ.get("TEST_NGINX_SLOWDOWN") or 1)


def until(condition, timeout=10.0, what="the condition"):
    """Return the first true value of condition(); fail after timeout seconds."""
    timeout *= SLOWDOWN
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(INTERVAL)


def until_stable(value, quiet=0.5, timeout=20.0, what="a value that stays"):
    """Return value() once it has not changed for quiet seconds."""
    seen = [value(), time.monotonic()]

    def settled():
        now = value()
        if now != seen[0]:
            seen[:] = [now, time.monotonic()]
        return time.monotonic() - seen[1] >= quiet

    until(settled, timeout, what)
    return seen[0]


@contextlib.contextmanager
def takes(seconds):
    """What is done inside is held up for at least so long."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start >= seconds, f"done in less than {seconds} s"


def elapse(seconds):
    """Let time pass where the passing of time is what the test is about."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 5)
