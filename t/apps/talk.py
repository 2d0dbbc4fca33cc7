"""Writes to wsgi.errors, stdout, stderr in the ways the path names."""

import io
import logging
import os
import sys
import threading
import traceback
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


def deep(environ, text, depth=30):
    """A traceback of many lines, at the same time as other threads."""
    if depth:
        deep(environ, text, depth - 1) if depth % 2 else deep(environ, text, depth=depth - 1)
    gate.wait("raised")
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


def own_buffer(environ, text):
    """All that a text stream has beside write()."""
    errors = environ["wsgi.errors"]
    errors.buffer.write(memoryview(text.encode()))
    errors.buffer.writelines([b" and", bytearray(b" more\n")])
    errors.flush()
    print(errors.writable(), errors.readable(), errors.isatty(), errors.closed, errors.encoding,
          file=errors)


def wrong(environ, text):
    """What a text stream does not take."""
    for bad in (b"bytes", None, 5, [b"bytes"]):
        for method in ("write", "writelines"):
            try:
                getattr(environ["wsgi.errors"], method)(bad)
            except TypeError:
                environ["wsgi.errors"].write("TypeError ")


def numbered(environ, text):
    """A descriptor, if there is one, is that of the error log: never of nginx's sockets."""
    try:
        os.write(environ["wsgi.errors"].fileno(), b"")
        environ["wsgi.errors"].write("valid")
    except (AttributeError, io.UnsupportedOperation):
        environ["wsgi.errors"].write("absent")


def shared(environ, text):
    """Threads that write lines to the stream of one request, at the same time."""
    errors, barrier = environ["wsgi.errors"], threading.Barrier(8)

    def work(number):
        barrier.wait()
        for count in range(20):
            errors.write(f"{text} {number} {count} {'.' * 200}\n")

    started = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def handled(environ, text):
    """logging and tracebacks to the stream of the request."""
    handler = logging.StreamHandler(environ["wsgi.errors"])
    logger = logging.Logger("own")
    logger.addHandler(handler)
    try:
        raise KeyError(text)
    except KeyError:
        logger.exception("caught")
        traceback.print_exc(file=environ["wsgi.errors"])


def keep(environ, text):
    saved.append(environ["wsgi.errors"])


def late(environ, text):
    saved.pop().write(text + "\n")


def left(environ, text):
    thread = threading.Thread(target=sys.stdout.write, args=(text,))
    thread.start()
    thread.join()


def begun(environ, text):
    def begin():
        sys.stderr.write(text)
        record("begun")
        threading.Event().wait()

    threading.Thread(target=begin, daemon=True).start()


def named(environ, text):
    with open(f"/proc/self/task/{threading.get_native_id()}/comm") as file:
        print("named", threading.current_thread().name, file.read().strip())


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
