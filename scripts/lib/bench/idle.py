"""What an idle keep-alive connection costs in memory: the growth of the workers, divided."""

import contextlib
import resource
import socket
import time

from bench import load

SPARE = 256
WARM = 200


def raise_limit(files):
    """The descriptors that this script and the servers it starts may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(hard, files)))
    except (ValueError, OSError):
        raise load.Wrong(f"{files} descriptors are needed, the limit is {hard}") from None


def ask(sock):
    """One request; reads the answer to its end."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    answer = b""
    while not answer.endswith(load.HELLO):
        piece = sock.recv(65536)
        if not piece:
            raise load.Wrong("a connection was closed")
        answer += piece


def settled(family):
    """The PSS when it has been the same for a quarter of a second, at the latest after five."""
    found = family.memory()
    for _ in range(20):
        time.sleep(0.25)
        before, found = found, family.memory()
        if found == before:
            break
    return found


def measure(server, count):
    """Opens the connections, lets each make one request, and compares."""
    with contextlib.ExitStack() as stack:
        def connect():
            return stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))

        for _ in range(WARM):
            with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
                ask(sock)
        before = settled(server.family)
        for _ in range(count):
            ask(connect())
        after = settled(server.family)
    return {
        "connections": count,
        "before_mib": before / (1 << 20),
        "after_mib": after / (1 << 20),
        "bytes_per_connection": (after - before) / count,
    }


def run(server, case, count):
    server.connections = count + SPARE
    try:
        raise_limit(count + 2 * SPARE)
        server.start(case)
        return measure(server, count)
    except (load.Wrong, OSError) as error:
        return {"failed": str(error)}
    finally:
        server.stop()
