"""Standard output as a file that nginx can open for its access log.

nginx opens /dev/stdout anew, which fails where that is a socket (systemd's journal) or a pipe of
another user (a container that is not root's).
"""

import os
import sys
import threading

END = b"\0"


class Output:

    def __init__(self, directory):
        try:
            os.close(os.open("/dev/stdout", os.O_WRONLY | os.O_APPEND))
            self.path, self.pipe = "/dev/stdout", None
        except OSError:
            self.path = directory / "stdout"
            os.mkfifo(self.path, 0o600)
            # Both ends, so that it is never at its end.
            self.pipe = os.open(self.path, os.O_RDWR)
        self.thread = None

    def start(self):
        if self.pipe is not None:
            self.thread = threading.Thread(target=self.copy, daemon=True)
            self.thread.start()

    def copy(self):
        into = sys.stdout.fileno()
        while not (data := os.read(self.pipe, 65536)).endswith(END):
            self.write(into, data)
        self.write(into, data[:-1])

    def write(self, into, data):
        """What nobody reads any more is lost, but does not keep nginx from writing."""
        try:
            while data:
                data = data[os.write(into, data):]
        except OSError:
            pass

    def stop(self):
        """Returns when all has been copied, or is not taken."""
        if self.thread:
            os.write(self.pipe, END)
            self.thread.join(5)
