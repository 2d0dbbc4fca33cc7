"""Where things lie, and how commands are run."""

import os
import subprocess
import sys

from common.paths import ROOT

WORK = ROOT / "target/wheel"
DIST = WORK / "dist"
VENV = WORK / "venv"


class Failed(Exception):
    """What has gone wrong, as a sentence."""


def say(*words):
    print("wheel:", *words, file=sys.stderr, flush=True)


def run(*command, log=None, env=None, **options):
    """Runs it; with a log its output goes there, and the end of that is shown if it fails."""
    command = list(map(str, command))
    output = open(log, "wb") if log else None
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output or sys.stderr,
                          stderr=output, env={**os.environ, **(env or {})}, **options)
    if output:
        output.close()
    if done.returncode:
        if log:
            with open(log, errors="replace") as file:
                sys.stderr.write("".join(file.readlines()[-20:]))
        raise Failed(f"{' '.join(command[:3])} has failed")


def output(*command, **options):
    """What it prints."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, **options)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise Failed(f"{' '.join(map(str, command[:3]))} has failed")
    return done.stdout
