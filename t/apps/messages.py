"""Holds a WebSocket by its messages, environ["wsgi.websocket"]. The path says what is done."""

import contextlib
import hashlib
import threading

import gate
from record import record

from nginx_wsgi import WebSocketError


def echo(ws):
    while (message := ws.receive()) is not None:
        ws.send(message)
    record("closed", ws.closed)


def loop(ws):
    """As applications for gevent-websocket are written."""
    while not ws.closed:
        message = ws.receive()
        if message:
            ws.send(message)


def returns(ws):
    ws.send("bye")


def raises(ws):
    ws.send("bye")
    raise ValueError("on purpose")


def closes(ws):
    ws.close(4001, "enough")
    try:
        ws.send("late")
    except WebSocketError as error:
        record("late", error)


def flood(ws):
    for n in range(64):
        ws.send(bytes([n]) * (1 << 18))
        record("sent", n)


def sink(ws):
    """Takes nothing until the gate opens, then all."""
    ws.send("begin")
    gate.wait("sink")
    digest, size = hashlib.sha256(), 0
    while (message := ws.receive()) is not None:
        digest.update(message)
        size += len(message)
    record("received", size, digest.hexdigest())


def both(ws):
    """Sends more than a client takes that does not receive, and receives when the gate opens."""
    def send():
        with contextlib.suppress(WebSocketError):
            ws.send(bytes(16 << 20))

    sender = threading.Thread(target=send)
    sender.start()
    gate.wait("both")
    size = 0
    while size < 4 << 20 and (message := ws.receive()) is not None:
        size += len(message)
    record("heard", size)
    sender.join()


def push(ws):
    """Only sends, when the gate opens."""
    ws.send("begin")
    gate.wait("push")
    try:
        while True:
            ws.send("x" * 1000)
    except WebSocketError as error:
        record("stopped", error)


def waits(ws):
    gate.wait("waits")
    ws.send("at last")


def listens(ws):
    gate.wait("listens")
    record("received", ws.receive())


def careless(ws):
    """Fails before it has looked at the WebSocket."""
    gate.wait("careless")
    raise FileNotFoundError("on purpose")


def knows(ws):
    ws.send(f"{ws.version} {ws.origin} {ws.protocol} {ws.path}")


WAYS = {f"/{way.__name__}": way for way in (
    echo, loop, returns, raises, closes, flood, sink, both, push, waits,
    listens, careless, knows)}


def application(environ, start_response):
    path = environ["PATH_INFO"].removeprefix("/messages")
    ws = environ.get("wsgi.websocket")
    if ws is None or path == "/none":
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"no websocket"]
    record("called", path)
    if path == "/answers":
        try:
            ws.receive()
        except WebSocketError as error:
            start_response("400 Bad Request", [("X-Why", "handshake")])
            return [str(error).encode()]
    if path == "/begins":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"begun, ")
        gate.wait("begins")
        try:
            ws.send("late")
        except WebSocketError as error:
            return [str(error).encode()]
    try:
        WAYS[path](ws)
    finally:
        record("over", path)
    return None
