"""Tells what it was called with and where it runs, for test_uwsgi2nginx.py."""

import json
import os
import sys


def tell(name):
    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        told = {
            "application": name,
            "environ": {key: value for key, value in environ.items() if isinstance(value, str)},
            "os.environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "body": len(body),
            "multithread": environ["wsgi.multithread"],
            "multiprocess": environ["wsgi.multiprocess"],
        }
        start_response("200 OK", [("Content-Type", "application/json"), ("X-Powered-By", "told")])
        return [json.dumps(told).encode("ascii")]

    return application


application = tell("application")
other = tell("other")


def make():
    return tell("made")
