"""Records the clean end of the interpreter."""

import atexit
import os

from record import record

atexit.register(record, "atexit", os.getpid())
record("imported", os.getpid())


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
