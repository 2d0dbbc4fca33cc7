"""Serves an application with bjoern: serve_bjoern.py MODULE:CALLABLE PORT PROCESSES

The processes share one listening socket. The first one only waits; SIGTERM ends all.
"""

import importlib
import os
import signal
import sys

import bjoern


def main(target, port, processes):
    module, name = target.split(":")
    application = getattr(importlib.import_module(module), name)
    bjoern.listen(application, "127.0.0.1", int(port), listen_backlog=1024)
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if not child:
            bjoern.run()
            os._exit(1)
        children.append(child)

    def leave(*_):
        for child in children:
            os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    os.wait()
    leave()


main(*sys.argv[1:])
