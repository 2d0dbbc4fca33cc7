"""A client for WebSockets with short texts, of the standard library alone."""

import base64
import os
import socket


class Failed(OSError):
    """The server does not speak as it should."""


def frame(payload, opcode=1):
    """A whole message of less than 64k, masked."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return bytes([0x80 | opcode]) + length + mask + masked


class WebSocket:
    """An open one; closed without a word at the end of the block."""

    def __init__(self, host, port, path, timeout):
        self.socket = socket.create_connection((host, port), timeout)
        self.stream = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        status = self.stream.readline().decode("latin-1").strip()
        if not status.startswith("HTTP/1.1 101 "):
            raise Failed(f"{path}: {status or 'no answer'}, not 101")
        while self.stream.readline().strip():
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stream.close()
        self.socket.close()

    def say(self, text):
        self.socket.sendall(frame(text.encode()))

    def hear(self):
        """The next text."""
        first, size = self.exactly(2)
        if size > 125:
            size = int.from_bytes(self.exactly(2 if size == 126 else 8))
        payload = self.exactly(size)
        if first != 0x81:
            raise Failed(f"a frame that is no whole text: {first:#x} {payload[:80]!r}")
        return payload.decode()

    def exactly(self, size):
        data = self.stream.read(size)
        if len(data) < size:
            raise Failed("the connection was closed")
        return data
