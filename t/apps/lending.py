"""Large bytes whose end is recorded, with the thread it comes on."""

import threading
from urllib.parse import parse_qs

import gate
from record import record


class Recorded(bytes):
    def __del__(self):
        record("freed", len(self), threading.get_native_id())


SHARED = b"abcd" * 262_144


def shared(environ, start_response):
    """The same object each time."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=one")])
    return [SHARED]


def application(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    size = int(query["size"])
    headers = [("Content-Type", "text/plain")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    write = start_response("200 OK", headers)
    if query["how"] == "list":
        return [Recorded(b"abcd" * (size // 4))]
    if query["how"] == "write":
        write(Recorded(b"abcd" * (size // 4)))
        return []
    return generate(size, query.get("gate"))


def generate(size, name):
    yield Recorded(b"abcd" * (size // 4))
    if name:
        gate.wait(name)
    yield Recorded(b"efgh" * (size // 4))
