"""The module uwsgidecorators, for applications that import it. Run by uwsgi.rs.

Runs on: any thread of Python.
"""

import functools
import threading

import uwsgi


def postfork(function):
    """Call a function in this worker; with a number in front only in the worker of that number."""
    if callable(function):
        function()
        return function
    number = function

    def decorate(function):
        if number in (0, uwsgi.worker_id()):
            function()
        return function

    return decorate


def lock(function):
    """No two calls at a time, in any worker."""

    @functools.wraps(function)
    def locked(*args, **kwargs):
        uwsgi.lock()
        try:
            return function(*args, **kwargs)
        finally:
            uwsgi.unlock()

    return locked


def thread(function):
    """A call runs in a thread of its own, which it returns."""

    @functools.wraps(function)
    def started(*args, **kwargs):
        runs = threading.Thread(target=function, args=args, kwargs=kwargs, daemon=True)
        runs.start()
        return runs

    return started


_ELSEWHERE = {
    "spool": "use a task queue, Celery or RQ say",
    "mule": "run it as a process of its own",
    "farm": "run it as a process of its own",
    "timer": "use a timer of systemd, or cron",
    "mstimer": "use threading.Timer",
    "rbtimer": "use a timer of systemd, or cron",
    "cron": "use a timer of systemd, or cron",
    "filemon": "use a path unit of systemd",
    "signal": "use a timer of systemd, or a task queue",
    "rpc": "call it by HTTP",
    "harakiri": "wsgi_request_timeout in the configuration",
}


def __getattr__(name):
    fits = [start for start in _ELSEWHERE if name.startswith(start)]
    if name.startswith("__") or not fits:
        raise AttributeError(f"module 'uwsgidecorators' has no attribute {name!r}")
    raise AttributeError(f"uwsgidecorators.{name} is not here: {_ELSEWHERE[max(fits, key=len)]}")
