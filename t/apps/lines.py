"""Goes through the body line by line, in the ways that the validator knows."""

from wsgiref.validate import validator


@validator
def application(environ, start_response):
    body = environ["wsgi.input"]
    found = [body.readline(), body.read(1), body.readlines(), list(body), body.read(10)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(found).encode()]
