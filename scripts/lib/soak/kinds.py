"""The kinds of requests. Each asks by way of a client, and raises Wrong for a wrong answer."""

import contextlib
import hashlib
import http.client
import json

from soak import CHUNK, FILE_SIZE, THREADS, WORKERS
from soak.client import Wrong


def same(found, wanted, what):
    if found != wanted:
        raise Wrong(f"{what}: {found[:80]!r}, not {wanted[:80]!r}")


def static(client):
    same(client.fetch("GET", "/static"), b"static", "static location")


def small(client):
    tag = client.tag()
    same(client.fetch("GET", f"/soak/small?{tag}"), tag.encode(), "small")


def post(client, low, high):
    body = client.random.randbytes(client.random.randint(low, high))
    wanted = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    same(client.fetch("POST", "/soak/echo", body), wanted, "echo")


def post_small(client):
    post(client, 0, 4000)


def post_large(client):
    post(client, 100_000, 2_000_000)


def post_chunked(client):
    pieces = [client.random.randbytes(client.random.randint(1, 9000)) for _ in range(8)]
    body = b"".join(pieces)
    wanted = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    headers = {"Transfer-Encoding": "chunked"}
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    same(client.fetch("POST", "/soak/echo", framed, headers), wanted, "chunked echo")


def stream(client):
    chunks = client.random.randint(0, 60)
    same(client.fetch("GET", f"/soak/stream?chunks={chunks}"), CHUNK * chunks, "stream")


def large(client):
    same(client.fetch("GET", "/soak/large"), CHUNK * 256, "large")


def file(client):
    wanted = (CHUNK * (FILE_SIZE // len(CHUNK) + 1))[:FILE_SIZE]
    same(client.fetch("GET", "/soak/file"), wanted, "file")


def written(client):
    tag = client.tag()
    same(client.fetch("GET", f"/soak/written?{tag}"), b"written " + tag.encode(), "written")


def error(client):
    client.fetch("GET", "/soak/error", status=500)


def late_error(client):
    response = client.respond("GET", "/soak/late_error")
    try:
        response.read()
    except (http.client.IncompleteRead, ConnectionResetError):
        return
    finally:
        client.close()
    raise Wrong("an error after the head ended the body cleanly")


def django_home(client):
    page = client.fetch("GET", "/")
    if b"Worker process" not in page or not page.rstrip().endswith(b"</html>"):
        raise Wrong("Django's home page is not whole")


def django_query(client):
    road = client.random.choice(("A1", "A7", "B4"))
    found = json.loads(client.fetch("GET", f"/miniProj/segment/querySegment?road={road}"))
    if found["road"] != road or {row["road"] for row in found["segments"]} != {road}:
        raise Wrong(f"segments of {road}: {found}")


def abort_request(client):
    """Gone in the middle of the request's body."""
    with client.raw() as sock:
        sock.sendall(client.head("POST /soak/echo HTTP/1.1", "Content-Length: 200000")
                     + bytes(client.random.randint(0, 100_000)))


def abort_response(client):
    """Gone in the middle of a response that would never end."""
    with client.raw() as sock:
        sock.sendall(client.head("GET /soak/endless HTTP/1.1"))
        wanted = client.random.randint(1, 200_000)
        while wanted > 0 and (piece := sock.recv(65536)):
            wanted -= len(piece)
        if wanted > 0:
            raise Wrong("an endless response has ended")


def abort_queued(client):
    """More requests than threads, gone while some of them wait in the queue."""
    with contextlib.ExitStack() as stack:
        for _ in range(2 * WORKERS * THREADS):
            sock = stack.enter_context(client.raw())
            sock.sendall(client.head("GET /soak/sleep?seconds=0.02 HTTP/1.1"))


def waits(client):
    """Long enough for something to happen to its worker."""
    seconds = client.random.uniform(0.02, 0.8)
    same(client.fetch("GET", f"/soak/sleep?seconds={seconds:.3f}"), b"slept", "sleep")


# How often each is chosen; where workers die, requests that wait are many.
MIX = {
    static: 6, small: 28, post_small: 8, post_large: 3, post_chunked: 4, stream: 9, large: 4,
    file: 6, written: 4, error: 4, late_error: 3, django_home: 10, django_query: 8,
    abort_request: 2, abort_response: 3, abort_queued: 0.5,
}
MORTAL_MIX = MIX | {waits: 20}
