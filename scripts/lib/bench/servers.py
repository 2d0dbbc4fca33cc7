"""The servers that are compared, set up as in production, with the same processes and threads.

Where a peer has a choice it has the faster one: gunicorn and granian keep nginx's connections.
"""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import load
from bench.figures import KEYS
from bench.nginx import Config
from bench.processes import Family
from common.nginx import FORCED, command
from common.ports import free_port

STARTING = 30
# Where the floor is in the nginx of the row bare.
FLOOR = "/floor"


class Server:
    """One way to serve an application. run() starts its processes in self.directory."""

    peer = ""  # what has to be installed (peers.py); empty: nothing
    fewer_threads = False
    in_nginx = False

    def __init__(self, name, site, options):
        self.name = name
        self.site = site
        self.processes = options.processes
        self.threads = 1 if self.fewer_threads else options.threads
        self.connections = max(1024, 4 * options.connections)
        self.reuseport = options.reuseport
        self.family = Family()
        self.directory = site.subdirectory(name)
        site.subdirectory(f"{name}/tmp")
        self.port = self.h2_port = None

    @property
    def log(self):
        return self.directory / "output.log"

    @property
    def socket(self):
        return self.directory / "socket"

    def launch(self, command, **options):
        self.family.start(command, self.log, self.site.environ_of_python(), **options)

    def config(self, **module):
        return Config(self.port, h2_port=self.h2_port, workers=self.processes,
                      connections=self.connections, reuseport=self.reuseport, **module)

    def nginx(self, config, environ=()):
        config.write(self.directory)
        self.family.start(command(self.directory), self.log, environ)

    def proxy(self):
        """nginx in front of a server that speaks HTTP on the socket."""
        config = self.config()
        config.proxy(self.socket)
        self.nginx(config)

    def run(self, case):
        raise NotImplementedError

    def expected(self, case):
        """The body of the right answer."""
        return self.site.answer(case)

    def start(self, case):
        """Starts it and returns when it has answered the case's request rightly."""
        self.port = free_port()
        self.h2_port = free_port() if case.h2 else None
        for name in ("output.log", "error.log", "workers.log", "socket"):
            (self.directory / name).unlink(missing_ok=True)
        self.run(case)
        end = time.monotonic() + STARTING
        while True:
            if ended := self.family.ended():
                raise load.Wrong(f"has ended with status {ended.returncode}{self.last_words()}")
            try:
                status, body = load.fetch(self.port, case, timeout=10)
            except OSError as error:
                status, body, why = None, b"", f"{type(error).__name__}: {error}"
            # A front is up before what is behind it.
            if status not in (None, 502, 503):
                break
            if time.monotonic() > end:
                why = why if status is None else f"status {status}"
                raise load.Wrong(f"does not answer: {why}{self.last_words()}")
            time.sleep(0.05)
        self.check(case, status, body)

    def check(self, case, status, body):
        if status != 200:
            raise load.Wrong(f"status {status}{self.last_words()}")
        expected = self.expected(case)
        if case.stable(body) != case.stable(expected):
            raise load.Wrong(f"a wrong answer, {len(body)} bytes for {len(expected)}:"
                             f" {body[:80]!r}{self.last_words()}")

    def last_words(self):
        lines = []
        for log in (self.log, self.directory / "error.log"):
            if log.exists():
                lines += log.read_text(errors="replace").splitlines()[-5:]
        return "".join(f"\n    {line}" for line in lines)

    def warm_up(self, wrk):
        wrk.warm_up(self)

    def measure(self, wrk, seconds, least):
        """The figures of one round."""
        return wrk.measure(self, seconds, least)

    def of_loop(self, microseconds, switches, requests):
        """Figures of the event loops, for a server that consists of nothing else but nginx."""
        shared = self.in_nginx and requests
        return {"loop_us": microseconds / requests if shared else None,
                "loop_switches": switches / requests if shared else None}

    def stop(self):
        self.family.stop()


class Floor(Server):
    """`return 200`, or for the cases of 1 MiB a file."""

    in_nginx = True

    def run(self, case):
        config = self.config()
        config.floor(config.location, self.site, case.floor)
        self.nginx(config)

    def expected(self, case):
        return load.HELLO if case.floor == "return" else self.site.large


