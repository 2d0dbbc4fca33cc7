"""Other applications, each call recorded with its worker; and one that holds a thread."""

import ctypes
import fcntl
import importlib
import os
import time

import gate
from record import record


def told(name, attribute="application"):
    called = getattr(importlib.import_module(name), attribute)

    def application(environ, start_response):
        record("ran", os.getpid(), environ["PATH_INFO"])
        return called(environ, start_response)

    return application


def answer(start_response, text):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(text).encode()]


def hold(environ, start_response):
    """/hold/NAME waits for the gate NAME."""
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    record("holding", name, os.getpid())
    gate.wait(name)
    return answer(start_response, os.getpid())


def ready(environ, start_response):
    environ["wsgi.input"].read()
    return answer(start_response, os.getpid())


def plain(environ, start_response):
    record("ran", os.getpid(), environ["PATH_INFO"])
    return answer(start_response, os.getpid())


def pause(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return plain(environ, start_response)


def fork(environ, start_response):
    """Answers with the child's pid, which lives until the gate at the end of the path opens."""
    record("ran", os.getpid(), environ["PATH_INFO"])
    child = os.fork()
    if not child:
        gate.wait(environ["PATH_INFO"].rsplit("/", 1)[1])
        os._exit(0)
    return answer(start_response, child)


def late(environ, start_response):
    """As many bytes as the query string says, when the gate at the end of the path is open."""
    record("ran", os.getpid(), environ["PATH_INFO"])
    gate.wait(environ["PATH_INFO"].rsplit("/", 1)[1])
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"x" * int(environ["QUERY_STRING"])
    record("sent")


def compute(environ, start_response):
    """Python code that takes so many seconds of a processor and never waits."""
    record("ran", os.getpid(), environ["PATH_INFO"])
    end = time.thread_time() + float(environ["QUERY_STRING"])
    while time.thread_time() < end:
        pass
    return answer(start_response, os.getpid())


respond, files, talk, upload, buffered, whereabouts, closing, overdue = map(told, (
    "respond", "files", "talk", "upload", "buffered", "whereabouts", "closing", "overdue",
))
midway, before_head = told("held", "midway"), told("held", "before_head")


def hog(environ, start_response):
    """No other thread gets Python before the gate is open."""
    with open(os.path.join(os.environ["GATES"], "hog")) as file:
        record("hogs", os.getpid())
        ctypes.PyDLL(None).flock(file.fileno(), fcntl.LOCK_SH)
    return answer(start_response, os.getpid())


def chatter(environ, start_response):
    """So many lines for the log, behind a gate."""
    record("ran", os.getpid(), environ["PATH_INFO"])
    gate.wait("chatter")
    for number in range(int(environ["QUERY_STRING"])):
        environ["wsgi.errors"].write(f"{number} {'x' * 1000}\n")
    record("chattered")
    return answer(start_response, os.getpid())
