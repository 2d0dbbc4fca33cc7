"""Answers for nginx's filters: validators, charsets, encodings, pieces; the path decides."""

import gzip

from record import record

DATE = "Thu, 01 Jan 2015 00:00:00 GMT"
HTML = [("Content-Type", "text/html")]
BODY = b"<p>some text</p>\n" * 200


def plain(environ):
    return "200 OK", HTML, [BODY]


def dated(environ):
    return "200 OK", [*HTML, ("Last-Modified", DATE)], [BODY]


def tagged(environ):
    return "200 OK", [*HTML, ("ETag", '"one"')], [BODY]


def weak(environ):
    return "200 OK", [*HTML, ("ETag", 'W/"one"')], [BODY]


def both(environ):
    """As a stream: what a filter answers, the rest of it is not asked for."""
    headers = [*HTML, ("Last-Modified", DATE), ("ETag", '"one"'), ("Content-Length", "3400")]
    return "200 OK", headers, (BODY[n : n + 100] for n in range(0, len(BODY), 100))


def posted(environ):
    """Not a 200: nothing is conditional about it."""
    return "201 Created", [*HTML, ("Last-Modified", DATE), ("ETag", '"one"')], [BODY]


def pieces(environ):
    """The word hello, cut everywhere, and across chunks."""
    return "200 OK", HTML, (bytes([byte]) for byte in b"say hello and hello again, hel")


def zipped(environ):
    headers = [*HTML, ("Content-Encoding", "gzip"), ("ETag", '"one"')]
    return "200 OK", headers, [gzip.compress(BODY)]


def russian(environ):
    headers = [("Content-Type", "text/html; charset=koi8-r")]
    return "200 OK", headers, ["да нет".encode("koi8-r")]


def bare_russian(environ):
    return "200 OK", HTML, (part.encode("koi8-r") for part in ("да", " н", "ет"))


def binary(environ):
    return "200 OK", [("Content-Type", "image/png")], [b"\xff\xfe"]


def missing(environ):
    return "404 Not Found", HTML, [b"missing"]


def echo(environ):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    record("echo", environ["REQUEST_METHOD"], environ.get("HTTP_X_NAME", "-"), len(body))
    return "200 OK", [("Content-Type", "text/plain")], [body]


def fails(environ):
    record("fails")
    raise ValueError("fails")


def granted(environ):
    """For auth_request: says who it is, and keeps nginx from the rest of a long answer."""
    name = environ.get("HTTP_X_NAME")
    status = "200 OK" if name else "403 Forbidden"
    return status, [*HTML, ("X-Granted", name or "none")], (b"unseen" for _ in range(1000))


def application(environ, start_response):
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    record("filtered", name)
    status, headers, body = globals()[name](environ)
    start_response(status, headers)
    return body
