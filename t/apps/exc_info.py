"""Calls start_response twice: without exc_info, with it before the head, with it after."""

import sys


class Broken(Exception):
    pass


def twice(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    start_response("404 Not Found", [("X-Second", "2")])
    return [b"second"]


def replace(environ, start_response):
    start_response("200 OK", [("X-First", "1"), ("Set-Cookie", "first=1")])
    try:
        raise Broken("replaced")
    except Broken:
        start_response("418 Teapot", [("X-Second", "2")], sys.exc_info())
    return [b"second"]


def replace_late(environ, start_response):
    """In the iteration, after an empty chunk, which must not have sent the head."""
    start_response("200 OK", [("X-First", "1")])
    yield b""
    try:
        raise Broken("replaced")
    except Broken:
        start_response("418 Teapot", [("X-Second", "2")], sys.exc_info())
    yield b"second"


def too_late(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    yield b"first"
    try:
        raise Broken("after the head")
    except Broken:
        start_response("500 Oops", [("X-Second", "2")], sys.exc_info())
    yield b"never"


def positional(environ, start_response):
    write = start_response("200 OK", [], None)
    assert callable(write)
    return [b"first"]


def again(environ, start_response):
    """A call that was refused did not count."""
    for status in ("bad", 200):
        try:
            start_response(status, [])
        except (ValueError, TypeError):
            pass
    start_response("200 OK", [])
    return [b"second"]
