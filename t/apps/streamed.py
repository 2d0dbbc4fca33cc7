"""Reads a body that may still be on its way; the path says how, EVENTS what came of it."""

import hashlib
import os

import gate
from record import record


def digest(read, size):
    total, found = 0, hashlib.sha256()
    while piece := read(size):
        total += len(piece)
        found.update(piece)
    return b"%d %s" % (total, found.hexdigest().encode())


def whole(environ, start):
    """All of it, behind a gate."""
    record("begun", environ.get("CONTENT_LENGTH"))
    gate.wait("whole")
    result = digest(environ["wsgi.input"].read, 65536)
    start("200 OK", [("Content-Type", "text/plain")])
    return [result]


def watched(environ, start):
    """Piece by piece; says how it ends, and answers whatever happens."""
    record("begun", environ.get("CONTENT_LENGTH"))
    gate.wait("watched")
    total = 0
    try:
        while piece := environ["wsgi.input"].read(10):
            total += len(piece)
            record("read", total)
        record("end", total)
    except OSError as error:
        record("raised", type(error).__name__, error.errno)
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % total]


def lost(environ, start):
    """Does not expect that reading fails."""
    record("begun")
    environ["wsgi.input"].read()
    record("end")
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"lost"]


def answered(environ, start):
    """The head and a chunk first, then the body."""
    start("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    try:
        yield b"%d" % len(environ["wsgi.input"].read())
        record("end")
    except OSError as error:
        record("raised", type(error).__name__)
        raise


def echo(environ, start):
    """What has come goes out at once."""
    start("200 OK", [("Content-Type", "application/octet-stream")])
    while piece := environ["wsgi.input"].read1(65536):
        yield piece


def unread(environ, start):
    record("unread", environ["REQUEST_METHOD"])
    gate.wait("unread")
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"unread"]


def some(environ, start):
    """Ten bytes are enough."""
    got = environ["wsgi.input"].read(10)
    start("200 OK", [("Content-Type", "text/plain")])
    return [got]


def redirect(environ, start):
    start("200 OK", [("X-Accel-Redirect", environ["QUERY_STRING"])])
    return [b"never seen"]


def drained(environ, start):
    """Nothing is left of the body when another location gets the request."""
    record("begun")
    environ["wsgi.input"].read()
    return redirect(environ, start)


def missing(environ, start):
    start("404 Not Found", [("Content-Type", "text/plain")])
    return [b"never seen"]


def failing(environ, start):
    start("404 Not Found", [("Content-Type", "text/plain")])
    raise ValueError("before the body")


def report(environ, start):
    """What is left of the body for an application that gets the request from another one."""
    start("200 OK", [("Content-Type", "text/plain")])
    length, body = environ.get("CONTENT_LENGTH"), environ["wsgi.input"].read()
    return [f"{environ['REQUEST_METHOD']} {length} {body!r}".encode()]


def forked(environ, start):
    """A child cannot wait for what its parent's nginx reads."""
    pid = os.fork()
    if not pid:
        try:
            environ["wsgi.input"].read()
        except OSError:
            os._exit(7)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %d" % (status, len(environ["wsgi.input"].read()))]


def application(environ, start):
    return globals()[environ["PATH_INFO"].rsplit("/", 1)[1]](environ, start)
