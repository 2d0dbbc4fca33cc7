"""What is clearer in Python than in Rust. Loaded once by interpreter.rs, after the start.

Runs on: the thread that starts Python (paths, wrap_exit, dump_stacks_on), pool threads (the rest).
"""

import atexit
import faulthandler
import importlib.util
import linecache
import os
import posix
import site
import sys
import threading
import traceback

_loading = threading.RLock()

# For conflict.py: what the configuration says. The environment is that of wsgi_env here.
configured = []
settings_given = "DJANGO_SETTINGS_MODULE" in os.environ


def paths(chdir, entries):
    """Put chdir and the entries, with what their .pth files name, in front of sys.path."""
    front = [os.path.abspath(chdir)] if chdir else []
    for entry in map(os.path.abspath, entries):
        before = set(sys.path)
        site.addsitedir(entry)
        front.append(entry)
        front.extend(path for path in sys.path if path not in before)
    configured[:] = front
    rest = [os.path.abspath(path) for path in sys.path]
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


def dump_stacks_on(signum, fd):
    """Let the C handler of faulthandler write all stacks: it needs no GIL."""
    faulthandler.register(signum, file=fd, all_threads=True, chain=False)


def load_file(name, path):
    """Import a file as module `name`; a failed import leaves nothing behind."""
    with _loading:
        module = sys.modules.get(name)
        if module is None:
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                sys.modules.pop(name, None)
                raise
        return module


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


def format_stack(found):
    """The same as text; reads the sources, during which the thread may go on."""
    lines = []
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


def _join_threads():
    """threading._shutdown, on a thread that is not the main one, which never ends here."""
    lock = getattr(threading.main_thread(), "_tstate_lock", None)
    # Up to Python 3.12 it would wait for this lock for ever.
    getattr(threading, "_shutdown_locks", set()).discard(lock)
    getattr(threading, "_shutdown", int)()


def leave():
    """What the end of an interpreter does for the application; yields what went wrong."""
    flush = (lambda: sys.stdout.flush(), lambda: sys.stderr.flush())
    for step in (_join_threads, atexit._run_exitfuncs, *flush):
        try:
            step()
        except BaseException as exc:
            yield exc
