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
    """Asks on one keep-alive connection; aborts on others."""

    def __init__(self, address, number):
        self.address = address
        self.name = f"client-{number}"
        self.random = random.Random(number)
        self.connection = None
        self.serial = 0
        self.retried = 0

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
        began = time.monotonic()
        try:
            self.connection.request(method, path, body, headers or {})
            return self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.close()
            if not kept or time.monotonic() - began > 0.1:
                raise
        self.retried += 1
        return self.respond(method, path, body, headers)

    def fetch(self, method, path, body=None, headers=None, status=200):
        response = self.respond(method, path, body, headers)
        content = response.read()
        if response.status != status:
            raise Wrong(f"{path}: status {response.status}, not {status}")
        return content

    @contextlib.contextmanager
    def raw(self):
        """A connection that is reset, or in half the cases closed, at the end."""
        with socket.create_connection(self.address, timeout=TIMEOUT) as sock:
            yield sock
            if self.random.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_closed(sock):
    """True if the server has closed the connection (or nonsense is waiting to be read)."""
    return sock is None or bool(select.select([sock], [], [], 0)[0])
