"""The configuration of a test's nginx, rendered into a directory of its own.

Snippets may use @DIR@ (the test's directory), @PORT@, @PORT2@ ..., @APPS@ (t/apps, readable
by the workers' user) and @MODULE@; nginx's own $variables stay as they are.
"""

import functools
import itertools
import os
import re
import shutil
import socket
import subprocess
import tempfile

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(HERE)
BINARY = os.path.abspath(
    shutil.which(os.environ.get("TEST_NGINX_BINARY") or os.environ.get("NGINX") or "nginx")
    or "/usr/sbin/nginx"
)
MODULE = os.path.abspath(
    os.environ.get("TEST_NGINX_MODULE")
    or os.path.join(ROOT, "target/modules/ngx_http_wsgi_module.so")
)
# Ports are taken below the range from which the system gives clients theirs. Each process that
# runs tests has a slice of its own.
PORTS = range(20000, 32000)
SLICE = 300

CONFIG = """\
@LOAD@
daemon @DAEMON@;
master_process @MASTER@;
worker_processes @WORKERS@;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log info;
@MAIN@
events { worker_connections @CONNECTIONS@; @EVENTS@ }
http {
    default_type text/plain;
    access_log @DIR@/access.log;
    client_body_temp_path @DIR@/body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    @TEMP@
    @WSGI@
    @HTTP@
    server {
        listen 127.0.0.1:@PORT@;
        server_name localhost;
        root @DIR@/html;
        location = /static { return 200 "static"; }
        @LOCATIONS@
        @SERVER@
    }
}
"""
# What nginx's defaults place where only the system's nginx should write.
PLACES = """\
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""
WSGI = """wsgi_python_path @APPS@;
    wsgi_env EVENTS @DIR@/events;
    wsgi_env GATES @DIR@/gates;"""


@functools.cache
def _slice():
    """The ports of the first slice that no other process has, of whichever run and checkout."""
    for first in PORTS[::SLICE]:
        # An abstract socket: the kernel removes it when this process ends, however that ends.
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0ngx_http_wsgi_module.tests.{first}")
        except OSError:
            lock.close()
        else:
            return lock, itertools.cycle(range(first, first + SLICE))
    raise RuntimeError(f"{len(PORTS) // SLICE} others run tests on this machine")


def free_port():
    """A port nobody listens on. It comes again after all others of the slice have."""
    for port in itertools.islice(_slice()[1], SLICE):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise RuntimeError("no port is free")


def temp_dir():
    """A short path (unix sockets have 108 bytes) that the workers' user may write to."""
    path = tempfile.mkdtemp(prefix="ngx")
    os.chmod(path, 0o777)
    return path


_apps = []


def apps_copy():
    """t/apps, copied once to where an unprivileged worker may read it."""
    if not _apps:
        path = temp_dir()
        os.chmod(path, 0o755)
        shutil.copytree(os.path.join(HERE, "apps"), f"{path}/apps",
                        ignore=shutil.ignore_patterns("__pycache__", "miniproject"))
        for folder, _, files in os.walk(f"{path}/apps"):
            os.chmod(folder, 0o755)
            for name in files:
                os.chmod(os.path.join(folder, name), 0o644)
        _apps.append(path)
    return f"{_apps[0]}/apps"


def remove_apps_copy():
    while _apps:
        shutil.rmtree(_apps.pop(), ignore_errors=True)


class Config:
    """apps: names of t/apps modules, each served at /NAME as NAME:application.

    wsgi: False leaves out load_module and every wsgi_ default; a string replaces the defaults.
    """

    def __init__(self, server="", http="", main="", events="", apps=(), wsgi=True, workers=1,
                 daemon=False, master=True, app_directives="", connections="1024"):
        self.dir = temp_dir()
        self.values = {
            "SERVER": server, "HTTP": http, "MAIN": main, "EVENTS": events,
            "CONNECTIONS": connections,
            "WORKERS": str(workers), "DAEMON": "on" if daemon else "off",
            "MASTER": "on" if master else "off",
        }
        self.apps, self.app_directives, self.wsgi = apps, app_directives, wsgi
        self.workers_wanted, self.daemon, self.master_on = workers, daemon, master
        self.port = free_port()
        self.ports = {"PORT": self.port}
        self.conf = f"{self.dir}/nginx.conf"
        for name in ("html", "gates", "site"):
            os.mkdir(f"{self.dir}/{name}")
            os.chmod(f"{self.dir}/{name}", 0o777)

    def render(self):
        wsgi = self.wsgi
        text = CONFIG.replace("@LOAD@", "load_module @MODULE@;" if wsgi is not False else "")
        own = wsgi is False or "wsgi_temp_path" in self.values["HTTP"]
        temp = "" if own else "wsgi_temp_path @DIR@/wsgi;"
        text = text.replace("@TEMP@", temp)
        text = text.replace("@WSGI@", {True: WSGI, False: ""}.get(wsgi, wsgi))
        locations = "\n        ".join(
            f"location /{app} {{ wsgi_app {app}:application; {self.app_directives} }}"
            for app in self.apps
        )
        text = text.replace("@LOCATIONS@", locations)
        for name, value in self.values.items():
            text = text.replace(f"@{name}@", value)
        return self.fill(text)

    def fill(self, text):
        text = text.replace("@DIR@", self.dir).replace("@MODULE@", MODULE)
        text = text.replace("@APPS@", apps_copy())
        for name in set(re.findall(r"@(PORT\d*)@", text)):
            if name not in self.ports:
                self.ports[name] = free_port()
            text = text.replace(f"@{name}@", str(self.ports[name]))
        return text

    def write_config(self, **changes):
        """Write nginx.conf, with other snippets (server=, http=, main=) if given."""
        self.values.update({name.upper(): value for name, value in changes.items()})
        with open(self.conf, "w") as file:
            file.write(self.render())

    def write(self, path, text):
        """A file below the test's directory, readable by the workers."""
        path = os.path.join(self.dir, path)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        mode = "wb" if isinstance(text, bytes) else "w"
        with open(path, mode) as file:
            file.write(text)
        os.chmod(path, 0o644)
        return path

    def test_config(self, write=True):
        """nginx -t: exit status and what it said."""
        if write:
            self.write_config()
        done = subprocess.run(self.command("-t", "-e", "stderr"), capture_output=True, timeout=30)
        return done.returncode, done.stderr.decode("utf-8", "replace")

    def command(self, *args):
        return [BINARY, "-p", self.dir, "-c", self.conf, *args]
