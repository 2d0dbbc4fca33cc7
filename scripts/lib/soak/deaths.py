"""Workers that are killed or stopped at random moments, and what may fail because of it."""

import collections
import contextlib
import dataclasses
import os
import random
import signal
import time

from soak import TIMEOUT

# Seconds between two of them, and how long one is stopped: with the timeouts of the configuration
# (site.py) nothing takes as long as TIMEOUT.
PAUSE = (1, 4)
STOPPED = (0.5, 4)
# How often each is chosen.
WAYS = {signal.SIGKILL: 4, signal.SIGSEGV: 3, signal.SIGSTOP: 4}
# A client may send a request before it is told that the connection's worker has gone.
UNNOTICED = 1


class Deaths:
    """What happens to workers. There is always one to which nothing does."""

    def __init__(self, server, seed):
        self.server = server
        self.random = random.Random(seed)
        self.died = {}  # pid: when
        self.stopped = {}  # pid: when it goes on
        self.counts = collections.Counter()
        self.next = time.monotonic() + PAUSE[1]

    def turn(self):
        now = time.monotonic()
        for pid in [pid for pid, until in self.stopped.items() if now >= until]:
            self.go_on(pid)
        if now < self.next:
            return
        self.next = now + self.random.uniform(*PAUSE)
        workers = [pid for pid, leaving in self.server.workers().items()
                   if not leaving and pid not in self.died]
        if len(set(workers) - set(self.stopped)) > 1:
            # One that is stopped may be killed.
            self.strike(self.random.choice(sorted(workers)))

    def strike(self, pid):
        now = time.monotonic()
        (way,) = self.random.choices(list(WAYS), WAYS.values())
        if pid in self.stopped:
            way = signal.SIGKILL
        if way == signal.SIGSTOP:
            self.stopped[pid] = now + self.random.uniform(*STOPPED)
        else:
            self.died[pid] = now
        self.counts[way.name] += 1
        os.kill(pid, way)
        if pid in self.died and pid in self.stopped:
            # Only SIGKILL ends a process that is stopped.
            self.go_on(pid)

    def go_on(self, pid):
        del self.stopped[pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def end(self):
        for pid in list(self.stopped):
            self.go_on(pid)


@dataclasses.dataclass
class Request:
    """One that has failed, as the client saw it."""

    text: str
    began: float
    ended: float
    # Of all requests that the kind consists of, and the workers that had accepted them.
    ids: list
    workers: list


def ran(path):
    """Which workers have called the application for each id."""
    found = collections.defaultdict(list)
    for line in path.read_text().splitlines():
        number, pid = line.split()
        found[number].append(int(pid))
    return found


def excused(request, runs, died):
    """Whether a worker that had to do with the request died meanwhile."""

    def died_meanwhile(pid):
        return request.began - UNNOTICED <= died.get(pid, -1) <= request.ended

    if request.ended - request.began >= TIMEOUT:
        return False
    runners = [pid for number in request.ids for pid in runs.get(number, [])]
    if any(map(died_meanwhile, [*request.workers, *runners])):
        return True
    # It was taken and has not come to the application: nobody says by whom.
    unknown = any(number not in runs for number in request.ids)
    return unknown and any(map(died_meanwhile, died))


def judge(verdict, failures, answered, runs, deaths):
    said = ", ".join(f"{count} {name}" for name, count in sorted(deaths.counts.items()))
    verdict.add(deaths.died and deaths.counts["SIGSTOP"], f"to workers was done: {said}")
    wrong = [request for request in failures if not excused(request, runs, deaths.died)]
    for request in wrong[:20]:
        workers = sorted({*request.workers, *(pid for n in request.ids for pid in runs.get(n, []))})
        print(f"        {request.text} (workers {workers}, {request.ended - request.began:.1f} s)")
    verdict.add(not wrong, f"{len(failures)} failed requests, {len(wrong)} without a death of the"
                           " worker that had accepted or run them")
    twice = {number: pids for number, pids in runs.items() if len(pids) > 1}
    for number, pids in list(twice.items())[:20]:
        print(f"        {number} ran in {pids}")
    verdict.add(not twice, f"{len(runs)} requests ran, {len(twice)} of them more than once")
    lost = [number for number in answered if number not in runs]
    verdict.add(answered and not lost,
                f"{len(answered)} were answered by the application, {len(lost)} without a run")
