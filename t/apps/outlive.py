"""Keeps wsgi.input and wsgi.errors beyond their request: in a thread, in atexit, in a cycle."""

import atexit
import gc
import threading

import gate
from record import record


def attempt(what, function):
    try:
        record(what, repr(function()))
    except Exception as error:
        record(what, type(error).__name__)


def use(what, body, errors):
    for name in ("read", "readline", "readlines", "tell"):
        attempt(f"{what} {name}", getattr(body, name))
    attempt(f"{what} seek", lambda: body.seek(0))
    attempt(f"{what} next", lambda: next(body))
    attempt(f"{what} closed", lambda: body.closed)
    attempt(f"{what} write", lambda: errors.write(f"written {what}\n"))


def application(environ, start_response):
    how = environ["QUERY_STRING"]
    body, errors = environ["wsgi.input"], environ["wsgi.errors"]
    body.read(2)
    if how == "thread":
        def work():
            gate.wait("ended")
            use(how, body, errors)

        threading.Thread(target=work).start()
    elif how == "atexit":
        atexit.register(use, how, body, errors)
    elif how == "cycle":
        environ["cycle"] = environ
        del environ, body, errors
        gc.collect()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"kept"]


def collected(environ, start_response):
    """In the request a collection takes nothing away from it."""
    environ["cycle"] = environ
    body = environ["wsgi.input"]
    gc.collect()
    start_response("200 OK", [("Content-Type", "text/plain")])
    del environ
    for line in body:
        gc.collect()
        yield line
