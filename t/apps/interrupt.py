"""Imports nothing that imports signal."""

import _thread


def application(environ, start_response):
    try:
        _thread.interrupt_main()
        text = b"no exception"
    except BaseException as error:
        text = type(error).__name__.encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text]
