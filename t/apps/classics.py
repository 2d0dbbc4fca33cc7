"""The classic small applications: what CPython's tests of wsgiref ask of a server, and more.

None of them records anything, so that test_parity.py can call them without a server, too.
"""

import sys

PLAIN = [("Content-Type", "text/plain; charset=utf-8")]


def greeting(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Date", "Mon, 05 Jun 2006 18:49:54 GMT")])
    return [b"Greetings, stranger!\n"]


class Counting:
    """An iterator of its own, without a length."""

    def __init__(self, count):
        self.left = count

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return b"%d to go\n" % self.left

    def close(self):
        self.left = None


def counting(environ, start_response):
    start_response("200 OK", PLAIN)
    return Counting(5)


class Instance:
    """A class as the application: calling it makes the iterable."""

    def __init__(self, environ, start_response):
        self.environ, self.start_response = environ, start_response

    def __iter__(self):
        self.start_response("203 By a class", PLAIN)
        yield b"an instance "
        yield self.environ["PATH_INFO"].encode("latin-1")


def environ_lines(environ, start_response):
    """What the request is made of, a line each."""
    wanted = ["REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL",
              "SERVER_NAME", "wsgi.url_scheme", "wsgi.version", "wsgi.run_once"]
    wanted += sorted(name for name in environ if name.startswith("HTTP_"))
    lines = [f"{name}={environ[name]}" for name in wanted]
    lines += [f"CONTENT_TYPE={environ.get('CONTENT_TYPE') or ''}"]
    start_response("200 OK", PLAIN)
    return ["\n".join(lines).encode("latin-1")]


def echo(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    type_ = environ.get("CONTENT_TYPE") or "application/octet-stream"
    start_response("200 OK", [("Content-Type", type_), ("Content-Length", str(len(body)))])
    return [body]


def written(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"written, ")
    write(b"")
    write(b"written again, ")
    return iter([b"returned"])


def generated(environ, start_response):
    start_response("200 OK", PLAIN)
    for number in range(100):
        yield b"%d\n" % number


def recovered(environ, start_response):
    """An error page of its own, in place of what it had begun."""
    start_response("200 OK", [("Content-Type", "text/html"), ("X-Begun", "1")])
    try:
        raise KeyError("on purpose")
    except KeyError:
        start_response("503 Sorry", [*PLAIN, ("Retry-After", "5")], sys.exc_info())
    return [b"sorry"]


def headers(environ, start_response):
    start_response("299 Many", [
        *PLAIN, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/"), ("X-Empty", ""),
        ("X-Latin", "\xe9\xff"), ("Vary", "Accept"), ("Vary", "Cookie"), ("x-lower", "b"),
        ("Cache-Control", "no-store"), ("Content-Language", "de"), ("Link", "<a>; rel=b"),
    ])
    return [b"many"]


def redirect(environ, start_response):
    start_response("302 Over there", [*PLAIN, ("Location", "/there?a=b#c")])
    return [b"over there"]


def nothing(environ, start_response):
    start_response("204 No Content", [("X-A", "b")])
    return []


def unmodified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"a"')])
    return []


def missing(environ, start_response):
    start_response("404 Nowhere", PLAIN)
    return (chunk for chunk in (b"", b"no", b"where", b""))


def binary(environ, start_response):
    body = bytes(range(256)) * 1000
    start_response("200 OK", [("Content-Type", "application/octet-stream"),
                              ("Content-Length", str(len(body)))])
    return [body[n : n + 777] for n in range(0, len(body), 777)]


def shifted(environ, start_response):
    """A part of the path moves to SCRIPT_NAME, as wsgiref.util does it."""
    from wsgiref.util import application_uri, request_uri, shift_path_info

    name = shift_path_info(environ)
    found = [name or "", environ["SCRIPT_NAME"], environ["PATH_INFO"], application_uri(environ),
             request_uri(environ)]
    start_response("200 OK", PLAIN)
    return [" ".join(found).encode("latin-1")]


APPLICATIONS = {
    function.__name__: function for function in (
        greeting, counting, Instance, environ_lines, echo, written, generated, recovered, headers,
        redirect, nothing, unmodified, missing, binary, shifted)
}
