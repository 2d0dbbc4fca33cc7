"""An application of t/apps under wsgiref.simple_server, in a process of its own."""

import os
import subprocess
import sys
import tempfile

from . import http
from .config import HERE

SERVE = """
import importlib, sys
from wsgiref.simple_server import make_server

sys.path.insert(0, sys.argv[1])
application = importlib.import_module(sys.argv[2]).application
with make_server("127.0.0.1", 0, application) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""


class Reference:
    """With the interpreter that runs the tests: the one the module was built for."""

    def __init__(self, module, **environ):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, os.path.join(HERE, "apps"), module],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
            env=os.environ | environ,
        )
        line = self.process.stdout.readline()
        assert line, f"wsgiref did not start\n{self.trouble()}"
        self.port = int(line)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()
        self.errors.close()

    def trouble(self):
        self.errors.seek(0)
        return self.errors.read().decode("latin-1")[-3000:]

    def ask(self, method, data):
        """The answer to the bytes of one request; wsgiref closes after each."""
        with http.Connection(self.port) as client:
            client.send(data)
            response = client.read_response(method)
            # What wsgiref sends after the end of an answer, as to HEAD, is kept in rest.
            response.rest = client.read_to_end()[0]
            return response
