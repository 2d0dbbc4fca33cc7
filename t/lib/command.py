"""The command nginx-wsgi as a test starts it, with the system's nginx and the module under test."""

import os
import re
import subprocess

from . import config
from .poll import SLOWDOWN, until
from .serve import SYSTEM, Site

PACKAGE = os.path.join(config.ROOT, "python")
COMMAND = [SYSTEM, "-m", "nginx_wsgi"]


def environment(**changes):
    dropped = ("VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE", "PORT", "GUNICORN_CMD_ARGS")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"NGINX": config.BINARY, "PYTHONPATH": PACKAGE,
                   "PYTHONDONTWRITEBYTECODE": "1"} | changes


class Command(Site):
    """A directory of its own with the directory for temporary files, and nginx-wsgi."""

    def __init__(self):
        super().__init__()
        self.tmp = f"{self.dir}/tmp"
        os.mkdir(self.tmp)
        os.chmod(self.tmp, 0o777)
        self.out = f"{self.dir}.out"

    def call(self, name, *args, cwd=None, env=None, command=COMMAND):
        """To its end."""
        more = ["--module", config.MODULE] if name in ("serve", "print-config", "check") else []
        return subprocess.run(
            [*command, name, *args, *more], cwd=cwd or self.dir, capture_output=True, text=True,
            env=environment(**{"TMPDIR": self.tmp, **(env or {})}), timeout=50 * SLOWDOWN)

    def refused(self, *args, status=1, **options):
        done = self.call(*args, **options)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def printed(self, *args, **options):
        """What print-config prints."""
        done = self.call("print-config", *args, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *args, bind=("--port", "0"), prefix=(), env=None, command=COMMAND, out=None,
              cwd=None, verb=("serve",)):
        self.process = subprocess.Popen(
            [*prefix, *command, *verb, *args, *bind, "--module", config.MODULE],
            cwd=cwd or self.dir, env=environment(**{"TMPDIR": self.tmp, **(env or {})}),
            stdin=subprocess.DEVNULL, stdout=out or open(self.out, "wb"),
            stderr=open(self.log, "wb"), start_new_session=True,
        )
        until(lambda: self.url() or self.process.poll() is not None, 40, "the URL")
        assert self.process.poll() is None, self.said()
        port = re.search(r":(\d+)/$", self.url())
        self.port = port and int(port[1])
        self.look()
        return self

    def url(self):
        found = re.search(r"^nginx-wsgi: (\S+) until Ctrl-C$", self.said(), re.M)
        return found and found[1]

    def output(self):
        with open(self.out) as file:
            return file.read()

    def finish(self):
        faults = super().finish()
        if os.path.exists(self.out):
            os.unlink(self.out)
        return faults
