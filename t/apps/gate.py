"""Waiting until the test lets go: it holds a lock on the file of the gate's name."""

import ctypes
import fcntl
import os

from record import record


def wait(name):
    """A gate that the test has not made is open."""
    try:
        file = open(os.path.join(os.environ["GATES"], name))
    except FileNotFoundError:
        return
    with file:
        record("waiting", name)
        fcntl.flock(file, fcntl.LOCK_SH)


def wait_with_gil(name):
    """No other thread gets Python before the gate is open."""
    with open(os.path.join(os.environ["GATES"], name)) as file:
        record("waiting", name)
        ctypes.PyDLL(None).flock(file.fileno(), fcntl.LOCK_SH)
