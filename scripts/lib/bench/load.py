"""One round of load on one server: wrk, and what the server used meanwhile."""

import http.client
import json
import subprocess

WARM_UP = 1
HELLO = b"Hello, World!"

# Only the request is prepared and the sums are printed: nothing is called for each request.
LUA = """\
local body = io.open("@BODY@", "rb")
if body then
    wrk.body = body:read("*a")
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/octet-stream"
    body:close()
end
function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\\nFIGURES {"requests":%d,"microseconds":%d,"bytes":%.0f,"p50_us":%d,"p99_us":%d,' ..
        '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\\n',
        summary.requests, summary.duration, summary.bytes, latency:percentile(50),
        latency:percentile(99), errors.connect, errors.read, errors.write, errors.timeout,
        errors.status))
end
"""
KINDS = ("connect", "read", "write", "timeout", "status")


class Wrong(Exception):
    """A server that does not do what it is asked."""


def fetch(port, case, timeout=30):
    """Status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST" if case.post else "GET", case.path, case.post or None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Load:
    """wrk for one case, its script in a directory of its own."""

    def __init__(self, directory, case, connections):
        self.connections = connections
        self.case = case
        self.script = directory / f"{case.name}.lua"
        body = directory / f"{case.name}.body"
        if case.post:
            body.write_bytes(case.post)
        self.script.write_text(LUA.replace("@BODY@", str(body)))

    def wrk(self, port, seconds):
        # wrk counts whole seconds.
        seconds = max(1, round(seconds))
        try:
            done = subprocess.run(
                ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "10s",
                 "-s", str(self.script), f"http://127.0.0.1:{port}{self.case.path}"],
                capture_output=True, text=True, timeout=seconds + 30,
            )
        except subprocess.TimeoutExpired:
            raise Wrong("wrk does not end") from None
        for line in done.stdout.splitlines():
            if line.startswith("FIGURES "):
                return json.loads(line.removeprefix("FIGURES "))
        raise Wrong(f"wrk: {(done.stderr or done.stdout).strip()[-300:]}")

    def warm_up(self, server):
        self.wrk(server.port, WARM_UP)

    def measure(self, server, seconds, least):
        """The figures of one round. An answer has `least` bytes: fewer are errors."""
        before = server.family.cpu()
        found = self.wrk(server.port, seconds)
        after = server.family.cpu()
        requests = found["requests"]
        errors = {kind: found[kind] for kind in KINDS if found[kind]}
        if found["bytes"] < requests * least:
            errors["short"] = requests - found["bytes"] // least
        if lost := len(before.keys() - after.keys()):
            errors["ended processes"] = lost
        nanoseconds = sum(used - before.get(pid, 0) for pid, used in after.items())
        return {
            "requests": requests,
            "requests_per_second": requests / found["microseconds"] * 1e6,
            "cpu_us": nanoseconds / 1000 / requests if requests else None,
            "p50_ms": found["p50_us"] / 1000,
            "p99_ms": found["p99_us"] / 1000,
            "pss_mib": server.family.memory() / (1 << 20),
            "errors": errors,
        }
