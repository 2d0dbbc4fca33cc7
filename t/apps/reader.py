"""Evaluates the query string with f = wsgi.input and shows the result; not validated."""

import io
import json
import os
import threading
from urllib.parse import unquote

from record import record


def in_thread(function):
    """What function() returned in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def raised(function):
    """The name of the exception that function() raises."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__


def application(environ, start_response):
    record("called", environ["REQUEST_METHOD"])
    names = {"f": environ["wsgi.input"], "io": io, "os": os, "in_thread": in_thread,
             "raised": raised, "environ": environ}
    result = eval(unquote(environ["QUERY_STRING"]), names)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(result).encode()]


saved = []


def keep(environ, start_response):
    """Keeps wsgi.input of a POST; a GET tries to use it after its request has ended."""
    start_response("200 OK", [("Content-Type", "application/json")])
    if environ["REQUEST_METHOD"] == "POST":
        saved.append(environ["wsgi.input"])
        # A reference cycle: only the garbage collector frees this one.
        environ["cycle"] = environ
        return [b"{}"]
    old = saved.pop()
    names = ["read", "readline", "readlines"]
    found = {name: raised(getattr(old, name)) for name in names}
    found["next"] = raised(lambda: next(iter(old)))
    return [json.dumps(found).encode()]
