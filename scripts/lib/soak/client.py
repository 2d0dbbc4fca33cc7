"""One client of the load: how it asks and how it goes away."""

import contextlib
import http.client
import random
import select
import socket
import struct
import time

from soak import TIMEOUT


class Wrong(Exception):
    """An answer that is not what the request asks for."""


class Client:
    """Asks on one keep-alive connection; aborts on others.

    Where workers die (curious) each connection is first asked for the worker that has accepted it.
    """

    def __init__(self, address, number, curious=False):
        self.address = address
        self.curious = curious
        self.name = f"client-{number}"
        self.random = random.Random(number)
        self.connection = None
        self.serial = 0
        self.retried = 0
        self.worker = None
        # All that were answered, and those of the requests of the present kind.
        self.answered = []
        self.begin()

    def begin(self):
        """A request of the next kind."""
        self.ids = []
        self.workers = [self.worker] if self.connection else []

    def request_id(self):
        self.ids.append(f"{self.name}-{self.serial}-{self.random.randrange(1 << 60):x}")
        return self.ids[-1]

    def connect(self):
        end = time.monotonic() + TIMEOUT
        while True:
            sock = socket.create_connection(self.address, timeout=TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self.curious:
                return sock
            try:
                sock.sendall(b"GET /worker HTTP/1.1\r\nHost: localhost\r\n\r\n")
                response = http.client.HTTPResponse(sock)
                response.begin()
                self.workers.append(int(response.read()))
                return sock
            except (OSError, http.client.HTTPException):
                # It has accepted the connection and died.
                sock.close()
                if time.monotonic() > end:
                    raise

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def tag(self):
        self.serial += 1
        return f"{self.name}-{self.serial}"

    def respond(self, method, path, body=None, headers=None):
        """The response, its body unread. One request in four has a connection of its own, where
        nothing may go wrong. A kept connection may be closed by nginx (a reload does that) just
        as the next request is sent: that one, and only if it ends at once, is sent again."""
        if self.connection and (self.random.random() < 0.25 or is_closed(self.connection.sock)):
            self.close()
        kept = self.connection is not None
        if not kept:
            self.connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT)
            self.connection.sock = self.connect()
            self.worker = self.workers[-1] if self.curious else None
        began = time.monotonic()
        try:
            self.connection.request(method, path, body,
                                    {"X-Request-Id": self.request_id(), **(headers or {})})
            return self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.close()
            if not kept or self.curious or time.monotonic() - began > 0.1:
                raise
        self.retried += 1
        return self.respond(method, path, body, headers)

    def fetch(self, method, path, body=None, headers=None, status=200):
        response = self.respond(method, path, body, headers)
        content = response.read()
        if response.status != status:
            raise Wrong(f"{path}: status {response.status}, not {status}")
        if self.curious and path != "/static":
            self.answered.append(self.ids[-1])
        return content

    def head(self, request, *fields):
        """A request for raw()."""
        lines = [request, "Host: localhost", f"X-Request-Id: {self.request_id()}", *fields]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()

    @contextlib.contextmanager
    def raw(self):
        """A connection that is reset, or in half the cases closed, at the end."""
        with self.connect() as sock:
            yield sock
            if self.random.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_closed(sock):
    """True if the server has closed the connection (or nonsense is waiting to be read)."""
    return sock is None or bool(select.select([sock], [], [], 0)[0])
