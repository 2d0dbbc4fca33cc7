"""Writes to wsgi.errors, stdout, stderr in the ways the path names."""

import logging
import sys
import threading
import warnings
from urllib.parse import unquote

import gate
from record import record

logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
saved = []


def write(environ, text):
    environ["wsgi.errors"].write(text)


def writelines(environ, text):
    environ["wsgi.errors"].writelines([text, text])


def printed(environ, text):
    print(text)


def to_stderr(environ, text):
    print(text, file=sys.stderr)


def warned(environ, text):
    warnings.warn(text, stacklevel=1)


def logged(environ, text):
    logging.getLogger("shop").error(text)


def buffered(environ, text):
    sys.stderr.buffer.write(memoryview(text.encode("utf-8", "surrogateescape") + b"\n"))
    sys.stderr.flush()


def in_pieces(environ, text):
    for letter in text:
        environ["wsgi.errors"].write(letter)
    environ["wsgi.errors"].write("|end\n")


def raised(environ, text):
    raise ValueError(text)


def chained(environ, text):
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError(text) from error


def many(environ, text):
    """Fifty lines in several writes each, at the same time as other threads."""
    gate.wait("many")
    for number in range(50):
        environ["wsgi.errors"].write(f"{text} line ")
        environ["wsgi.errors"].write(f"{number} ")
        environ["wsgi.errors"].write("." * 100 + "\n")


def much(environ, text):
    """4 MB in forty writes."""
    for number in range(40):
        environ["wsgi.errors"].write(("x" * 999 + "\n") * 100)
        record("wrote", number)


def threads(environ, text):
    """A thread of the application's own, which belongs to no request."""
    started = [threading.Thread(target=print, args=(f"{text} {n}",)) for n in range(10)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def keep(environ, text):
    saved.append(environ["wsgi.errors"])


def late(environ, text):
    saved.pop().write(text + "\n")


def nothing(environ, text):
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].flush()
    sys.stdout.flush()


def application(environ, start_response):
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    text = eval(unquote(environ["QUERY_STRING"]) or "''")
    globals()[name](environ, text)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"said"]
