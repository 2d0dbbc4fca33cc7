"""nginx as it is run here: in the foreground, in a directory of its own."""

import os
import re
import shutil
import subprocess

from .block import Block

NGINX = os.environ.get("NGINX") or shutil.which("nginx") or "/usr/sbin/nginx"
# What makes workers hand over every request that may be, for measurements and tests.
FORCED = {"WSGI_BALANCE": "force"}
# Its directories for temporary files.
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def command(directory, *options, nginx=NGINX):
    """nginx with the nginx.conf of the directory."""
    return [nginx, "-e", "stderr", "-p", f"{directory}/", "-c", f"{directory}/nginx.conf", *options]


def has_http2(nginx):
    """How it is asked for: "http2" an option of listen, "on" a directive; None if it is not there.
    """
    said = subprocess.run([nginx, "-V"], capture_output=True, text=True, timeout=30).stderr
    if "--with-http_v2_module" not in said:
        return None
    version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
    return "on" if version and tuple(map(int, version.groups())) >= (1, 25, 1) else "http2"


class Config:
    """Its configuration: main, http and the servers are blocks to add to.

    Relative paths are in the directory of the run, where tmp/ must be there. With the module an
    application has the thread pool wsgi.
    """

    def __init__(self, *, workers, connections, error_log, module=None, threads=4, library=None):
        self.main = main = Block()
        if library:
            main.add("load_libpython", library)
        if module:
            main.add("load_module", module)
            main.space()
        main.add("worker_processes", workers)
        main.add("daemon", "off")
        main.add("pid", "nginx.pid")
        main.add("error_log", *error_log)
        if module:
            main.add("thread_pool", "wsgi", f"threads={threads}")
        self.events = Block("events")
        self.events.add("worker_connections", connections)
        self.http = Block("http")
        for name in TEMPORARY:
            self.http.add(f"{name}_temp_path", f"tmp/{name}")
        if module:
            self.http.add("wsgi_temp_path", "tmp/wsgi")
            self.http.add("wsgi_thread_pool", "wsgi")

    def server(self, listen, *options):
        self.http.space()
        server = self.http.block("server")
        server.add("listen", listen, *options)
        return server

    def __bytes__(self):
        blocks = (self.main, self.events, self.http)
        return os.fsencode("\n".join("\n".join([*block.lines(), ""]) for block in blocks))

    def write(self, directory):
        (directory / "nginx.conf").write_bytes(bytes(self))
