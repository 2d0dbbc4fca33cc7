"""A barrier of requests in any threads and processes: each waits until all are here."""

import os
import time
from urllib.parse import parse_qsl

LONGEST = 10


def application(environ, start_response):
    """The query: name of the meeting, and how many come."""
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path = os.path.join(os.environ["GATES"], query["name"])
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, b".")
    end = time.monotonic() + LONGEST
    while (here := os.fstat(file).st_size) < int(query["count"]) and time.monotonic() < end:
        time.sleep(0.005)
    os.close(file)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{here} {os.getpid()}".encode()]
