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


def twice_late(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    yield b""
    start_response("404 Not Found", [("X-Second", "2")])
    yield b"second"


def failing():
    """sys.exc_info() of an exception."""
    try:
        raise Broken("replaced")
    except Broken:
        return sys.exc_info()


def replace_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    start_response("418 Teapot", [], failing())
    return [b"longer than ", b"before"]


def replace_twice(environ, start_response):
    for number, status in enumerate(("200 OK", "418 Teapot", "503 Later"), 1):
        start_response(status, [(f"X-{number}", "1")], failing())
    yield b"third"


def too_late_write(environ, start_response):
    write = start_response("200 OK", [("X-First", "1")])
    write(b"first")
    try:
        raise Broken("after the head")
    except Broken:
        start_response("500 Oops", [("X-Second", "2")], sys.exc_info())
    return [b"never"]


def raised(function, *args, **options):
    try:
        return str(function(*args, **options))
    except Exception as error:
        return type(error).__name__


def bad_exc_info(environ, start_response):
    write = start_response("200 OK", [])
    write(b"output, ")
    wrong = [Broken(), (Broken, Broken()), (None, None, None)]
    names = [raised(start_response, "200 OK", [], exc_info) for exc_info in wrong]
    return [" ".join(names).encode()]


def false_exc_info(environ, start_response):
    """What is false is as good as nothing: a first call is one, a second one fails."""
    false = [(), [], False, 0, ""]
    start_response("200 OK", [], false[0])
    names = [raised(start_response, "404 Not Found", [], exc_info) for exc_info in false]
    return [" ".join(names).encode()]


def wrong_exc_info(environ, start_response):
    """Before the head, where the tuple's content is not looked at."""
    wrong = [Broken(), True, "exc_info", Broken, [Broken, Broken(), None], (Broken, Broken()),
             (*failing(), None)]
    names = [raised(start_response, "404 Not Found", [("X-Wrong", "1")], wrong[0])]
    start_response("200 OK", [("X-First", "1")])
    names += [raised(start_response, "404 Not Found", [], exc_info) for exc_info in wrong]
    return [" ".join(names).encode()]


def arguments(environ, start_response):
    names = [raised(start_response), raised(start_response, "200 OK"),
             raised(start_response, status="200 OK", headers=[])]
    start_response("200 OK", [])
    return [" ".join(names).encode()]


def again(environ, start_response):
    """A call that was refused did not count."""
    for status in ("bad", 200):
        try:
            start_response(status, [])
        except (ValueError, TypeError):
            pass
    start_response("200 OK", [])
    return [b"second"]
