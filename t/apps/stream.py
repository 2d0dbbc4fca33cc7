"""Streams: chunk by chunk behind gates, without end, by write()."""

import gate
from record import record


def parts(environ, start_response):
    """one, then after gate 'two' two, then after gate 'three' three."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one"
    for name in ("two", "three"):
        gate.wait(name)
        yield name.encode()


def head_later(environ, start_response):
    """Empty chunks must not send the head."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    gate.wait("two")
    yield b"two"


def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one")
    gate.wait("two")
    write(b"two")
    gate.wait("three")
    return [b"three"]


def fast(environ, start_response):
    """QUERY_STRING chunks of 64 KiB as fast as they are taken."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    count = 0
    try:
        for count in range(int(environ["QUERY_STRING"])):
            record("produced", environ["REMOTE_PORT"])
            yield b"%07d\n" % count * 8192
    finally:
        record("closed", environ["REMOTE_PORT"], count)


def fast_writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    for count in range(int(environ["QUERY_STRING"])):
        try:
            write(b"%07d\n" % count * 8192)
        except Exception as error:
            record("raised", type(error).__name__, isinstance(error, OSError))
            raise
        record("produced", environ["REMOTE_PORT"])
    return []


def burst(environ, start_response):
    """8 MB at once, then an exception if asked for; or the end, after gate 'two'."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"x" * 8_000_000
    if environ["QUERY_STRING"] == "raise":
        raise ValueError("after the burst")
    gate.wait("two")
    yield b"end"


def ticks(environ, start_response):
    """A chunk at each turn of the gate of its number: 20 gates."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(20):
        gate.wait(f"tick{number}")
        yield b"tick %d\n" % number


def trailing(environ, start_response):
    """The end comes a while after the last chunk."""
    start_response("200 OK", [("Content-Type", "text/html")])
    yield b"one"
    gate.wait("end")
