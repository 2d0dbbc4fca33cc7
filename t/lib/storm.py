"""What is left in a worker after a storm of requests to t/apps/storm.py."""

import os
import random

from . import procs
from .poll import until, until_stable

# Printed by the tests that use it, so that a failure can be had again.
SEED = int(os.environ.get("TEST_NGINX_SEED") or 0) or random.randrange(1, 1 << 32)


def choices(number):
    """The random choices of one client."""
    return random.Random(SEED * 1_000_003 + number)


def counts(site):
    """How many calls of the application, how many close()."""
    called, closed = site.get("/counts").text.split()
    return int(called), int(closed)


class Baseline:
    """The worker as it was before the storm."""

    def __init__(self, site):
        self.site, self.worker = site, site.worker()
        self.descriptors = site.fd_count()

    def assert_restored(self):
        """The same worker, idle, with no more descriptors, and every result closed."""
        site, worker = self.site, self.worker
        until(lambda: len(set(counts(site))) == 1, what="as many close() as calls")
        until(lambda: site.fd_count(worker) <= self.descriptors, what="descriptors as before")
        until_stable(lambda: procs.cpu_nanoseconds(worker), quiet=0.3, what="an idle worker")
        assert site.workers() == [worker]
