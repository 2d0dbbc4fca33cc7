"""Answers with the environment variable STEP; its import waits for the gate of that name."""

import os

import gate
from record import record

STEP = os.environ.get("STEP", "")
gate.wait(STEP)
if STEP.startswith("broken"):
    raise ValueError(STEP)
record("imported", STEP)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [STEP.encode()]
