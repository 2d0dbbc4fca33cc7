"""Shows environ without what differs from call to call, os.environ, and the loaded modules."""

import json
import os
import sys

CHANGING = ("REMOTE_PORT", "wsgi.input", "wsgi.errors", "wsgi.file_wrapper")


def application(environ, start_response):
    found = {
        "environ": {k: repr(v) for k, v in environ.items() if k not in CHANGING},
        "os.environ": dict(os.environ),
        "modules": sorted(sys.modules),
        "path": sys.path,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
