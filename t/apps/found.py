"""What looking for a package that comes with the server imports: nothing."""

import importlib.util
import sys

FOUND = importlib.util.find_spec("nginx_wsgi") is not None
IMPORTED = [name for name in sys.modules if name.startswith("multiprocessing")]


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{FOUND} {IMPORTED}".encode()]
