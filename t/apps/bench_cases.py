"""The applications of scripts/bench: as little Python as the case needs.

python bench_cases.py MODULE:CALLABLE PATH <BODY writes the answer of any application to stdout:
what each server has to send.
"""

import os
import time

MIB = 1 << 20
HELLO = b"Hello, World!"
LARGE = bytes(range(256)) * (MIB // 256)
CHUNK = bytes(range(256)) * 4
CHUNKS = 100


def head(length):
    return [("Content-Type", "text/plain"), ("Content-Length", str(length))]


def hello(environ, start_response):
    start_response("200 OK", head(len(HELLO)))
    return [HELLO]


def echo(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", head(len(body)))
    return [body]


def body(environ, start_response):
    start_response("200 OK", head(len(LARGE)))
    return [LARGE]


def file(environ, start_response):
    content = open(os.environ["BENCH_FILE"], "rb")
    start_response("200 OK", head(MIB))
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](content, 65536)
    return iter(lambda: content.read(65536), b"")


def sleep(environ, start_response):
    time.sleep(0.02)
    return hello(environ, start_response)


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(CHUNKS):
        yield CHUNK


def main(target, path):
    """Calls the application as a server does, without one."""
    content = sys.stdin.buffer.read()
    environ = {
        "REQUEST_METHOD": "POST" if content else "GET",
        "PATH_INFO": path,
        "QUERY_STRING": os.environ.get("QUERY_STRING", ""),
        "HTTP_HOST": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(content),
    }
    if content:
        environ["CONTENT_LENGTH"] = str(len(content))
    setup_testing_defaults(environ)
    module, name = target.split(":")
    result = getattr(importlib.import_module(module), name)(environ, lambda *head: None)
    for chunk in result:
        sys.stdout.buffer.write(chunk)
    if hasattr(result, "close"):
        result.close()


if __name__ == "__main__":
    import importlib
    import io
    import sys
    from wsgiref.util import setup_testing_defaults

    main(*sys.argv[1:])
