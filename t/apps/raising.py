"""Raises what the query string names, in the call or in the iteration."""

import builtins
import sys


class Custom(BaseException):
    pass


def deep():
    return deep()


def throw(name):
    if name == "RecursionError":
        deep()
    if name == "sys.exit":
        sys.exit(3)
    raise Custom("custom") if name == "Custom" else getattr(builtins, name)("raised")


def application(environ, start_response):
    throw(environ["QUERY_STRING"])


def iterating(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    throw(environ["QUERY_STRING"])


def midway(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"some"
    throw(environ["QUERY_STRING"])
