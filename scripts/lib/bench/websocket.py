"""Messages of 1 KiB that an application sends back, and what a WebSocket costs that is idle."""

import contextlib
import select
import socket
import time

from bench import idle, load, servers
from common.websocket import WebSocket, frame

PATH = "/socket"
TIMEOUT = 60
MESSAGE = b"0123456789abcdef" * 64
# The same message as a server sends it.
ANSWER = b"\x81\x7e" + len(MESSAGE).to_bytes(2) + MESSAGE
CLIENTS = 16
IDLE_SECONDS = 10


class Sockets:
    """What the servers here have in common: the application, and a thread for each WebSocket."""

    target = ""

    def __init__(self, name, site, options, sockets):
        super().__init__(name, site, options)
        self.sockets = sockets
        self.threads = sockets + 8
        # Two connections of nginx for each, and three or four descriptors of one of the workers.
        self.connections = 3 * sockets + idle.SPARE

    def run(self, case):
        super().run(case.of(self.target))

    def expected(self, case):
        return load.HELLO


class Module(Sockets, servers.Module):
    def __init__(self, *args):
        super().__init__(*args)
        self.directives = (("wsgi_websocket", "on"), ("wsgi_websocket_threads", self.threads))
        # Of the pool, which has no part in it.
        self.threads = 4


class ModuleSock(Module):
    target = "bench_websocket:sock()"


class ModuleFrames(Module):
    target = "bench_websocket:frames"


class Uwsgi(Sockets, servers.Uwsgi):
    target = "bench_websocket:uwsgi"

    def config(self, **module):
        config = super().config(**module)
        config.location.add("uwsgi_read_timeout", "1d")
        return config


class Gunicorn(Sockets, servers.Gunicorn):
    target = "bench_websocket:sock()"

    def config(self, **module):
        config = super().config(**module)
        config.location.add("proxy_set_header", "Upgrade", "$http_upgrade")
        config.location.add("proxy_set_header", "Connection", "upgrade")
        config.location.add("proxy_read_timeout", "1d")
        return config


KINDS = {"module-sock": ModuleSock, "module-frames": ModuleFrames, "uwsgi-sockets": Uwsgi,
         "gunicorn-sock": Gunicorn}


def connect(stack, server):
    return stack.enter_context(WebSocket("127.0.0.1", server.port, PATH, TIMEOUT))


def exchange(websocket, message):
    """One message there and back."""
    websocket.socket.sendall(message)
    if websocket.exactly(len(ANSWER)) != ANSWER:
        raise load.Wrong("another message came back")


class Crowd:
    """Clients that each send a message when the last one has come back."""

    def __init__(self, server, stack):
        self.message = frame(MESSAGE)
        self.clients = {}
        self.poll = stack.enter_context(select.epoll())
        for _ in range(CLIENTS):
            websocket = connect(stack, server)
            exchange(websocket, self.message)
            self.clients[websocket.socket.fileno()] = websocket.socket
            self.poll.register(websocket.socket, select.EPOLLIN)
        for client in self.clients.values():
            client.sendall(self.message)

    def run(self, seconds):
        """How many messages have come back in that time, and how long it was."""
        rest = dict.fromkeys(self.clients, len(ANSWER))
        begin, count = time.monotonic(), 0
        while (now := time.monotonic()) < begin + seconds:
            for fd, _ in self.poll.poll(1):
                data = self.clients[fd].recv(65536)
                if not data:
                    raise load.Wrong("a WebSocket was closed")
                rest[fd] -= len(data)
                if not rest[fd]:
                    count += 1
                    rest[fd] = len(ANSWER)
                    self.clients[fd].sendall(self.message)
        if not count:
            raise load.Wrong("no message came back")
        # What is half there is read before the next round begins anew.
        for fd, size in rest.items():
            if size < len(ANSWER):
                self.clients[fd].setblocking(True)
                while size:
                    size -= len(self.clients[fd].recv(size))
                self.clients[fd].sendall(self.message)
        return count, now - begin


def messages(server, options):
    """Rounds with the same clients."""
    rounds = []
    with contextlib.ExitStack() as stack:
        crowd = Crowd(server, stack)
        crowd.run(load.WARM_UP)
        for _ in range(options.rounds):
            before = server.family.cpu()
            count, seconds = crowd.run(options.seconds)
            cpu = load.grown(before, server.family.cpu())
            rounds.append({"per_second": count / seconds, "cpu_us": cpu / 1000 / count})
    return {"rounds": rounds}


def is_closed(websocket):
    websocket.socket.setblocking(False)
    try:
        return not websocket.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def rest(server, count):
    """Opens so many, lets each exchange a message, and leaves them alone."""
    message = frame(MESSAGE)
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as first:
            for _ in range(CLIENTS):
                exchange(connect(first, server), message)
        before = idle.settled(server.family)
        opened = []
        for _ in range(count):
            opened.append(connect(stack, server))
            exchange(opened[-1], message)
        after = idle.settled(server.family)
        begin = server.family.cpu()
        time.sleep(IDLE_SECONDS)
        cpu = load.grown(begin, server.family.cpu())
        if any(map(is_closed, opened)):
            raise load.Wrong("a WebSocket was closed")
    return {"sockets": count, "bytes_per_socket": (after - before) / count,
            "before_mib": before / (1 << 20), "after_mib": after / (1 << 20),
            "cpu_ms": cpu / 1e6, "seconds": IDLE_SECONDS}


def run(server, case, measure):
    try:
        idle.raise_limit(server.connections + 2 * idle.SPARE)
        server.start(case)
        return measure(server)
    except (load.Wrong, OSError) as error:
        return {"failed": str(error)}
    finally:
        server.stop()
