"""HTTP/3 by the command curl, where that and nginx have it."""

import functools
import re
import subprocess

from . import config
from .http import Response
from .poll import SLOWDOWN


def _says(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return ""
    return done.stdout + done.stderr


@functools.cache
def is_there():
    """Whether both have it; elsewhere what tests it is not collected."""
    return ("--with-http_v3_module" in _says(config.BINARY, "-V")
            and re.search(r"^Features:.*\bHTTP3\b", _says("curl", "-V"), re.M) is not None)


def command(port, method, path, headers=(), body=False):
    """curl, which prints the answer; with a body it takes that from its standard input."""
    fields = headers.items() if isinstance(headers, dict) else headers
    options = [word for name, value in fields for word in ("-H", f"{name}: {value}")]
    if body:
        # Not the header that curl has for a form.
        options += ["-H", "Content-Type:", "--data-binary", "@-"]
    method = ["-I"] if method == "HEAD" else ["-i", "-X", method]
    return ["curl", "-q", "-s", "-k", "-N", "--http3-only", "--path-as-is", "--noproxy", "*",
            "--max-time", str(30 * SLOWDOWN), "--resolve", f"localhost:{port}:127.0.0.1",
            *method, *options, f"https://localhost:{port}{path}"]


def request(port, method, path, headers=(), body=b""):
    done = subprocess.run(command(port, method, path, headers, bool(body)), input=body,
                          capture_output=True, timeout=60 * SLOWDOWN)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    version, status, reason = (lines[0] + "  ").split(" ", 2)
    if not status:
        return Response()
    fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
    end = "stream" if done.returncode == 0 else "truncated"
    return Response(int(status), reason.strip(), version, fields, rest, end)
