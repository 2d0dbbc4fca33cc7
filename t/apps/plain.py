"""The smallest well-behaved application."""

import os
from wsgiref.validate import validator

from record import record


@validator
def application(environ, start_response):
    record("plain", environ["REQUEST_URI"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [b"plain"]
