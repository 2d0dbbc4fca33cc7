"""Forks while it is imported; the child comes back from the import."""

import os

child = os.fork()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(child).encode()]
