"""One round of load on one server: wrk or h2load, and what the server used meanwhile."""

import http.client
import json
import re
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
# h2load prints sums; its log has a line for each request: start, status, microseconds. Statuses
# are those of all heads, also of answers that had not ended when the time was over.
SUMS = {
    "microseconds": r"finished in ([\d.]+)(us|ms|s),",
    "done": r"(\d+) done,", "failed": r"(\d+) failed,", "good": r"status codes: (\d+) 2xx",
    "bad": r"2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx",
    "bytes": r"\((\d+)\) data",
}
UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}


class Wrong(Exception):
    """A server that does not do what it is asked."""


def fetch(port, case, timeout=30, headers=()):
    """Status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST" if case.post else "GET", case.path, case.post or None,
                           dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def execute(command, seconds):
    """The output of a load generator that runs for so long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise Wrong(f"{command[0]} does not end") from None
    return done.stdout + done.stderr


def grown(before, after):
    """By how much the counts of processes have grown altogether."""
    return sum(count - before.get(pid, 0) for pid, count in after.items())


class Load:
    """wrk for one case, its script in a directory of its own."""

    def __init__(self, directory, case, connections, delay=0):
        self.connections = connections
        self.case = case
        self.script = directory / f"{case.name}.lua"
        body = directory / f"{case.name}.body"
        if case.post:
            body.write_bytes(case.post)
        script = LUA.replace("@BODY@", str(body))
        if delay:
            script += f"function delay()\n    return {delay}\nend\n"
        self.script.write_text(script)

    def run(self, server, seconds, path=None):
        """What the program has counted; it asks for the path, else for that of the case."""
        output = execute(
            ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "10s",
             "-s", str(self.script), f"http://127.0.0.1:{server.port}{path or self.case.path}"],
            seconds,
        )
        for line in output.splitlines():
            if line.startswith("FIGURES "):
                return json.loads(line.removeprefix("FIGURES "))
        raise Wrong(f"wrk: {output.strip()[-300:]}")

    def warm_up(self, server):
        self.run(server, WARM_UP)

    def measure(self, server, seconds, least):
        """The figures of one round. An answer has `least` bytes: fewer are errors."""
        before, slept = server.family.cpu(), server.family.switches()
        loops = server.family.loops()
        found = self.run(server, seconds)
        after, sleeps = server.family.cpu(), server.family.switches()
        loop_cpu, loop_sleeps = map(grown, loops, server.family.loops())
        requests = found["requests"]
        errors = {kind: found[kind] for kind in KINDS if found[kind]}
        if found["bytes"] < requests * least:
            errors["short"] = requests - found["bytes"] // least
        if lost := len(before.keys() - after.keys()):
            errors["ended processes"] = lost
        nanoseconds = grown(before, after)
        return {
            "requests": requests,
            "requests_per_second": requests / found["microseconds"] * 1e6,
            "cpu_us": nanoseconds / 1000 / requests if requests else None,
            "switches": grown(slept, sleeps) / requests if requests else None,
            **server.of_loop(loop_cpu / 1000, loop_sleeps, requests),
            "p50_ms": found["p50_us"] / 1000,
            "p99_ms": found["p99_us"] / 1000,
            "pss_mib": server.family.memory() / (1 << 20),
            "errors": errors,
        }


class H2Load(Load):
    """h2load: one connection with prior knowledge of HTTP/2, which has as many streams at a time
    as wrk has connections."""

    def run(self, server, seconds, path=None):
        log = self.script.with_suffix(".log")
        log.unlink(missing_ok=True)
        output = execute(
            ["h2load", "-t1", "-c1", f"-m{self.connections}", f"-D{seconds}", f"--log-file={log}",
             f"http://127.0.0.1:{server.h2_port}{path or self.case.path}"], seconds,
        )
        found = {name: re.search(pattern, output) for name, pattern in SUMS.items()}
        if not all(found.values()) or not log.exists():
            raise Wrong(f"h2load: {output.strip()[-300:]}")
        took, unit = found.pop("microseconds").groups()
        sums = {name: sum(map(int, match.groups())) for name, match in found.items()}
        if not sums["good"]:
            raise Wrong(f"h2load: no answer was good: {output.strip()[-300:]}")
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        return dict.fromkeys(KINDS, 0) | {
            "requests": sums["done"], "microseconds": float(took) * UNITS[unit],
            "bytes": sums["bytes"], "p50_us": quantile(times, 0.5), "p99_us": quantile(times, 0.99),
            "read": sums["failed"], "status": sums["bad"],
        }


def quantile(values, part):
    """Of sorted values."""
    return values[min(int(len(values) * part), len(values) - 1)] if values else 0
