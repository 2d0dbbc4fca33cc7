"""nginx, module and Python of the command as it is installed: those of its wheel, or the system's.

scripts/serve has another one of this kind, for a checkout.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..common.nginx import NGINX
from . import Problem, python, users
from .options import TEXT, Bind, address, port

# What a wheel brings: nginx, and a module for each version of Python.
LIB = Path(__file__).resolve().parents[1] / "lib"
NAME = "ngx_http_wsgi_module"
USAGE = f"""\
Serves a WSGI application from inside nginx.

usage: nginx-wsgi serve DIR [options]             a Django project (manage.py), or a directory with
                                                  wsgi.py, app.py, application.py, main.py or a
                                                  package
       nginx-wsgi serve FILE[:callable] [options]
       nginx-wsgi serve FILE.ini[#name] [options]         of PasteDeploy: Pyramid, Plone, Kinto
       nginx-wsgi serve module[:callable] [options]       in the current directory
       nginx-wsgi print-config ...                prints the nginx configuration, starts nothing
       nginx-wsgi check ...                       has nginx test it (nginx -t)

In a directory, file or module the application is the first of application, app, create_app(),
make_app(). A callable is written with () at its end if it is a factory.

{TEXT}\
--module FILE       another module than the one that comes with the command

Without --port, --listen and --bind, and with PORT in the environment, the address is 0.0.0.0 and
the port that of PORT. Without --venv the application has the Python of this command, and what is
installed there. The error log and what the application prints go to standard error; temporary
files into a directory below TMPDIR, removed at the end.

SIGTERM, SIGINT and SIGQUIT let requests finish, at most for the time of --graceful-timeout; SIGHUP
loads configuration and application again. It may be process 1 of a container.

NGINX is the nginx binary, if it is to be another one.
"""


@dataclass
class Parts:
    """What serves. library: the libpython that nginx is to load; None if the module is linked.
    standard_library: the directory of that one's modules."""

    nginx: str
    module: Path
    version: str
    library: Path | None
    executable: str
    standard_library: Path | None = None


def modules_path(nginx):
    """Where an nginx has its modules, as it says itself."""
    try:
        said = subprocess.run([nginx, "-V"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"there is no nginx: {nginx}: {error}") from None
    found = re.search(r"--modules-path=(\S+)", said) or re.search(r"--prefix=(/\S*)", said)
    path = found[1] if found else "/usr/local/nginx"
    return Path(path if found and "modules-path" in found[0] else f"{path}/modules")


class Installed:

    prog = "nginx-wsgi serve"
    name = "nginx-wsgi"
    usage = USAGE
    access_log = "-"
    hangup_reloads = True

    def binds(self, options):
        """Where to listen."""
        if options.bind_is_default and (text := os.environ.get("PORT")):
            try:
                return [Bind(address("0.0.0.0"), port(text))]
            except Exception:
                raise Problem(f"PORT is {text}, which is no port") from None
        return options.binds

    def virtualenv(self, options, _folders):
        """The one given, else the one that this command is installed in, or None."""
        if options.venv:
            return options.venv
        return Path(sys.prefix) if sys.prefix != sys.base_prefix else None

    def parts(self, options, venv):
        nginx = str(LIB / "nginx") if self.is_complete() and not os.environ.get("NGINX") else NGINX
        module = options.module
        executable = str(venv / "bin/python") if venv else sys.executable
        if not module and not self.is_complete():
            module = self.module_path()
            if not module.is_file():
                raise Problem(f"there is no {module}: install the module, or name it with --module")
        version = module and python.version_of_module(module)
        if version:
            if venv:
                python.check_virtualenv(venv, version)
            return Parts(nginx, module, version, None, executable)
        own = python.interpreter(executable)
        return Parts(nginx, module or self.module(own.version), own.version, own.library,
                     executable, own.standard_library)

    def module_path(self):
        """That of the Python of this command."""
        if self.is_complete():
            return self.module(f"{sys.version_info.major}.{sys.version_info.minor}")
        return modules_path(NGINX) / f"{NAME}.so"

    def is_complete(self):
        """Whether nginx and modules came with it."""
        return (LIB / "nginx").is_file()

    def module(self, version):
        path = LIB / f"{NAME}-{version}.so"
        if path.is_file():
            return path
        here = sorted((each.stem.rpartition("-")[2] for each in LIB.glob(f"{NAME}-*.so")),
                      key=lambda text: int(text.partition(".")[2]))
        raise Problem(f"nginx_wsgi as it is installed has modules for Python {', '.join(here)},"
                      f" and this is Python {version}")

    def directory(self, _options, _binds, user):
        """An empty one for this run, where the workers' user can reach it."""
        directory = Path(tempfile.mkdtemp(prefix="nginx-wsgi."))
        directory.chmod(0o755)
        (directory / "tmp").mkdir()
        try:
            users.require(user, [directory])
        except Problem:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return directory

    def about(self, parts):
        """The first line of the configuration, with DIR for the directory of the run."""
        return (f"# Written by nginx-wsgi: {parts.nginx} -e stderr -p DIR/ -c DIR/nginx.conf,"
                " and DIR/tmp is to be there")

    def is_kept(self, _directory, _options):
        """Whether the directory stays when all is over."""
        return False
