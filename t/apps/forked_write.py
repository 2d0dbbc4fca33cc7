"""A forked child that goes on to answer: its write() must reach neither client nor any file."""

import os
import tempfile

from record import record


def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    pid = os.fork()
    if pid == 0:
        # These take the numbers of nginx's descriptors, which are closed in the child.
        files = [tempfile.TemporaryFile() for _ in range(60)]
        try:
            write(b"from the child")
            record("child wrote")
        except OSError as error:
            record("child", type(error).__name__)
        record("changed", sum(os.fstat(file.fileno()).st_size for file in files))
        os._exit(0)
    os.waitpid(pid, 0)
    return [b"from the worker"]
