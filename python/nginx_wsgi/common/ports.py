"""Ports of this machine.

As a program, ports.py PORT: prints PORT, or for 0 a free one; fails if PORT is taken.
"""

import socket
import sys


def free_port(address="127.0.0.1", port=0):
    """The port, or for 0 one that nobody listens on; OSError if it is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        return probe.getsockname()[1]


if __name__ == "__main__":
    try:
        print(free_port(port=int(sys.argv[1])))
    except (OSError, OverflowError) as error:
        sys.exit(f"port {sys.argv[1]}: {error}")
