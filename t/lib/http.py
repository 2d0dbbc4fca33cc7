"""A raw HTTP/1 client: exact bytes out, a parsed answer in that says how its body ended."""

import dataclasses
import socket
import ssl
import struct

from .poll import SLOWDOWN


@dataclasses.dataclass
class Response:
    status: int = 0
    reason: str = ""
    version: str = ""
    headers: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    # 'none' (no body can follow), 'length', 'chunked', 'close': a whole answer.
    # 'truncated': closed too early. 'reset': RST. 'nothing': closed before any byte.
    end: str = "nothing"
    chunks: list = dataclasses.field(default_factory=list)
    rest: bytes = b""

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def complete(self):
        return self.end in ("none", "length", "chunked", "close", "stream")

    @property
    def text(self):
        return self.body.decode("latin-1")


class Closed(Exception):
    """The peer closed (or reset) while more was wanted."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Connection:
    def __init__(self, port=None, path=None, tls=False, timeout=20, rcvbuf=None, alpn=None):
        family = socket.AF_UNIX if path else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.timeout = timeout * SLOWDOWN
        self.sock.settimeout(self.timeout)
        if rcvbuf:
            # Before connect: it decides the window that is offered.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.connect(path or ("127.0.0.1", port))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if alpn:
                context.set_alpn_protocols(alpn)
            # Without a close_notify the end is not a clean one.
            self.sock = context.wrap_socket(
                self.sock, server_hostname="localhost", suppress_ragged_eofs=False
            )
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, data):
        self.sock.sendall(data)

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _more(self):
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLEOFError):
            raise Closed("reset") from None
        except TimeoutError:
            raise AssertionError(f"silence; so far: {self.buffer[-200:]!r}") from None
        if not data:
            raise Closed("closed")
        self.buffer += data

    def _buffer_at_least(self, size):
        """What is there already is copied once, and not with each piece that comes."""
        parts, found = [], 0
        try:
            while True:
                parts.append(self.buffer)
                found += len(self.buffer)
                self.buffer = b""
                if found >= size:
                    break
                self._more()
        finally:
            self.buffer = b"".join(parts)

    def read_until(self, mark):
        while mark not in self.buffer:
            self._more()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def read_exactly(self, size):
        parts = []
        while size:
            if not self.buffer:
                self._more()
            part, self.buffer = self.buffer[:size], self.buffer[size:]
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def read_to_end(self):
        """Everything until the peer closes: (bytes, 'closed' or 'reset')."""
        parts = []
        while True:
            parts.append(self.buffer)
            self.buffer = b""
            try:
                self._more()
            except Closed as closed:
                return b"".join(parts), closed.how

    def at_eof(self, timeout=5):
        """Whether the peer closes within the time without a further byte."""
        if self.buffer:
            return False
        self.sock.settimeout(timeout * SLOWDOWN)
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(self.timeout)

    def silent(self, timeout):
        """Whether nothing at all comes within the time."""
        if self.buffer:
            return False
        self.sock.settimeout(timeout)
        try:
            self.buffer += self.sock.recv(1)
            return False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(self.timeout)

    def read_head(self):
        response = Response()
        status_line, *lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        response.version, status, *reason = status_line.split(" ", 2)
        response.status = int(status)
        response.reason = reason[0] if reason else ""
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon and name == name.strip(), f"bad header line {line!r}"
            response.headers.append((name, value.strip(" ")))
        return response

    def read_chunk(self):
        """One chunk of a chunked body; b'' is the last one."""
        size = int(self.read_until(b"\r\n").split(b";")[0], 16)
        data = self.read_exactly(size)
        assert self.read_exactly(2) == b"\r\n"
        return data

    def read_chunks(self, size):
        """As many chunks of a chunked body as have this size together."""
        data = b""
        while len(data) < size:
            data += self.read_chunk()
        return data

    def read_response(self, method="GET"):
        """One answer; its end says whether and how it was completed."""
        response = Response()
        try:
            response = self.read_head()
            while response.status == 100:
                response = self.read_head()
            self._read_body(response, method)
        except Closed as closed:
            started = response.status or self.buffer
            response.end = "reset" if closed.how == "reset" else "truncated"
            if not started and closed.how == "closed":
                response.end = "nothing"
            response.body += self.buffer
            self.buffer = b""
        response.rest = self.buffer
        return response

    def _read_body(self, response, method):
        length = response.header("Content-Length")
        coding = response.header("Transfer-Encoding")
        assert not (length is not None and coding), "both Content-Length and Transfer-Encoding"
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            response.end = "none"
        elif coding:
            assert coding == "chunked"
            try:
                while chunk := self.read_chunk():
                    response.chunks.append(chunk)
            finally:
                response.body = b"".join(response.chunks)
            response.end = "chunked"
        elif length is not None:
            wanted = int(length)
            self._buffer_at_least(wanted)
            response.body, self.buffer = self.buffer[:wanted], self.buffer[wanted:]
            response.end = "length"
        else:
            response.body, how = self.read_to_end()
            response.end = "close" if how == "closed" else "reset"


def build(method, path, headers=(), body=b"", version="1.1", host="localhost", close=True):
    """The bytes of a request; Host, Content-Length and Connection unless given."""
    headers = list(headers.items() if isinstance(headers, dict) else headers)
    names = {name.lower() for name, _ in headers}
    if "host" not in names and host and version != "1.0":
        headers.insert(0, ("Host", host))
    if body and not names & {"content-length", "transfer-encoding"}:
        headers.append(("Content-Length", str(len(body))))
    if close and version == "1.1" and "connection" not in names:
        headers.append(("Connection", "close"))
    head = f"{method} {path} HTTP/{version}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return head.encode("latin-1") + body


def chunked(*chunks):
    """A chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def request(port, method, path, **options):
    """One request on a connection of its own."""
    connection = {
        name: options.pop(name) for name in ("tls", "timeout", "rcvbuf") if name in options
    }
    unix = options.pop("unix", None)
    with Connection(None if unix else port, unix, **connection) as client:
        client.send(build(method, path, **options))
        return client.read_response(method)
