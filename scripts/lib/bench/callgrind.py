"""Instructions of a request: nginx under callgrind, the difference of two runs of unequal length.

Both runs start and end alike, so the difference is what the further requests took, on all threads.
"""

import re
import signal
import socket
import subprocess
import time
from collections import Counter

from bench.load import HELLO, Wrong
from bench.nginx import Config
from common.nginx import command
from common.ports import free_port
from common.processes import environment

CONNECTIONS = 8
SHORT, LONG = 1000, 5000
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
STARTING = 120
# A function in the output of callgrind_annotate: instructions (percent)  file:name [object]
LINE = re.compile(
    r"^ *([\d,]+) \([ \d.]+%\) +[^:]*:((?:0x\w+ \[.*\])|.*?)(?:'\d+)?(?: \[.*\])?$"
)


# With a master and two workers, on one connection, so that there is room for each request.
PAIRS = {"pair": "off", "balanced": "on"}


def config(name, port, site):
    """One process without a master, `counted` with a wsgi_status, or what PAIRS names."""
    if name == "floor":
        made = Config(port)
        made.floor(made.location, site)
    else:
        made = Config(port, module=site.module, workers=2 if name in PAIRS else 1)
        made.application("bench_cases:hello", site, site.environ)
    if name == "counted":
        made.status()
    if name in PAIRS:
        made.http.add("wsgi_balance", PAIRS[name])
    else:
        made.main.add("master_process", "off")
    return made


def connect(port, process):
    """A connection, as soon as the server listens."""
    end = time.monotonic() + STARTING
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), STARTING)
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > end:
                raise Wrong("nginx does not start under valgrind") from None
            time.sleep(0.1)


def read_answer(sock):
    answer = b""
    while not answer.endswith(HELLO):
        piece = sock.recv(65536)
        if not piece:
            raise Wrong(f"the connection was closed after {answer[:80]!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Wrong(f"a wrong answer: {answer[:80]!r}")


def ask(connections, count):
    """The requests, one at a time on each connection, all connections at once."""
    for _ in range(count // len(connections)):
        for sock in connections:
            sock.sendall(REQUEST)
        for sock in connections:
            read_answer(sock)


def run(name, count, site):
    """The files that callgrind has written about a run of `count` requests, one a process."""
    directory = site.subdirectory(f"{name}-{count}")
    # Workers write as the user they run as.
    directory.chmod(0o777)
    for old in directory.glob("callgrind.out.*"):
        old.unlink()
    output = directory / "callgrind.out"
    site.subdirectory(f"{name}-{count}/tmp")
    port = free_port()
    config(name, port, site).write(directory)
    with open(directory / "valgrind.log", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "valgrind", "--tool=callgrind", "--quiet",
             "--fair-sched=yes", f"--callgrind-out-file={output}.%p", *command(directory)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=environment(),
        )
    connections = []
    try:
        connections = [connect(port, process) for _ in range(1 if name in PAIRS else CONNECTIONS)]
        ask(connections, count)
        for sock in connections:
            sock.close()
        # A master kills workers that are too slow to terminate, which write nothing then.
        process.send_signal(signal.SIGQUIT)
        process.wait(STARTING)
    except (OSError, Wrong, subprocess.TimeoutExpired) as error:
        words = (directory / "valgrind.log").read_text(errors="replace")[-600:]
        raise Wrong(f"{name}: {error}\n{words}") from None
    finally:
        for sock in connections:
            sock.close()
        if process.poll() is None:
            process.kill()
            process.wait()
    outputs = sorted(directory.glob("callgrind.out.*"))
    if not sum(map(total, outputs)):
        raise Wrong(f"{name}: callgrind has written nothing")
    return outputs


def total(output):
    """All instructions of all threads."""
    with open(output, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("totals:", "summary:")):
                return int(line.split()[1])
    return 0


def functions(outputs, inclusive):
    """Instructions of each function, by its name; of a nameless one, by address and object."""
    found = Counter()
    for output in outputs:
        found.update(functions_of(output, inclusive))
    return found


def functions_of(output, inclusive):
    done = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--auto=no", "--show=Ir",
         f"--inclusive={'yes' if inclusive else 'no'}", str(output)],
        capture_output=True, text=True, timeout=300,
    )
    found = Counter()
    for line in done.stdout.splitlines():
        matched = LINE.match(line)
        if not matched:
            continue
        name, used = re.sub(r"\[.*/", "[", matched[2]), int(matched[1].replace(",", ""))
        # A function has a line for each source file that was inlined into it, and for each depth
        # of recursion. With what they call, these lines count the same calls.
        found[name] = max(found[name], used) if inclusive else found[name] + used
    return found


def measure(name, site):
    """Instructions of a request, and the outputs of both runs."""
    short, long = (run(name, count, site) for count in (SHORT, LONG))
    more = sum(map(total, long)) - sum(map(total, short))
    return more / (LONG - SHORT), short, long


def top(short, long, inclusive, count):
    """The functions with most instructions a request, as (name, instructions)."""
    found = functions(long, inclusive)
    found.subtract(functions(short, inclusive))
    return [(name, used / (LONG - SHORT)) for name, used in found.most_common(count)]
