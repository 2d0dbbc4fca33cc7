"""Pages for nginx's filters and subrequests; the path decides."""

from wsgiref.validate import validator

from record import record

TEXT = b"<html><head></head><body>hello, a page of some length</body></html>\n" * 40
SSI = b'<a><!--# include virtual="/part?n=1" --><b><!--# include virtual="/part?n=2" --></b></a>'


def part(environ):
    return "200 OK", [("Content-Type", "text/html")], [b"[part %s %s]" % (
        environ["QUERY_STRING"].encode(), environ["REQUEST_METHOD"].encode())]


def auth(environ):
    user = environ.get("HTTP_X_USER")
    if user == "broken":
        raise ValueError("auth broken")
    status = {"ann": "204 No Content", None: "401 Unauthorized"}.get(user, "403 Forbidden")
    headers = [("X-Auth", user or "none")]
    if status.startswith("401"):
        headers.append(("WWW-Authenticate", 'Basic realm="app"'))
    return status, headers, []


def page(environ):
    return "200 OK", [("Content-Type", "text/html")], [TEXT]


def stream(environ):
    return "200 OK", [("Content-Type", "text/html")], (TEXT for _ in range(3))


def encoded(environ):
    return "200 OK", [("Content-Type", "text/html"), ("Content-Encoding", "br")], [TEXT]


def sized(environ):
    headers = [("Content-Type", "text/html"), ("Content-Length", str(len(TEXT))), ("ETag", '"e"'),
               ("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT")]
    return "200 OK", headers, [TEXT]


def ranged(environ):
    return "200 OK", [("Content-Type", "text/html"), ("Accept-Ranges", "bytes")], [TEXT]


def expired(environ):
    headers = [("Content-Type", "text/html"), ("Expires", "Thu, 01 Jan 2015 00:00:00 GMT")]
    return "200 OK", headers, [TEXT]


def missing(environ):
    return "404 Not Found", [("Content-Type", "text/html")], [b"the application's own 404"]


def fails(environ):
    raise ValueError("fails")


def error(environ):
    return "200 OK", [("Content-Type", "text/html")], [
        b"error page for " + environ["REQUEST_URI"].encode() + b" "
        + environ["REQUEST_METHOD"].encode()]


def ssi(environ):
    return "200 OK", [("Content-Type", "text/html")], [SSI]


@validator
def application(environ, start_response):
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    record("page", name)
    status, headers, body = PAGES.get(name, error)(environ)
    if status.startswith(("204", "401", "403")):
        # The validator wants a type with every body that may be there.
        headers = headers + ([] if status.startswith("204") else [("Content-Type", "text/plain")])
    start_response(status, headers)
    return body


PAGES = {function.__name__: function for function in (
    part, auth, page, stream, encoded, sized, ranged, expired, missing, fails, error, ssi)}
