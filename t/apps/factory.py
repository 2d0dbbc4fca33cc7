"""Applications in all the shapes that wsgi_app can name."""

from record import record


def make():
    record("made")

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"made by a factory"]

    return app


class Site:
    """A callable object, and callables within it."""

    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"an object"]

    def method(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"a method"]


application = Site()
inner = application.method
number = 5


def fails():
    raise ValueError("the factory fails")


def gives_nothing():
    return None
