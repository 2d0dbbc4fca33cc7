"""The application of scripts/soak: one path a behaviour, answers that the client can check.

Each iterable it returns counts its opening and its closing; the totals of a worker go to the log
when Python leaves, where scripts/soak finds them.
"""

import atexit
import hashlib
import itertools
import os
import tempfile
import threading
import time
from urllib.parse import parse_qsl

CHUNK = bytes(range(256)) * 16
FILE_SIZE = 300_000

_lock = threading.Lock()
_counts = {"opened": 0, "closed": 0, "twice": 0}
_file = tempfile.TemporaryFile()
_file.write((CHUNK * (FILE_SIZE // len(CHUNK) + 1))[:FILE_SIZE])
_file.flush()


class Counted:
    """An iterable of chunks with a close() that is counted."""

    def __init__(self, chunks):
        self.chunks = iter(chunks)
        self.closes = 0
        with _lock:
            _counts["opened"] += 1

    def __iter__(self):
        return self.chunks

    def close(self):
        self.closes += 1
        with _lock:
            _counts["closed" if self.closes == 1 else "twice"] += 1


def totals():
    print("soak totals pid={} {}".format(
        os.getpid(), " ".join(f"{name}={count}" for name, count in _counts.items())
    ))


atexit.register(totals)


def small(environ, start, query):
    """The query string back: an answer that went to the wrong request would show."""
    body = environ["QUERY_STRING"].encode("latin-1")
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return Counted([body])


def echo(environ, start, query):
    """Length and SHA-256 of the body."""
    digest, size = hashlib.sha256(), 0
    while chunk := environ["wsgi.input"].read(65536):
        digest.update(chunk)
        size += len(chunk)
    start("200 OK", [("Content-Type", "text/plain")])
    return Counted([f"{size} {digest.hexdigest()}".encode()])


def stream(environ, start, query):
    """So many chunks, without a Content-Length."""
    start("200 OK", [("Content-Type", "application/octet-stream")])
    return Counted(CHUNK for _ in range(int(query["chunks"])))


def endless(environ, start, query):
    start("200 OK", [("Content-Type", "application/octet-stream")])
    return Counted(itertools.repeat(CHUNK * 8))


def large(environ, start, query):
    start("200 OK", [("Content-Type", "application/octet-stream")])
    return [CHUNK * 256]


def file(environ, start, query):
    start("200 OK", [("Content-Type", "application/octet-stream"),
                     ("Content-Length", str(FILE_SIZE))])
    copy = os.fdopen(os.open(f"/proc/self/fd/{_file.fileno()}", os.O_RDONLY), "rb")
    return environ["wsgi.file_wrapper"](copy, 65536)


def written(environ, start, query):
    write = start("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    return Counted([environ["QUERY_STRING"].encode("latin-1")])


def error(environ, start, query):
    raise RuntimeError("an error before the head, on purpose")


def late_error(environ, start, query):
    start("200 OK", [("Content-Type", "application/octet-stream")])

    def chunks():
        yield CHUNK
        raise RuntimeError("an error after the head, on purpose")

    return Counted(chunks())


def sleep(environ, start, query):
    time.sleep(float(query["seconds"]))
    start("200 OK", [("Content-Type", "text/plain")])
    return Counted([b"slept"])


PATHS = {
    "/" + function.__name__: function
    for function in (small, echo, stream, endless, large, file, written, error, late_error, sleep)
}


def application(environ, start_response):
    function = PATHS[environ["PATH_INFO"]]
    return function(environ, start_response, dict(parse_qsl(environ["QUERY_STRING"])))
