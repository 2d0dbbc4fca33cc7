"""What is asked of the servers."""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    target: str  # module:callable
    path: str = "/"
    post: bytes = b""
    # What nginx alone serves instead: "return" (return 200) or "file" (1 MiB with sendfile).
    floor: str = "return"
    # Compares these servers only, whatever --servers says.
    only: tuple = ()
    # Compares these servers unless --servers says otherwise.
    usual: tuple = ()
    # Each round has a start of its own and these options (STARTS).
    fresh: bool = False
    # The load is one HTTP/2 connection.
    h2: bool = False
    # The access log tells how many requests were handed over.
    counted: bool = False

    @property
    def django(self):
        """It needs Django."""
        return self.target.startswith(("miniproject", "bench_django"))

    @property
    def websocket(self):
        """It needs Flask-Sock."""
        return self.target.startswith("bench_websocket")

    def of(self, target):
        """The same of another application."""
        return replace(self, target=target)

    def stable(self, body):
        """A body without what differs from process to process: the table on the home page."""
        return re.sub(rb"<td>.*?</td>", b"", body) if self.django else body


# Of the cases with a fresh start for each round. Sockets are shared as they are by default: then
# it is chance how many connections a worker has.
STARTS = {"processes": 4, "threads": 4, "connections": 16, "reuseport": False}
DJANGO = "miniproject.wsgi:application"
# Of the module by Flask-Sock and by messages, and of peers (websocket.py).
WEBSOCKETS = ("module-sock", "module-frames", "uwsgi-sockets", "gunicorn-sock")
ECHO = b"0123456789abcdef" * 4096

CASES = {
    case.name: case
    for case in (
        Case("hello", "13 bytes", "bench_cases:hello"),
        Case("view", "Django, hello", "bench_django:application"),
        Case("django", "Django, home page", DJANGO),
        Case("json", "Django, JSON from SQLite", DJANGO, "/miniProj/segment/querySegment?road=A1"),
        Case("echo", "POST of 64 KiB, sent back", "bench_cases:echo", post=ECHO),
        Case("body", "1 MiB in one bytes object", "bench_cases:body", floor="file"),
        Case("file", "1 MiB through wsgi.file_wrapper", "bench_cases:file", floor="file"),
        Case("sleep", "20 ms of blocking I/O", "bench_cases:sleep"),
        Case("stream", "100 chunks of 1 KiB", "bench_cases:stream"),
        Case("threads", "Django, home page, one thread against several", DJANGO,
             only=("module-1", "module")),
        Case("reload-stall", "a reload with an import of 2 s, clients with new connections",
             "bench_slow:application", only=("module", "uwsgi")),
        Case("skew", "20 ms of blocking I/O, 16 connections, 4 processes of 4 threads",
             "bench_cases:sleep", usual=("module", "uwsgi"), fresh=True),
        Case("h2-one", "the same, one HTTP/2 connection with 16 streams",
             "bench_cases:sleep", usual=("module", "uwsgi"), fresh=True, h2=True),
        Case("hand-over", "13 bytes, from the worker that accepted them or from another one",
             "bench_cases:hello", only=("module", "module-forced"), counted=True),
        Case("idle", "memory of idle connections", "bench_cases:hello",
             only=("floor", "module")),
        Case("websocket", "16 WebSockets, messages of 1 KiB there and back",
             "bench_websocket:frames", only=WEBSOCKETS),
        Case("websocket-idle", "idle WebSockets, and 10 s of them",
             "bench_websocket:frames", only=WEBSOCKETS),
    )
}
# Those of a run without --cases.
USUAL = ["hello", "view", "django", "json", "echo", "body", "file", "sleep", "stream"]