class FloorFile(Floor):
    """As many bytes, read from a file that is open and in memory, without sendfile."""

    aio = "off"

    def run(self, case):
        if case.floor == "file" or case.post:
            raise load.Wrong(f"is not for the case {case.name}")
        config = self.config()
        config.main.add("thread_pool", "default", f"threads={self.threads}")
        for directive in (("root", self.site.files), ("try_files", "/small", "=404"),
                          ("open_file_cache", "max=10"), ("open_file_cache_valid", "1h"),
                          ("sendfile", "off"), ("aio", self.aio)):
            config.location.add(*directive)
        self.nginx(config)


class FloorThreads(FloorFile):
    """By a thread of nginx's own pool: what nginx takes for handing a task over and back."""

    aio = "threads"


class Module(Server):
    directives = ()
    in_nginx = True

    def run(self, case):
        config = self.config(module=self.site.module, threads=self.threads, counted=case.counted)
        environ = {**self.site.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        config.application(case.target, self.site, environ)
        for directive in self.directives:
            config.http.add(*directive)
        self.nginx(config)

    def handed_over(self):
        """The share of the requests since its start that another worker has run, when it has
        ended. The access log names that one behind a comma."""
        lines = (self.directory / "workers.log").read_text().splitlines()
        return sum("," in line for line in lines) / len(lines) if lines else None


class ModuleOff(Module):
    """Each worker runs what it has accepted."""

    directives = (("wsgi_balance", "off"),)


class ModulePinned(Module):
    """The event loop of each worker and its threads share one processor."""

    def config(self, **module):
        config = super().config(**module)
        config.main.add("worker_cpu_affinity", "auto")
        return config


class ModuleForced(Module):
    """Another worker runs each request."""

    def nginx(self, config, environ=()):
        super().nginx(config, FORCED | dict(environ))


class Bare(Module):
    """The application called in a loop by a thread of the module, while the load generator loads
    the floor of the same nginx."""

    def run(self, case):
        self.case = case
        config = self.config(module=self.site.module, threads=self.threads)
        environ = {**self.site.environ, "PYTHONDONTWRITEBYTECODE": "1",
                   "BENCH_TARGET": case.target}
        config.application("bench_bare:application", self.site, environ)
        config.floor(config.site.block("location", f"= {FLOOR}"), self.site, case.floor)
        self.nginx(config)

    def warm_up(self, wrk):
        self.measure(wrk, load.WARM_UP, 0)

    def measure(self, wrk, seconds, least):
        with ThreadPoolExecutor(1) as others:
            floor = others.submit(wrk.run, self, seconds, FLOOR)
            status, body = load.fetch(self.port, self.case, seconds + 30,
                                      {"X-Bare-Seconds": str(seconds)})
            floor.result()
        if status != 200:
            raise load.Wrong(f"status {status}{self.last_words()}")
        found = json.loads(body)
        calls = found["calls"]
        return {
            "requests": calls, "cpu_us": found["nanoseconds"] / 1000 / calls, "errors": {},
            # Of one thread, without clients.
            **dict.fromkeys(key for key in KEYS if key != "cpu_us"),
        }


class ModuleBuiltPython(Module):
    """The same binary with the library of scripts/build-python in place of Debian's."""

    def nginx(self, config, environ=()):
        super().nginx(config, {"LD_LIBRARY_PATH": str(self.site.libpython), **dict(environ)})

    def start(self, case):
        if not any(self.site.libpython.iterdir()):
            raise load.Wrong("scripts/build-python has not been run")
        super().start(case)
        used = [maps for pid in self.family.pids() if "libpython" in (maps := read_maps(pid))]
        if not used or not all(str(self.site.libpython) in maps for maps in used):
            raise load.Wrong("runs with another library")


def read_maps(pid):
    return Path(f"/proc/{pid}/maps").read_text()


class ModuleOneThread(Module):
    fewer_threads = True


class Uwsgi(Server):
    peer = "uwsgi"

    def run(self, case):
        backlog = min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text()))
        settings = [
            "[uwsgi]", "master = true", f"processes = {self.processes}", "thunder-lock = true",
            f"socket = {self.socket}", "chmod-socket = 600", f"listen = {backlog}",
            f"home = {self.site.venv}", f"module = {case.target}", "need-app = true",
            "disable-logging = true", "die-on-term = true", "vacuum = true",
            *(f"pythonpath = {path}" for path in self.site.python_path),
        ]
        if self.threads > 1:
            settings.append(f"threads = {self.threads}")
        (self.directory / "uwsgi.ini").write_text("\n".join(settings) + "\n")
        self.launch([self.site.program("uwsgi"), "--ini", self.directory / "uwsgi.ini"])
        config = self.config()
        config.uwsgi(self.socket)
        self.nginx(config)


