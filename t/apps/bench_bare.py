"""Any application, and what a call of it costs in this process without a server.

A request with the field X-Bare-Seconds calls it in a loop for so long, on the thread and with the
environ of that request, and is answered with the number of calls and the thread's CPU time for
them. Any other request is answered by the application itself, the one that BENCH_TARGET names.
"""

import importlib
import io
import json
import os
import time

SOME = 20

module, name = os.environ["BENCH_TARGET"].split(":")
target = getattr(importlib.import_module(module), name)


def call(environ, content):
    """As a server does it: a file that is wrapped would be the server's to send."""
    environ = environ | {"wsgi.input": io.BytesIO(content)}
    result = target(environ, lambda *head: None)
    if not isinstance(result, environ["wsgi.file_wrapper"]):
        for _ in result:
            pass
    if hasattr(result, "close"):
        result.close()


def measure(environ, seconds):
    content = environ["wsgi.input"].read()
    for _ in range(SOME):
        call(environ, content)
    calls, begun, used = 0, time.monotonic(), time.thread_time_ns()
    while time.monotonic() - begun < seconds:
        for _ in range(SOME):
            call(environ, content)
        calls += SOME
    return {"calls": calls, "nanoseconds": time.thread_time_ns() - used}


def application(environ, start_response):
    seconds = environ.pop("HTTP_X_BARE_SECONDS", None)
    if seconds is None:
        return target(environ, start_response)
    body = json.dumps(measure(environ, float(seconds))).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
