"""Answers on the connection itself, as libraries for WebSockets do, with bytes instead of frames.

The path says what is done; the query string how it ends: start, empty, stop, drop, raise, refused.
"""

import hashlib
import socket

import gate
from record import record

SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Application: raw\r\n\r\n")


def echo(sock):
    sock.sendall(SWITCH)
    while data := sock.recv(65536):
        sock.sendall(data)


def once(sock):
    """One piece, then the end."""
    sock.sendall(SWITCH)
    sock.sendall(sock.recv(65536))


def hasty(sock):
    """The end at once."""
    sock.sendall(SWITCH)


def last_words(sock):
    """Answers when the client has sent all."""
    sock.sendall(SWITCH)
    size = 0
    while data := sock.recv(65536):
        size += len(data)
    sock.sendall(f"{size} bytes".encode())


def flood(sock):
    sock.sendall(SWITCH)
    for n in range(64):
        sock.sendall(bytes([n]) * (1 << 18))
        record("sent", n)


def sink(sock):
    """Takes nothing until the gate opens, then all."""
    sock.sendall(SWITCH)
    gate.wait("sink")
    digest, size = hashlib.sha256(), 0
    while data := sock.recv(65536):
        digest.update(data)
        size += len(data)
    record("received", size, digest.hexdigest())


def deaf(sock):
    """Neither takes nor sends anything until the gate opens."""
    sock.sendall(SWITCH)
    gate.wait("deaf")


def closed(sock):
    """Closes its socket, and goes on."""
    sock.sendall(SWITCH + b"bye")
    sock.close()
    gate.wait("closed")


def pieces(sock):
    """The head a byte at a time, and more behind it."""
    for n in range(len(SWITCH)):
        sock.sendall(SWITCH[n:n + 1])
    sock.sendall(b"behind")
    sock.recv(1)


def other(sock):
    """A response of its own that is no switch."""
    sock.sendall(b"HTTP/1.1 418 I'm a teapot\r\nX-Own: yes\r\nContent-Length: 3\r\n\r\ntea")


def half(sock):
    """The head of one, and nothing behind it until the gate opens."""
    sock.sendall(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\n")
    gate.wait("half")


def garbage(sock):
    sock.sendall(b"hello\r\n")
    sock.recv(1)


def part(sock):
    sock.sendall(SWITCH[:50])


def long(sock):
    sock.sendall(b"HTTP/1.1 101 x\r\nX-Long: " + b"a" * 20000)
    sock.recv(1)


def nothing(sock):
    pass


def waits(sock):
    gate.wait("waits")


WAYS = {f"/{way.__name__}": way for way in (
    echo, once, hasty, last_words, flood, sink, deaf, closed, pieces, other, half, garbage, part,
    long, nothing, waits)}


def application(environ, start_response):
    path, _, key = environ["PATH_INFO"].rpartition("/raw_socket")[2].partition(":")
    sock = environ.get((key or "werkzeug") + ".socket")
    if path == "/keys":
        same = sock is environ["gunicorn.socket"] and isinstance(sock, socket.socket)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(same).encode()]
    if sock is None:
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"no websocket"]
    record("called", path)
    try:
        WAYS[path](sock)
    except OSError as error:
        record("error", path, type(error).__name__)
    record("over", path)
    ending = environ["QUERY_STRING"]
    if ending == "stop":
        raise StopIteration
    if ending == "drop":
        raise ConnectionError
    if ending == "raise":
        raise ValueError("on purpose")
    if ending == "refused":
        raise ConnectionError("on purpose")
    if ending == "start":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"not for the client"]
    return []
