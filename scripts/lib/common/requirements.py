"""What a program needs of the machine, by way of scripts/requirements."""

import subprocess
import sys

from common.paths import ROOT


class Missing(Exception):
    """Something that could not be installed."""


def require(job):
    """Has scripts/requirements install what a job needs."""
    done = subprocess.run([ROOT / "scripts/requirements", "--install", job],
                          stdout=sys.stderr, timeout=1200)
    if done.returncode:
        raise Missing(f"something is missing: scripts/requirements {job} names it")
