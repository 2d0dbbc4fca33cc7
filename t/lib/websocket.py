"""A WebSocket client that says exactly what it is told to, for what no library would send."""

import os
import struct

from . import http
from .poll import SLOWDOWN

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# Times of a request, in seconds. Until it is a WebSocket they count, the import included.
TIME = int(2 * SLOWDOWN)
TIMES = "wsgi_slow_request 1ms;" + "".join(
    f"{name}_timeout {TIME}s;"
    for name in ("wsgi_request", "wsgi_read", "send", "keepalive", "client_body")
)


def build(path, headers=(), version="1.1"):
    """The bytes of a handshake; `headers` replace fields of the same name, None leaves one out."""
    fields = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    } | dict(headers)
    fields = [(name, value) for name, value in fields.items() if value is not None]
    return http.build("GET", path, fields, version=version, close=False)


def frame(opcode, payload=b"", fin=True, mask=None, length=None, reserved=0):
    """The bytes of a frame; mask: b"" for none, `length` in place of the payload's own."""
    mask = os.urandom(4) if mask is None else mask
    size = len(payload) if length is None else length
    head = bytes([fin << 7 | reserved << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", bit | 126, size)
    else:
        head += struct.pack("!BQ", bit | 127, size)
    if mask:
        key = (mask * (len(payload) // 4 + 1))[:len(payload)]
        payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(len(payload))
    return head + mask + payload


def idle_count(site):
    """The descriptors of a worker with nothing to do: while it imports it has files open."""
    assert site.get(f"/{site.apps[0]}").status == 403
    site.settle()
    return site.fd_count()


class WebSocket(http.Connection):
    """A connection; open() makes a WebSocket of it."""

    def ask(self, path, headers=(), ahead=b""):
        """The handshake, and bytes in the same packet."""
        self.send(build(path, headers) + ahead)
        return self

    def open(self, path, headers=(), ahead=b""):
        head = self.ask(path, headers, ahead).read_head()
        assert head.status == 101, (head, self.buffer)
        return head

    def say(self, opcode, payload=b"", **options):
        self.send(frame(opcode, payload, **options))

    def hear(self):
        """One whole message or control frame of the server: opcode and payload."""
        first, second = self.read_exactly(2)
        assert second < 128, "a server masks nothing"
        size = second
        if size > 125:
            size = int.from_bytes(self.read_exactly(2 if size == 126 else 8))
        assert first & 0xF0 == 0x80, f"a fragment, or reserved bits: {first:#x}"
        return first & 0x0F, self.read_exactly(size)
