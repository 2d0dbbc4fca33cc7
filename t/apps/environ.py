"""Answers with environ as JSON: each value and the name of its type."""

import json
from wsgiref.validate import validator

from record import record


def answer(environ, start_response):
    record("called", environ["REQUEST_URI"])
    types = {name: type(value).__name__ for name, value in environ.items()}
    values = {
        name: value if isinstance(value, (str, bool, tuple)) else repr(value)
        for name, value in environ.items()
    }
    shown = {"type": type(environ).__name__, "types": types, "values": values}
    body = json.dumps(shown).encode("ascii")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


application = validator(answer)


def bare(environ, start_response):
    """Without the validator, which refuses odd methods and paths and wraps wsgi.input."""
    environ["test.called_with"] = type(environ).__name__
    return answer(environ, start_response)
