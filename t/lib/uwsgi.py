"""scripts/uwsgi2nginx, nginx with its output, and uWSGI itself with the same ini file."""

import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

from . import config, http
from .nginx import Nginx
from .poll import until
from .tls import make_certificate

SCRIPT = os.path.join(config.ROOT, "scripts/uwsgi2nginx")
UWSGI = os.path.join(sys.prefix, "bin/uwsgi")
INIS = os.path.join(config.HERE, "uwsgi")


def convert(ini, *options, cwd=INIS, **environ):
    return subprocess.run([SCRIPT, "--module", config.MODULE, *options, ini], cwd=cwd, timeout=30,
                          capture_output=True, env={"PATH": os.environ["PATH"], **environ})


def text_of(ini, *options, **rest):
    done = convert(ini, *options, **rest)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


def part(name):
    """A module of it."""
    sys.path.insert(0, os.path.join(config.ROOT, "python"))
    try:
        return importlib.import_module(f"nginx_wsgi.uwsgi2nginx.{name}")
    finally:
        sys.path.pop(0)


@functools.cache
def known(directive):
    """Whether the module has the directive: nginx is asked."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/nginx.conf"
        with open(path, "w") as file:
            file.write(f"load_module {config.MODULE};\nevents {{}}\nhttp {{ {directive}; }}\n")
        done = subprocess.run([config.BINARY, "-t", "-e", "stderr", "-p", folder, "-c", path],
                              capture_output=True, text=True, timeout=30)
    assert "[emerg]" in done.stderr, done.stderr
    return f'unknown directive "{directive}"' not in done.stderr


def directives(text):
    return sorted(set(re.findall(r"^ *(wsgi_\w+)\b", text, re.M)))


def in_http(text, lines):
    return re.sub(r"^http \{\n", lambda match: match.group() + lines, text, flags=re.M)


class Converted(Nginx):
    """nginx with what the script wrote; only what says where things go is another's."""

    def __init__(self, ini, *options, workers=1, **environ):
        super().__init__(workers=workers)
        self.options = options
        self.environ = {
            "SITE": f"{self.dir}/site", "APPS": config.apps_copy(), "VENV": sys.prefix,
            "PORT": str(self.port), "RUN_AS": "root" if os.getuid() == 0 else "www-data",
            "PORT2": str(self.ports.setdefault("PORT2", config.free_port())), **environ,
        }
        self.ini = ini
        self.cwd = INIS
        self.text = ""

    def convert(self):
        self.text = text_of(self.ini, *self.options, cwd=self.cwd, **self.environ)
        return self.text

    def render(self):
        text = self.text or self.convert()
        text = re.sub(r"^(error_log|pid) .*;$", "", text, flags=re.M)
        text = re.sub(r"^    access_log .*;$", "    access_log access.log;", text, flags=re.M)
        if not re.search("^ *access_log ", text, re.M):
            text = in_http(text, "    access_log access.log;\n")
        for name in directives(text):
            if not known(name):
                text = re.sub(rf"^ *{name} .*;$", "", text, flags=re.M)
        # The workers' user has to reach a checkout that may be closed to others.
        if os.getuid() == 0 and not re.search(r"^user ", text, re.M):
            text = "user root;\n" + text
        text = in_http(text, config.PLACES)
        return "daemon off; pid nginx.pid; error_log error.log info;\n" + text

    def write_config(self):
        with open(self.conf, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(self.render())


def furnish(site):
    """What the ini files of t/uwsgi expect in $(SITE)."""
    make_certificate(f"{site.dir}/site")
    site.write("site/static/x.txt", "static")
    site.write("site/static/index.html", "index")
    site.write("site/static/robots.txt", "robots")
    site.write("site/public/page.html", "page")
    site.write("site/public/folder/index.html", "folder")


def told(response):
    assert response.status == 200, response
    return json.loads(response.body)


class Uwsgi:
    """uWSGI in the foreground, with an ini file that has an http-socket or http."""

    def __init__(self, ini, port, folder, environ):
        self.port = port
        self.log = os.path.join(folder, "uwsgi.output")
        # The module's Python is always in UTF-8 mode, uWSGI's as its locale says.
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environ, "PORT": str(port)}
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [UWSGI, "--ini", ini], cwd=INIS, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, env=environ, start_new_session=True,
            )

    def get(self, path, **options):
        return http.request(self.port, "GET", path, **options)

    def up(self):
        def answers():
            assert self.process.poll() is None, self.words()
            try:
                http.Connection(self.port).close()
            except OSError:
                return False
            return True

        until(answers, 30, "uWSGI listens")
        return self

    def words(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
