"""One nginx of a test: its processes, its log, what it leaves behind."""

import fcntl
import os
import shutil
import signal
import subprocess

from . import http, procs
from .config import Config
from .errorlog import ErrorLog
from .poll import until


class Gate:
    """Holds back applications that call gate.wait(name) until open() is called."""

    def __init__(self, path):
        self.file = open(path, "w")
        os.chmod(path, 0o644)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def open(self):
        self.file.close()


class Nginx(Config):
    def __init__(self, **options):
        super().__init__(**options)
        self.log = ErrorLog(f"{self.dir}/error.log")
        self.process = None
        self.pid = None
        self.sessions = set()
        self.gates = []
        self.connections = []

    def start(self):
        self.write_config()
        self.spawn()
        return self

    def spawn(self):
        # Its own session: whatever nginx or an application leaves behind is found by it.
        self.process = subprocess.Popen(
            self.command("-e", f"{self.dir}/error.log"), stdin=subprocess.DEVNULL,
            stdout=open(f"{self.dir}/stdout", "ab"), stderr=open(f"{self.dir}/stderr", "ab"),
            start_new_session=True,
        )
        self.sessions.add(self.process.pid)
        if self.daemon:
            assert self.process.wait(30) == 0, self.trouble()
        until(self._is_up, 20, "nginx is up")
        return self

    def _is_up(self):
        if not self.daemon and self.process.poll() is not None:
            raise AssertionError(f"nginx ended with {self.process.returncode}\n{self.trouble()}")
        pid = self.read_pid()
        if not pid or not procs.alive(pid):
            return False
        self.pid = pid
        self.sessions.add(procs.session(pid))
        return not self.master_on or len(self.workers()) == self.workers_wanted

    def trouble(self):
        with open(f"{self.dir}/stderr", errors="replace") as file:
            return file.read() + "\n".join(self.log.lines()[-30:])

    def read_pid(self, name="nginx.pid"):
        try:
            with open(f"{self.dir}/{name}") as file:
                return int(file.read() or 0)
        except FileNotFoundError:
            return 0

    def workers(self, shutting_down=False, of=None):
        """Pids of worker processes; those that are leaving only when asked."""
        if not self.master_on:
            return [self.pid] if procs.alive(self.pid) else []
        found = []
        for pid in procs.children(of or self.pid):
            line = procs.title(pid)
            if line.startswith("nginx: worker process"):
                if shutting_down or "shutting down" not in line:
                    found.append(pid)
        return sorted(found)

    def worker(self):
        (pid,) = self.workers()
        return pid

    def wait_respawn(self, old, timeout=10):
        """Wait until another worker has replaced old."""
        return until(
            lambda: [pid for pid in self.workers() if pid != old] or None, timeout,
            f"a worker in place of {old}",
        )[0]

    def signal(self, name, pid=None):
        os.kill(pid or self.pid, getattr(signal, f"SIG{name}"))

    def reload(self, gone=False, timeout=15, **changes):
        """HUP, then wait for new workers and, if gone, until the old ones are forgotten."""
        self.write_config(**changes)
        old = set(self.workers(shutting_down=True))
        self.signal("HUP")
        until(
            lambda: len(set(self.workers()) - old) == self.workers_wanted
            and not old & set(self.workers()),
            timeout, "new workers after the reload",
        )
        if gone:
            # The master has waited for them, and then closes its channels to them.
            until(lambda: not any(map(procs.stat, old)), timeout, "the old workers' end")
            self.settle()
        return old

    def reopen(self):
        self.signal("USR1")

    def quit(self, timeout=15):
        return self.end("QUIT", timeout)

    def stop(self, timeout=15):
        return self.end("TERM", timeout)

    def end(self, name, timeout=15):
        """Send the signal and wait for every process to be gone."""
        if self.pid and procs.alive(self.pid):
            self.signal(name)
        pid = self.pid
        # poll() reaps the process we started, else it stays a zombie of ours.
        until(lambda: (self.process.poll(), not procs.alive(pid))[1], timeout, "nginx's end")
        self.pid = None
        # Its first thread is a zombie; the others may take a moment longer.
        return self.process.wait(5) if self.process.pid == pid else self.process.poll()

    # -- what a test asks of it

    def connect(self, port=None, **options):
        """A connection that is closed before nginx is asked to leave."""
        connection = http.Connection(port or self.port, **options)
        self.connections.append(connection)
        return connection

    def ask(self, path, *args, method="GET", port=None, tls=False, rcvbuf=None, **options):
        """A connection with this request on it, the answer not read; the rest as for build()."""
        connection = self.connect(port, tls=tls, rcvbuf=rcvbuf)
        connection.send(http.build(method, path, *args, **options))
        return connection

    def get(self, path, **options):
        return http.request(options.pop("port", self.port), "GET", path, **options)

    def post(self, path, body=b"", **options):
        return http.request(options.pop("port", self.port), "POST", path, body=body, **options)

    def ready(self, path):
        """Wait until the application of this path is loaded, and so all that nginx.conf has before.

        Till then a request waits, for as long as one may be silent or in the queue there.
        """
        until(lambda: self.get(path).status == 200, 20, f"an answer for {path}")
        return self

    def barrier(self):
        """An answer of a single worker: it has seen everything that was sent before."""
        assert self.get("/static").body == b"static"

    def settle(self, timeout=10.0):
        """Wait until nothing runs in master and workers: what was sent before is dealt with.

        An application that sleeps in its import or in a request counts as nothing that runs.
        """

        def quiet():
            pids = [self.pid, *self.workers(shutting_down=True)]
            turns = procs.at_rest(pids)
            # Two looks: a thread that sleeps at the first may be woken by one that runs then.
            return turns is not None and turns == procs.at_rest(pids)

        until(quiet, timeout, "master and workers at rest")

    def gate(self, name):
        gate = Gate(f"{self.dir}/gates/{name}")
        self.gates.append(gate)
        return gate

    def events(self, prefix=""):
        try:
            with open(f"{self.dir}/events") as file:
                return [line for line in file.read().split("\n")[:-1] if line.startswith(prefix)]
        except FileNotFoundError:
            return []

    def wait_event(self, prefix, count=1, timeout=10):
        def enough():
            found = self.events(prefix)
            return found if len(found) >= count else None

        try:
            return until(enough, timeout, f"{count} event(s) {prefix!r}")
        except AssertionError as error:
            tail = "\n".join(self.log.lines()[-20:])
            raise AssertionError(f"{error}; seen: {self.events()[-20:]}\n{tail}") from None

    def fd_count(self, pid=None):
        """Open descriptors but for links to other workers, which stay for the next request."""
        # Listed once: what is opened between two looks would be in one of them only.
        targets = procs.fds(pid or self.worker()).values()
        return len(targets) - procs.links(targets)

    def expect_alert(self, pattern):
        self.log.expect(pattern)

    def allow_alert(self, pattern):
        self.log.allow(pattern)

    # -- the end of a test

    def finish(self):
        """Quit, look for anything left behind, clean up; the faults found, as text."""
        faults = []
        for gate in self.gates:
            gate.open()
        for connection in self.connections:
            connection.close()
        if self.pid and procs.alive(self.pid):
            faults += self.open_bodies()
            try:
                self.quit()
            except AssertionError as error:
                faults.append(str(error))
        faults += self.log.alerts()
        faults += [f"expected in the error log: {pattern}" for pattern in self.log.missing()]
        faults += self.kill_left()
        if os.environ.get("TEST_NGINX_CATLOG"):
            print(self.log.text())
        if not os.environ.get("TEST_NGINX_LEAVE"):
            shutil.rmtree(self.dir, ignore_errors=True)
        else:
            print(f"left in place: {self.dir}")
        return faults

    def open_bodies(self):
        """Temporary files of bodies that a worker still has open."""

        def found():
            files = [target for pid in self.workers() for target in procs.fds(pid).values()]
            return [to for to in files if to.startswith((f"{self.dir}/body/", f"{self.dir}/wsgi/"))]

        try:
            until(lambda: not found(), 5)
        except AssertionError:
            return [f"leaked descriptor: {target}" for target in found()]
        return []

    def kill_left(self):
        # A process that was just waited for may need a moment to leave /proc, and a helper that
        # reads the end of its pipe (multiprocessing's resource tracker) one to end.
        left = procs.belonging_to(self.sessions, self.dir)
        if left:
            try:
                until(lambda: not any(map(procs.alive, left)), 5)
            except AssertionError:
                pass
        left = [pid for pid in left if procs.alive(pid)]
        faults = [f"left process {pid}: {procs.cmdline(pid)}" for pid in left]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                faults.append("nginx did not end after SIGKILL")
        return faults
