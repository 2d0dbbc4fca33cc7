"""Answers with its request body, and with a subrequest in the midst of it."""

import gate


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    yield environ["wsgi.input"].read(3)
    yield b'<!--# include virtual="/off/included" -->'
    yield environ["wsgi.input"].read()


def part(environ, start_response):
    gate.wait("part")
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"part"]
