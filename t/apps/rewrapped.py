"""Wraps sys.stdout while it is imported, as programs do that want an encoding of their own."""

import io
import sys

stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)
print("rewrapped \u20ac", file=stream)
del stream
print("still open")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"rewrapped"]
