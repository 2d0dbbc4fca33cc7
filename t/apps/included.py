"""Answers with its request body, and with a subrequest in the midst of it."""

import gate


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    yield environ["wsgi.input"].read(3)
    yield b'<!--# include virtual="/off/included" -->'
    yield environ["wsgi.input"].read()


def proxied(environ, start_response):
    """The same, but another server is asked, once before the body is complete and once after."""
    start_response("200 OK", [("Content-Type", "text/html")])
    yield environ["wsgi.input"].read(3)
    yield b'<!--# include virtual="/proxied/part" -->'
    yield environ["wsgi.input"].read()
    yield b'<!--# include virtual="/proxied/part" -->'


def part(environ, start_response):
    gate.wait("part")
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"part"]
