"""What scripts/soak consists of."""

import sys

WORKERS = 2
# Of these some die.
MORTAL = 4
THREADS = 4
# No request may take longer.
TIMEOUT = 30
# As t/apps/soak_mix.py has them.
CHUNK = bytes(range(256)) * 16
FILE_SIZE = 300_000


def say(*words):
    print("soak:", *words, file=sys.stderr, flush=True)
