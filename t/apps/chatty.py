"""Sends a chunk every 100 ms, ten times or as the query says: busy, never silent for long."""

import threading


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(int(environ["QUERY_STRING"] or 10)):
        yield b"chunk "
        threading.Event().wait(0.1)
