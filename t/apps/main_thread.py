"""What an import finds on Python's main thread, and what it leaves running there."""

import asyncio
import os
import signal
import sys
import threading

from record import record

record("main", threading.current_thread() is threading.main_thread())
# Since Python 3.14 no thread has a loop that it has not made.
loop = (asyncio.get_event_loop if sys.version_info < (3, 14) else asyncio.new_event_loop)()
record("loop", loop.run_until_complete(asyncio.sleep(0, "ran")))
before = signal.getsignal(signal.SIGTERM)
record("signal", signal.signal(signal.SIGTERM, lambda *args: None) is before)
for wrong in ((signal.SIGTERM, 5), (9999, signal.SIG_DFL)):
    try:
        signal.signal(*wrong)
    except (TypeError, ValueError) as error:
        record("wrong", type(error).__name__)


def follow_main():
    """As many a library does: cleans up when the main thread has ended."""
    threading.main_thread().join()
    record("cleaned", threading.main_thread().is_alive())


thread = threading.Thread(target=follow_main)
record("daemon", thread.daemon)
thread.start()


def application(environ, start_response):
    """A child that is forked has the real signal.signal()."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *args: os._exit(7))
        signal.raise_signal(signal.SIGTERM)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(code).encode()]
