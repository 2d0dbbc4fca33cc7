"""The module uwsgi, for applications that import it. Run by uwsgi.rs, which adds what is about
WebSockets.

What depends on other processes of uWSGI is not here, and says what does the same.

Runs on: any thread of Python.
"""

import atexit as _atexit
import fcntl as _fcntl
import os as _os
import select as _select
import sys as _sys
import threading as _threading
import types as _types

# The API is that of this version.
version = b"2.0.0"
version_info = (2, 0, 0, 0, "")

# See _begin().
_facts, _exchange = {}, None

SPOOL_OK, SPOOL_RETRY, SPOOL_IGNORE = -2, -1, 0

_ELSEWHERE = {
    "cache": "keep it in Redis or memcached, for which frameworks have caches",
    "queue": "keep it in Redis",
    "sharedarea": "use multiprocessing.shared_memory",
    "spool": "use a task queue, Celery or RQ say",
    "send_to_spooler": "use a task queue, Celery or RQ say",
    "set_spooler": "use a task queue, Celery or RQ say",
    "mule": "run it as a process of its own",
    "farm": "run it as a process of its own",
    "in_farm": "run it as a process of its own",
    "install_mule": "run it as a process of its own",
    "add_timer": "use a timer of systemd, or cron",
    "add_ms_timer": "use threading.Timer",
    "add_rb_timer": "use a timer of systemd, or cron",
    "add_cron": "use a timer of systemd, or cron",
    "add_file_monitor": "use a path unit of systemd",
    "signal": "use a timer of systemd, or a task queue",
    "register_signal": "use a timer of systemd, or a task queue",
    "rpc": "call it by HTTP",
    "register_rpc": "call it by HTTP",
    "call": "call it by HTTP",
    "metric": "use prometheus_client",
    "snmp": "use prometheus_client",
    "alarm": "log it at level crit",
    "reload": "the server is reloaded from outside",
    "stop": "the server is stopped from outside",
    "sendfile": "return environ['wsgi.file_wrapper'](file)",
    "chunked_read": "read environ['wsgi.input']",
    "set_user_harakiri": "wsgi_request_timeout in the configuration",
    "request_context": "it is in uWSGI 2.1 only; functions act on the request of their thread",
    "websocket_send_from_sharedarea": "use websocket_send",
    "websocket_send_binary_from_sharedarea": "use websocket_send_binary",
    "send": "use the module socket",
    "recv": "use the module socket",
    "connect": "use the module socket",
    "is_connected": "use the module socket",
    "close": "use the module socket",
    "async": "use threads",
    "wait_fd_write": "use the module select",
    "setprocname": "a worker's title is the server's",
    "add_var": "use an environ key",
    "route": "use the server's locations",
}


class _Module(_types.ModuleType):
    """Names that uWSGI has and this module has not raise an AttributeError that says more."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(f"module 'uwsgi' has no attribute {name!r}")
        # The longest is meant: send_to_spooler is more than send.
        fits = [start for start in _ELSEWHERE if name.startswith(start)]
        text = _ELSEWHERE[max(fits, key=len)] if fits else "see the table in docs/migrating.md"
        raise AttributeError(f"uwsgi.{name} is not here: {text}")

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        # The fork was before the application was loaded.
        if name == "post_fork_hook" and callable(value):
            value()


def _begin(facts, request):
    """What the configuration says, and what tells the request of the calling thread."""
    globals().update(
        _facts=facts,
        _exchange=request,
        numproc=facts["processes"],
        opt={
            "enable-threads": b"true",
            "lazy-apps": b"true",
            "master": b"true" if facts["has_master"] else b"false",
            "processes": str(facts["processes"]).encode(),
            "threads": str(facts["threads"]).encode(),
        },
    )
    _sys.modules[__name__].__class__ = _Module
    _atexit.register(_leave)


def worker_id():
    """The number of this worker, from 1."""
    return _facts["worker"]


def masterpid():
    """The master's process; 0 without one."""
    return _os.getppid() if _facts["has_master"] else 0


def workers():
    """What is known of this worker; a worker knows nothing of the others."""
    return ({"id": worker_id(), "pid": _os.getpid()},)


def mule_id():
    return 0


def i_am_the_spooler():
    return None


def log(text):
    """A line where print() writes."""
    print(text)
    return True


def _leave():
    # Assigned by the application, as uWSGI has it.
    if callable(function := globals().get("atexit")):
        function()


class _Lock:
    """For threads of this process by the one lock, for other workers by the other."""

    def __init__(self, number):
        self.number, self.threads = number, _threading.Lock()

    def file(self, operation):
        if (file := _facts["lock_file"]) is not None:
            _fcntl.lockf(file, operation, 1, self.number)

    def acquire(self):
        self.threads.acquire()
        try:
            self.file(_fcntl.LOCK_EX)
        except BaseException:
            self.threads.release()
            raise

    def release(self):
        self.file(_fcntl.LOCK_UN)
        self.threads.release()

    def locked(self):
        if not self.threads.acquire(blocking=False):
            return True
        try:
            self.file(_fcntl.LOCK_EX | _fcntl.LOCK_NB)
            self.file(_fcntl.LOCK_UN)
        except OSError:
            return True
        finally:
            self.threads.release()
        return False


_locks = [_Lock(number) for number in range(8)]


def _lock(number):
    if not 0 <= number < len(_locks):
        raise ValueError("Invalid lock number")
    return _locks[number]


def lock(number=0):
    """Wait until no thread of any worker has the lock, and take it."""
    _lock(number).acquire()


def unlock(number=0):
    _lock(number).release()


def is_locked(number=0):
    return _lock(number).locked()


class _Request(_threading.local):
    """What the request of a thread has asked for."""

    def __init__(self):
        self.id, self.logvars, self.waits, self.ready = None, {}, {}, -1


_request = _Request()


def _own():
    # A thread serves one request after the other.
    exchange = _exchange()
    if _request.id != exchange:
        _request.__init__()
        _request.id = exchange
    return _request


def _bytes(text):
    return text.encode() if isinstance(text, str) else bytes(text)


def set_logvar(key, value):
    """Keep a value for get_logvar()."""
    _own().logvars[_bytes(key)] = _bytes(value)


def get_logvar(key):
    return _own().logvars.get(_bytes(key))


def wait_fd_read(fd, timeout=0):
    """suspend() waits until the descriptor is readable, or for so many seconds."""
    _own().waits[fd] = timeout
    return b""


def suspend():
    """Wait for what wait_fd_read() has named; ready_fd() says what it was."""
    request = _own()
    waits, request.waits, request.ready = request.waits, {}, -1
    if not waits:
        return True
    poll = _select.poll()
    for fd in waits:
        poll.register(fd, _select.POLLIN)
    seconds = [timeout for timeout in waits.values() if timeout > 0]
    ready = poll.poll(min(seconds) * 1000 if seconds else None)
    if ready:
        request.ready = ready[0][0]
    return True


green_schedule = suspend


def ready_fd():
    """The descriptor that suspend() found readable; -1 if none was in time."""
    return _own().ready