class UwsgiOneThread(Uwsgi):
    fewer_threads = True


class Gunicorn(Server):
    peer = "gunicorn"

    def run(self, case):
        self.launch([
            self.site.program("gunicorn"), "--worker-class=gthread", f"--workers={self.processes}",
            f"--threads={self.threads}", f"--bind=unix:{self.socket}", "--backlog=1024",
            f"--worker-connections={max(1024, 2 * self.threads)}", "--keep-alive=600",
            "--no-control-socket", case.target,
        ])
        self.proxy()


class Granian(Server):
    peer = "granian"

    def listen(self):
        return ["--host=127.0.0.1", f"--port={self.port}"]

    def run(self, case):
        self.launch([
            self.site.program("granian"), "--interface=wsgi", "--http=1", "--no-ws",
            "--log-level=warning", f"--workers={self.processes}",
            f"--blocking-threads={self.threads}", "--backlog=1024", *self.listen(), case.target,
        ])


class GranianNginx(Granian):

    def listen(self):
        return [f"--uds={self.socket}"]

    def run(self, case):
        super().run(case)
        self.proxy()


class Bjoern(Server):
    peer = "bjoern"

    python = "python"

    def run(self, case):
        script = Path(__file__).with_name("serve_bjoern.py")
        self.launch([self.site.program(self.python), script, case.target, self.port,
                     self.processes])


class BjoernLibpython(Bjoern):
    """In the libpython of the module, where the same call costs the same."""

    peer = "bjoern-libpython"
    python = "python-libpython"


APACHE = """\
ServerRoot "{directory}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
ListenBacklog 1024
DefaultRuntimeDir "{directory}"
PidFile "{directory}/apache.pid"
ErrorLog "{directory}/error.log"
Mutex sem
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
StartServers {processes}
ServerLimit {processes}
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {total}
MinSpareThreads 1
MaxSpareThreads {total}
MaxConnectionsPerChild 0
AsyncRequestWorkerFactor 256
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
EnableSendfile On
WSGIEnableSendfile On
WSGIPythonHome "{venv}"
WSGIPythonPath "{path}"
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / "{directory}/application.wsgi"
<Directory "{directory}">
    Require all granted
</Directory>
"""


class ModWsgi(Server):
    peer = "mod_wsgi"
    modules = "/usr/lib/apache2/modules"

    def run(self, case):
        module, name = case.target.split(":")
        (self.directory / "application.wsgi").write_text(
            f"from {module} import {name} as application\n"
        )
        (self.directory / "apache.conf").write_text(APACHE.format(
            directory=self.directory, port=self.port, modules=self.modules,
            processes=self.processes, threads=self.threads, total=self.processes * self.threads,
            venv=self.site.venv, path=os.pathsep.join(map(str, self.site.python_path)),
        ))
        # Its environment has no PYTHONPATH: the interpreter is that of the configuration.
        self.family.start(["/usr/sbin/apache2", "-D", "FOREGROUND", "-d", self.directory,
                           "-f", self.directory / "apache.conf"], self.log, self.site.environ)


SERVERS = {
    "floor": Floor, "bare": Bare, "module": Module, "uwsgi": Uwsgi, "uwsgi-1": UwsgiOneThread,
    "gunicorn": Gunicorn, "granian": Granian, "granian-nginx": GranianNginx, "bjoern": Bjoern,
    "mod_wsgi": ModWsgi, "module-1": ModuleOneThread,
    "module-python": ModuleBuiltPython, "module-off": ModuleOff,
    "module-pinned": ModulePinned, "module-forced": ModuleForced,
    "bjoern-libpython": BjoernLibpython, "floor-file": FloorFile, "floor-threads": FloorThreads,
}
# Those of a run without --servers.
USUAL = [name for name in SERVERS if not name.startswith(("module-", "bjoern-", "floor-"))]
