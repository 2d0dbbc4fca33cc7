"""An application of t/apps in a process of its own, under wsgiref: HTTP, or the uwsgi protocol."""

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

SERVE_UWSGI = """
import importlib, socketserver, struct, sys
from wsgiref.handlers import SimpleHandler

sys.path.insert(0, sys.argv[1])
application = importlib.import_module(sys.argv[2]).application

def strings(block):
    while block:
        (size,) = struct.unpack_from("<H", block)
        yield block[2:2 + size].decode("latin-1")
        block = block[2 + size:]

class Answer(SimpleHandler):
    def send_preamble(self):  # without a Date and a Server of its own, as uWSGI
        self._write(f"HTTP/1.1 {self.status}\\r\\n".encode("latin-1"))

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        _, size, _ = struct.unpack("<BHB", self.rfile.read(4))
        vars = strings(self.rfile.read(size))
        environ = {"SERVER_PROTOCOL": "HTTP/1.1"} | dict(zip(vars, vars))
        Answer(self.rfile, self.wfile, sys.stderr, environ).run(application)

with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


class Reference:
    """With the interpreter that runs the tests: the one the module was built for."""

    serve = SERVE

    def __init__(self, module, **environ):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.serve, os.path.join(HERE, "apps"), module],
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


class UwsgiReference(Reference):
    """For uwsgi_pass; it cannot be asked without nginx."""

    serve = SERVE_UWSGI
