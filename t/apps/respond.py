"""Answers as the query string says: a Python expression that gives a dict.

status, headers: arguments of start_response. kind: how body is returned. fail: an exception
raised after the body. Breaks rules on purpose, so it is not validated.
"""

import io
from urllib.parse import unquote_to_bytes

from record import record


class Closing:
    """An iterator object with close()."""

    def __init__(self, parts, fail):
        self.parts, self.fail = iter(parts), fail

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.parts)
        except StopIteration:
            if self.fail:
                raise self.fail from None
            raise

    def close(self):
        record("close")


def generate(parts, fail):
    try:
        yield from parts
        if fail:
            raise fail
    finally:
        record("close")


def late(start_response, status, headers, parts, fail):
    """start_response is called by the iteration, before the first chunk."""
    start_response(status, headers)
    yield from generate(parts, fail)


def application(environ, start_response):
    spec = eval(unquote_to_bytes(environ["QUERY_STRING"]).decode("utf-8"))
    status, headers = spec.get("status", "200 OK"), spec.get("headers", [])
    body, fail, kind = spec.get("body", []), spec.get("fail"), spec.get("kind", "list")
    record("called", kind)
    if kind == "late":
        return late(start_response, status, headers, body, fail)
    if kind == "never":
        return body
    write = start_response(status, headers)
    if kind == "generator":
        return generate(body, fail)
    if kind == "iterator":
        return Closing(body, fail)
    if kind == "write":
        for part in body:
            write(part)
        body = []
    if kind == "both":
        write(body[0])
        body = body[1:]
    if kind == "file":
        body = io.BytesIO(b"".join(body))
    if fail:
        raise fail
    if kind == "tuple":
        return tuple(body)
    return body
