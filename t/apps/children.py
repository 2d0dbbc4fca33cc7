"""Processes that an application starts: subprocess, os.system, os.fork."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

from record import record

FORK = multiprocessing.get_context("fork")
kept = []


def codes(environ):
    """Exit statuses of fifty children, in three ways."""
    found = [subprocess.run(["sh", "-c", f"exit {n % 7}"]).returncode == n % 7 for n in range(50)]
    found += [os.waitstatus_to_exitcode(os.system("exit 3")) == 3 for _ in range(5)]
    pids = [os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], {}) for _ in range(5)]
    found += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5 for pid in pids]
    return f"{sum(found)} of {len(found)}"


def output(environ):
    return subprocess.check_output(["sh", "-c", "echo hello; echo oops >&2"]).decode().strip()


def descriptors(environ):
    subprocess.run(["sh", "-c", "echo to its standard error >&2; echo to its standard output"])
    subprocess.run(["echo", "to its standard output, sent there"], stdout=2)
    return ""


def terminate(environ):
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    return str(child.wait(10))


def timeout(environ):
    try:
        subprocess.run(["sleep", "60"], timeout=0.2)
    except subprocess.TimeoutExpired as error:
        return type(error).__name__
    return "no timeout"


def signals(environ):
    """Blocked and ignored signals of a child, as its /proc shows them."""
    text = subprocess.check_output(["cat", "/proc/self/status"]).decode()
    return " ".join(line for line in text.split("\n") if line.startswith("SigBlk"))


def keep(environ):
    """A child that inherits every descriptor and outlives the request."""
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    return str(child.pid)


def system(environ):
    """os.system() inherits descriptors too."""
    path = os.environ["EVENTS"] + ".fds"
    os.system(f"ls -l /proc/self/fd > {path}")
    with open(path) as file:
        return file.read()


def executable(environ):
    code = f"import sys; print(sys.version_info[:2] == {sys.version_info[:2]!r})"
    return subprocess.check_output([sys.executable, "-c", code]).decode().strip()


def pooled(environ):
    """multiprocessing by spawn, the way that starts sys.executable anew."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        return str(pool.map(abs, [-1, -2, -3]))


def negated(number):
    return -number


def pooled_by_default(environ):
    """A function of this module, by what is the default: fork, or forkserver since Python 3.14."""
    with multiprocessing.Pool(2) as pool:
        return str(pool.map(negated, [-1, -2, -3]))


def forked_exit(environ):
    """A forked child keeps the status it leaves with."""
    pid = os.fork()
    if pid == 0:
        os._exit(2)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def forked_return(environ):
    """The child comes back from the application, as after a forgotten _exit."""
    pid = os.fork()
    if pid == 0:
        return "the child"
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    record("child", pid, code)
    return f"child left with {code}"


def forked_raise(environ):
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the child")
    return f"child left with {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def forked_work(environ):
    """A child that works in Python for itself and leaves in the proper way."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"from the child")
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as pipe:
        return pipe.read().decode()


def forked_twice(environ):
    """A child, with what it has opened at the numbers of nginx's descriptors, forks in turn."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
        if os.fork() == 0:
            lost = 0
            for number in opened:
                try:
                    os.fstat(number)
                except OSError:
                    lost += 1
            os.write(writer, f"{lost} of {len(opened)}".encode())
            os._exit(0)
        os.wait()
        os._exit(0)
    os.close(writer)
    os.wait()
    with open(reader, "rb") as pipe:
        return pipe.read().decode()


def forked_keep(environ):
    """A forked child that stays in Python and outlives the request."""
    pid = os.fork()
    while pid == 0:
        signal.pause()
    return str(pid)


def forked_signals(environ):
    """Each signal that nginx has a handler of, sent to a child that has only just been forked."""
    found = []
    for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "IO"):
        number = getattr(signal, f"SIG{name}")
        pid = os.fork()
        while pid == 0:
            signal.pause()
        os.kill(pid, number)
        ended = until_end(pid)
        found.append(ended == -number)
    return f"{sum(found)} of {len(found)}"


def until_end(pid):
    """The exit code of a child; it is killed if it does not come to an end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def forked_mask(environ):
    """Signals that are blocked in a forked child, and in its parent afterwards."""
    found = []
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, repr(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader) as pipe:
        found.append(pipe.read())
    found.append(repr(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))))
    return " ".join(found)


def forked_process(environ):
    child = FORK.Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(10)
    code = child.exitcode
    child.kill()
    return str(code)


def forked_pool(environ):
    """Leaving the block calls terminate()."""
    with FORK.Pool(2) as pool:
        pool.map_async(time.sleep, [60, 60])
    return "gone"


def forked_daemon(environ):
    child = FORK.Process(target=time.sleep, args=(600,), daemon=True)
    child.start()
    kept.append(child)
    return str(child.pid)


def application(environ, start_response):
    text = globals()[environ["PATH_INFO"].rsplit("/", 1)[1]](environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


def streaming_fork(environ, start_response):
    """The child comes back amid the iteration."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first "
    pid = os.fork()
    if pid == 0:
        yield b"from the child"
    else:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        yield f"child left with {code}".encode()


class Forks:
    """A result that forks in one of its steps; the child comes back from it."""

    def __init__(self, at):
        self.at, self.parts = at, 2

    def step(self, name):
        record("asked", os.getpid())
        if name == self.at:
            self.at = None
            pid = os.fork()
            if pid:
                record("forked", pid)

    def __iter__(self):
        self.step("iter")
        return self

    def __next__(self):
        self.step("next")
        if not self.parts:
            raise StopIteration
        self.parts -= 1
        return b"part"

    def close(self):
        self.step("close")


def forks(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Forks(environ["QUERY_STRING"])
