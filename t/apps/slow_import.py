"""Takes its time to import, as a real project does."""

import os
import threading

from record import record

record("importing", os.getpid())
threading.Event().wait(float(os.environ.get("IMPORT_TAKES", "1")))
record("imported", os.getpid())


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
