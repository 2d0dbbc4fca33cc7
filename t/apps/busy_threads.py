"""Daemon threads that are deep in a C library when the worker ends."""

import ssl
import threading

from record import record


def work(ready):
    while True:
        ssl.create_default_context()
        ready.set()


def application(environ, start_response):
    for _ in range(3):
        ready = threading.Event()
        threading.Thread(target=work, args=(ready,), daemon=True).start()
        ready.wait()
    record("busy")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"busy"]
