"""The application of the case reload-stall: its import takes as long as a real project's."""

import time

from bench_cases import hello

IMPORT = 2
time.sleep(IMPORT)
application = hello
