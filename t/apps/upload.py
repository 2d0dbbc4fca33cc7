"""Reads the body in pieces and answers with its size and its SHA-256."""

import hashlib
import os
from wsgiref.validate import validator

from record import record


@validator
def application(environ, start_response):
    record("called", environ.get("CONTENT_LENGTH"))
    size, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
        digest.update(piece)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [f"{size} {digest.hexdigest()}".encode()]
