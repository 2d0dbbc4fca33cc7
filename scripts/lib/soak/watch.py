"""What is watched meanwhile: memory, descriptors, unix sockets and threads of nginx's processes."""

import time

from common import proc

SAMPLE_EVERY = 5.0


def look_at(pid):
    """Memory in bytes, descriptors, those of unix sockets, threads; None if it is gone."""
    sizes, fds, threads = proc.rollup(pid), proc.fds(pid), proc.threads(pid)
    if not sizes or not threads:
        return None
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "fds": len(fds),
            "links": proc.unix_sockets(pid), "threads": threads}


class Watch:
    """Samples of the master and of each worker, with the seconds since the load began."""

    def __init__(self, server):
        self.server = server
        self.began = time.monotonic()
        self.master = []
        self.workers = {}

    def sample(self):
        now = time.monotonic() - self.began
        if seen := look_at(self.server.process.pid):
            self.master.append({"at": now, **seen})
        for pid, leaving in self.server.workers().items():
            if (seen := look_at(pid)) and not leaving:
                self.workers.setdefault(pid, []).append({"at": now, **seen})
