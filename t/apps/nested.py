"""Pages that include each other, and answers of any size: for subrequests."""

import gate
from record import record


def page(environ, start_response):
    """A page larger than any window that includes a part of an application in front."""
    start_response("200 OK", [("Content-Type", "text/html")])
    yield b'<!--# include virtual="/part" -->'
    for _ in range(20):
        yield b"x" * 20_000


def part(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"part"]


def host(environ, start_response):
    """Which host this request is for, to those who have asked for leave as well."""
    host = environ["HTTP_HOST"]
    start_response("200 OK", [("Content-Type", "text/html"), ("X-Host", host)])
    return [b'<!--# include virtual="/included" -->' if environ["PATH_INFO"] == "/host" else b"",
            host.encode()]


def big(environ, start_response):
    """QUERY_STRING chunks of 64 KiB, as a part of another page."""
    start_response("200 OK", [("Content-Type", "text/html")])
    for count in range(int(environ["QUERY_STRING"])):
        yield b"%07d\n" % count * 8192


def hit(environ, start_response):
    record("began")
    gate.wait("hit")
    record("done")
    start_response("200 OK", [])
    return [b""]


def acted(environ, start_response):
    record("acted")
    start_response("200 OK", [])
    return [b""]


def broken(environ, start_response):
    record("broken")
    raise ValueError("broken on purpose")


def cut(environ, start_response):
    """Fails after its first chunk."""
    start_response("200 OK", [("Content-Type", "text/html")])
    yield b"first"
    raise ValueError("cut on purpose")
