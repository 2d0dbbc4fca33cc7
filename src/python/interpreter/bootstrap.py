"""What is clearer in Python than in Rust. Loaded once by interpreter.rs, after the start.

Runs on: the main thread, which starts Python, imports and leaves; pool threads and the watchdog.
"""

import atexit
import faulthandler
import functools
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import posix
import signal
import site
import sys
import threading
import time
import traceback

# What the application does to the module time later changes nothing here.
monotonic = time.monotonic

# Files that wsgi_app names, by the names of their modules.
_files = {}

# Set by bootstrap.rs: the packages that come with the server, as texts by their names, and the text
# of spawned.py.
packages, spawned = {}, ""

# For conflict.py: what the configuration says. The environment is that of wsgi_env here.
configured = []
settings_given = "DJANGO_SETTINGS_MODULE" in os.environ


def paths(chdir, entries):
    """Put chdir and the entries, with what their .pth files name, in front of sys.path."""
    # Where a link leads may change, to the next release: what is imported later is of this one.
    front = [os.path.realpath(chdir)] if chdir else []
    for entry in map(os.path.realpath, entries):
        before = set(sys.path)
        site.addsitedir(entry)
        front.append(entry)
        front.extend(path for path in sys.path if path not in before)
    configured[:] = front
    rest = [os.path.realpath(path) for path in sys.path]
    sys.path[:] = dict.fromkeys(front + rest)


def wrap_exit():
    """Exit status 2 makes the server never start a worker again; forked children may use it."""
    worker, getpid, leave = os.getpid(), os.getpid, os._exit

    def _exit(status):
        """Exit to the system with specified status, without normal exit processing."""
        if getpid() == worker and isinstance(status, int) and status & 0xFF == 2:
            status = 70
        leave(status)

    os._exit = posix._exit = _exit


def wrap_signal(log):
    """Signals of a worker are nginx's: signal.signal() installs nothing. Forked children may."""
    worker, getpid, install = os.getpid(), os.getpid, signal.signal

    @functools.wraps(install)
    def ignored(signalnum, handler):
        if getpid() != worker:
            return install(signalnum, handler)
        # Raises what the real one does.
        before = signal.getsignal(signalnum)
        if not callable(handler) and handler not in (signal.SIG_DFL, signal.SIG_IGN):
            raise TypeError(
                "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object"
            )
        caller = sys._getframe(1)
        log(
            f"signal.signal({signalnum!s}) has no effect in a worker, whose signals are nginx's, "
            f"in {caller.f_code.co_filename}:{caller.f_lineno}"
        )
        return before

    signal.signal = ignored


def keep_zone():
    """wsgi_tzset off. C reads TZ of its environment by itself, in mktime() for example."""

    def keeping(change, names):
        @functools.wraps(change)
        def changed(key, *value):
            if os.fsencode(key) not in names:
                change(key, *value)

        return changed

    # os.environ calls both by these names.
    os.putenv = keeping(os.putenv, {b"TZ"})
    os.unsetenv = keeping(os.unsetenv, {b"TZ"})
    time.tzset = functools.wraps(time.tzset)(lambda: None)


def zone():
    """The time zone of the process, with what it has for the other half of the year."""
    now = time.time()
    # Not by strftime(), which would have C look at TZ.
    return [(t.tm_zone, t.tm_gmtoff) for t in map(time.localtime, (now, now + 15778800))]


def zone_moved(before):
    """What has become of the time zone since zone(), in words; None if it is the same."""
    after = zone()
    if after != before:
        old, new = (" and ".join(f"{n} (UTC{a / 3600:+g})" for n, a in dict.fromkeys(each))
                    for each in (before, after))
        return f"from {old} to {new}"
    return None


def dump_stacks_on(signum, fd):
    """Let the C handler of faulthandler write all stacks: it needs no GIL."""
    faulthandler.register(signum, file=fd, all_threads=True, chain=False)


def name_thread(name):
    """What threading, and with it logging, calls the calling thread."""
    threading.current_thread().name = name


@functools.cache
def _finder():
    """The finder of spawned.py, which children of multiprocessing get too."""
    space = {"source": spawned, "files": _files, "packages": packages, "__name__": "_wsgi_spawned"}
    exec(spawned, space)
    return space["Finder"]


class _Packages:
    """Finds what comes with the server where nothing of the name is installed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        # Nothing is imported here: a lock is held that every other import may wait for.
        if name in packages:
            return importlib.machinery.ModuleSpec(name, _Packages, origin=f"<{name}>")
        return None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        _finder().find_spec(module.__name__).loader.exec_module(module)

    @staticmethod
    def get_source(name):
        return packages[name]


def bring_packages(log):
    """What comes with the server can be imported, and log() is in _nginx_wsgi for it."""
    inside = type(sys)("_nginx_wsgi", "What nginx does for the package nginx_wsgi.")
    inside.log = log
    sys.modules[inside.__name__] = inside
    sys.meta_path.append(_Packages)


class _Loader(importlib.machinery.SourceFileLoader):
    """Reads a source whatever its name, and has no compiled file: that of site.wsgi would be that
    of site.py beside it."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        try:
            # Nothing is done with it here, but development.py watches the files that are asked for.
            self.path_stats(path)
        except OSError:
            pass
        return self.source_to_code(self.get_data(path), path)


