"""An iterable that the validator watches: it complains when close() is not called."""

from wsgiref.validate import validator


class Body(list):
    def close(self):
        self.clear()


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body([b"one", b"two"])
