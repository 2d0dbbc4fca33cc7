"""Waits for a gate, then answers /KIND/GATE with the query string, in head and body."""

import gate
from record import record


def application(environ, start_response):
    kind, name = environ["PATH_INFO"].split("/")[-2:]
    tag = environ["QUERY_STRING"]
    try:
        gate.wait(name)
        if kind == "error":
            raise ValueError(tag)
        headers = [("Content-Type", tag), ("X-Tag", tag)]
        if kind == "length":
            headers.append(("Content-Length", str(len(tag))))
        write = start_response("200 OK", headers)
        if kind == "write":
            write(tag.encode())
            return []
        if kind == "generator":
            return (bytes([byte]) for byte in tag.encode())
        return [tag.encode()]
    finally:
        record("returned", tag)