def load_file(name, path):
    """Import a file as module `name`; a failed import leaves nothing behind."""
    module = sys.modules.get(name)
    if module is None:
        # As in paths(); the file itself may be a link for good.
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        _finder()
        _files[name] = path
        spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return module


def load_paste(path, name):
    """The application `name` of a file of PasteDeploy, whose logging is set up as pserve does."""
    try:
        from paste.deploy import loadapp
    except ModuleNotFoundError as exc:
        if exc.name not in ("paste", "paste.deploy"):
            raise
        raise ImportError(f"{path} needs PasteDeploy, which is not installed") from None
    import configparser
    import logging.config
    from urllib.parse import quote

    parser = configparser.RawConfigParser()
    with open(path, encoding="utf-8") as file:
        parser.read_file(file)
    if parser.has_section("loggers"):
        given = {"__file__": path, "here": os.path.dirname(path)}
        logging.config.fileConfig(path, given, disable_existing_loggers=False)
    return loadapp("config:" + quote(path), name=name)


def is_asgi(app):
    """Whether a callable is an ASGI application, and cannot be one of WSGI.

    What is called returns a coroutine, which is no iterable of chunks; or it does not take two
    arguments, and names those that it does take as ASGI has them.
    """
    if isinstance(app, type):
        # An instance is the result. ASGI 2: it is called in turn, WSGI: it is iterated over.
        plain = type(app).__call__ is type.__call__ and app.__new__ is object.__new__
        iterable = hasattr(app, "__iter__") or hasattr(app, "__getitem__")
        return plain and not iterable and _is_async(getattr(app, "__call__", None))
    if _is_async(app) or _is_async(getattr(type(app), "__call__", None)):
        return True
    if inspect.ismethod(app):
        return _names(app.__func__)[1:] in _ASGI
    if inspect.isfunction(app):
        return _names(app) in _ASGI
    return _names(inspect.getattr_static(type(app), "__call__", None))[1:] in _ASGI


_ASGI = (("scope",), ("scope", "receive", "send"))


def _is_async(function):
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _names(function):
    """The arguments of a function that must be called with all of them, and with no more."""
    if not inspect.isfunction(function) or function.__defaults__:
        return ()
    code = function.__code__
    return () if code.co_flags & inspect.CO_VARARGS else code.co_varnames[:code.co_argcount]


def format_exception(exc, tb):
    """The traceback as one str, without this module and the import machinery below it."""
    while tb is not None and tb.tb_frame.f_code.co_filename in _OURS:
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(exc), exc, tb))


def stack(ident):
    """Where a thread is: code and line of each frame, the innermost last."""
    frame, found = sys._current_frames().get(ident), []
    while frame is not None:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]


def main_stack():
    """The same of the main thread."""
    return stack(threading.main_thread().ident)


def format_stack(found, depth=None):
    """The innermost frames of the same as text; reads the sources, during which the thread may go on.
    """
    lines, left = [], len(found) - (depth or len(found))
    if left > 0:
        lines.append(f"  ({left} outer frame{'s' * (left > 1)} left out)\n")
        found = found[left:]
    for code, number in found:
        lines.append(f'  File "{code.co_filename}", line {number}, in {code.co_name}\n')
        if text := linecache.getline(code.co_filename, number or 0).strip():
            lines.append(f"    {text}\n")
    return "".join(lines)


_OURS = {
    __file__,
    importlib.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
}


def _end_threads(until):
    """threading._shutdown(), whose wait for threads that are no daemons would have no end."""
    try:
        # It has nothing to wait for: up to Python 3.12 by this set, since then by this function.
        if hasattr(threading, "_shutdown_locks"):
            with threading._shutdown_locks_lock:
                threading._shutdown_locks.clear()
        elif hasattr(threading, "_thread_shutdown"):
            threading._thread_shutdown = int
        threading._shutdown()
    finally:
        own = (threading.main_thread(), threading.current_thread())
        for thread in threading.enumerate():
            if thread.daemon or thread in own:
                continue
            thread.join(max(0, until - monotonic()))
            if thread.is_alive():
                yield f"thread {thread.name!r} of the application has not ended in time"


def leave(seconds):
    """What the end of an interpreter does for the application; yields what went wrong.

    Other threads are waited for during so many seconds.
    """
    until = monotonic() + seconds
    try:
        yield from _end_threads(until)
    except BaseException as exc:
        yield exc
    for step in (atexit._run_exitfuncs, lambda: sys.stdout.flush(), lambda: sys.stderr.flush()):
        try:
            step()
        except BaseException as exc:
            yield exc
