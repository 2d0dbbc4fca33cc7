"""Bodies whose content is known, in chunks of any size, by each way there is.

The query: how (generator, list, write, wrapper), n chunks of size bytes, gate (to wait at before
the last chunk), h=Name:value.
"""

import random
from urllib.parse import parse_qsl

import gate
from record import record

BLOCK = random.Random(1).randbytes(1 << 20)


def chunk(number, size):
    return (b"%015d\n" % number + BLOCK[16:size])[:size]


class Reader:
    """No file, but with a read() that wsgi.file_wrapper can ask."""

    def __init__(self, chunks):
        self.chunks = chunks

    def read(self, size):
        return next(self.chunks, b"")


def chunks(environ, n, size, name):
    sent = 0
    try:
        for number in range(n):
            if name and number == n - 1:
                gate.wait(name)
            sent += 1
            yield chunk(number, size)
    finally:
        record("done" if sent == n else "stopped", environ["REMOTE_PORT"])


def application(environ, start_response):
    query = parse_qsl(environ["QUERY_STRING"])
    options = dict(query)
    headers = [tuple(value.split(":", 1)) for key, value in query if key == "h"]
    write = start_response("200 OK", [("Content-Type", "text/html"), *headers])
    n, size = int(options["n"]), int(options["size"])
    how = options.get("how", "generator")
    if how == "list":
        # One object many times: a list of others would be in memory before it is sent.
        return [chunk(0, size)] * n
    body = chunks(environ, n, size, options.get("gate"))
    if how == "generator":
        return body
    if how == "wrapper":
        return environ["wsgi.file_wrapper"](Reader(body))
    for item in body:
        write(item)
    return []


def counting(environ, start_response):
    """As the generator, with a line for each chunk."""
    options = dict(parse_qsl(environ["QUERY_STRING"]))
    headers = [("X-Accel-Buffering", options["accel"])] if "accel" in options else []
    start_response("200 OK", [("Content-Type", "text/plain"), *headers])
    for number in range(int(options["n"])):
        record("produced", number)
        yield chunk(number, int(options["size"]))


def bursts(environ, start_response):
    """Two bursts, the second when a gate is opened."""
    start_response("200 OK", [("Content-Type", "text/html")])
    for number in range(40):
        if number == 16:
            record("first")
            gate.wait("second")
        yield chunk(number, 16384)


def word(environ, start_response):
    """Faster than the client with two chunks, then another when a gate is opened, and silence."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield chunk(0, int(environ["QUERY_STRING"]))
    yield chunk(1, 4096)
    record("spooled")
    gate.wait("word")
    yield b"word"
    record("said")
    gate.wait("end")
