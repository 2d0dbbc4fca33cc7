"""Ways to end the worker, or to try."""

import ctypes
import errno
import json
import os
import re
import resource


def os_exit(environ):
    os._exit(int(environ["QUERY_STRING"]))


def c_exit(environ):
    """What a scanner made by flex does on a fatal error."""
    ctypes.CDLL(None).exit(int(environ["QUERY_STRING"]))


def file_limit(environ):
    """A file that grows over RLIMIT_FSIZE."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(os.environ["EVENTS"] + ".limited", "wb", 0) as file:
        file.seek(1 << 30)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, limits[1]))
        try:
            file.write(b"x")
        except OSError as error:
            return errno.errorcode[error.errno]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return "written"


def segfault(environ):
    ctypes.string_at(0)


def abort(environ):
    os.abort()


def recursion(environ):
    def deeper(n):
        return deeper(n + 1)

    try:
        deeper(0)
    except RecursionError:
        return "RecursionError"


def nested_json(environ):
    try:
        json.loads("[" * 100_000)
    except RecursionError:
        return "RecursionError"


def nested_repr(environ):
    value = []
    for _ in range(100_000):
        value = [value]
    try:
        repr(value)
    except RecursionError:
        return "RecursionError"


def backtracking(environ):
    return str(re.match("(?:a|b|(?:c))*d", "abc" * 100_000))


def hold_the_gil(environ):
    """A C function called without letting the GIL go."""
    from gate import wait_with_gil

    wait_with_gil("gil")
    return "held"


def memory(environ):
    try:
        bytearray(1 << 60)
    except MemoryError:
        return "MemoryError"


def application(environ, start_response):
    text = globals()[environ["PATH_INFO"].rsplit("/", 1)[1]](environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
