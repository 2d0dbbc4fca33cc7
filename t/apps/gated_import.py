"""Its import waits until the gate 'import' opens."""

import gate
from record import record

record("importing")
gate.wait("import")
record("imported")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"imported at last"]
