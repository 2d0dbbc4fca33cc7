"""Answers with what it was called with, and keeps a list of its calls in EVENTS."""

from record import record


def application(environ, start_response):
    """Not validated: the requests are odd on purpose."""
    body = environ["wsgi.input"].read()
    call = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']!a} {body!r}"
    record("call", call)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [call.encode()]
