"""Answers as the header X-Answer says (JSON), and says what it has seen of the request.

X-Seen of the answer is the CGI part of environ as JSON; the body is that of the request, with
size more bytes behind it, cut into chunks at the places of cuts (so that some are empty). The
same file is served by nginx and by wsgiref.
"""

import hashlib
import io
import json
import tempfile
from wsgiref.validate import validator

CGI = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE",
       "CONTENT_LENGTH", "SERVER_PROTOCOL", "REMOTE_ADDR")
closed = []


class Iterator:
    """An iterator object with close()."""

    def __init__(self, chunks):
        self.chunks = iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def close(self):
        closed.append("iterator")


def generate(chunks, before=None):
    try:
        if before:
            before()
        yield from chunks
    finally:
        closed.append("generator")


def read(environ, how):
    """The body, never asked for more than Content-Length: wsgiref would wait for it."""
    left, parts, source = int(environ.get("CONTENT_LENGTH") or 0), [], environ["wsgi.input"]
    while left:
        if how == "all":
            part = source.read(left)
        elif how == "lines":
            part = source.readline(left)
        else:
            part = source.read(min(left, how))
        assert part, "the body ends early"
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def seen(environ, body):
    names = [name for name in environ if name in CGI or name.startswith("HTTP_")]
    shown = {name: environ[name] for name in names if name != "HTTP_X_ANSWER"}
    shown["body"] = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    return json.dumps(shown)


def cut(body, cuts):
    places = sorted(place % (len(body) + 1) for place in cuts)
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


def in_file(body, file):
    file.write(body)
    file.seek(0)
    return file


def answer(environ, start_response):
    spec = json.loads(environ["HTTP_X_ANSWER"])
    body = read(environ, spec.get("read", "all"))
    headers = [tuple(field) for field in spec.get("headers", [])]
    headers.append(("X-Seen", seen(environ, body)))
    body += (bytes(range(256)) * (spec.get("size", 0) // 256 + 1))[: spec.get("size", 0)]
    if spec.get("length"):
        headers.append(("Content-Length", str(len(body))))
    chunks, kind = cut(body, spec.get("cuts", [])), spec.get("kind", "list")

    if spec.get("again"):
        start_response("599 Old", [("X-Old", "old"), ("Content-Type", "old/old")])
    exc_info = (ValueError, ValueError("again"), None) if spec.get("again") else None

    def start():
        args = (exc_info,) if exc_info else ()
        return start_response(spec.get("status", "200 OK"), headers, *args)

    if kind == "raise early":
        raise ValueError(kind)
    if kind == "late":
        return generate(chunks, start)
    write = start()
    if kind == "raise":
        raise ValueError(kind)
    if kind == "raise late":
        return (chunk if chunk else 1 / 0 for chunk in [*chunks, b""])
    if kind == "bytes":
        return body
    if kind in ("write", "write and list"):
        while chunks and (kind == "write" or len(chunks) > 1):
            write(chunks.pop(0))
        return chunks
    if kind == "file object":
        return environ["wsgi.file_wrapper"](in_file(body, io.BytesIO()), 1000)
    if kind == "file":
        return environ["wsgi.file_wrapper"](in_file(body, tempfile.TemporaryFile()))
    kinds = {"tuple": tuple, "generator": generate, "iterator": Iterator, "map": iter}
    return kinds.get(kind, list)(chunks)


validated = validator(answer)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/closed":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(sorted(closed)).encode()]
    spec = json.loads(environ["HTTP_X_ANSWER"])
    app = validated if spec.get("valid") else answer
    return app(environ, start_response)
