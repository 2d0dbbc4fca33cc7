"""What `nginx-wsgi serve` and scripts/serve do: find, ask, write the configuration, run nginx."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from ..common import processes
from ..common.nginx import command, has_http2
from . import Problem, application, config, options, output, python, server, users


class Serve:
    """One run. way says what a checkout and an installed command have of their own."""

    def __init__(self, way, argv):
        self.way = way
        self.options = options.parse(argv, way.prog, way.usage)

    def say(self, *words):
        text = f"{self.way.name}: " + " ".join(map(str, words))
        print(text.encode(errors="surrogateescape").decode(errors="replace"), file=sys.stderr,
              flush=True)

    # ------- Django

    def look_at_django(self, found, executable, environ, user):
        """Completes the application, and returns the static files that nginx serves."""
        if found.settings:
            self.say(f"Django project, settings {found.settings}: asking them")
            environ = {**environ, application.SETTINGS: found.settings}
        else:
            self.say("Django project, whose manage.py computes its settings: asking it")
        try:
            said = python.ask_django(executable, found, environ, user)
        except python.Unasked as unasked:
            if not found.settings:
                raise Problem(f"{unasked}; DJANGO_SETTINGS_MODULE in the environment would do,"
                              " too") from None
            self.say(f"{unasked}: no static files are served")
            said = {"wsgi": None, "url": None, "settings": found.settings, "sqlite": []}
        if not found.settings:
            found.settings = said["settings"]
            self.say(f"settings {found.settings}")
        if closed := users.writable(user, said["sqlite"]):
            database, what = closed
            place = f"in {what}, where SQLite needs files beside" if what != database else "to"
            self.say(f"warning: {user.pw_name if user else 'this user'} cannot write {place} the"
                     f" database {database}: pages that store something will fail")
        found.module, found.callable = wsgi_of(found.directory, found.settings, said["wsgi"])
        self.say(f"application {found.target}")
        url = said["url"] or ""
        if not url.startswith("/") or not url.strip("/"):
            return {}
        url = url.rstrip("/") + "/"
        if said["root"] and os.path.isdir(said["root"]):
            return {url: Path(said["root"])}
        if said["admin"] and os.path.isdir(said["admin"]):
            self.say("STATIC_ROOT is not there (manage.py collectstatic makes it):"
                     " only the admin's static files are served")
            return {f"{url}admin/": Path(said["admin"])}
        return {}

    # ------- what is to be served

    def prepare(self, testing):
        """The configuration, in its directory, and with it what run() needs."""
        given = self.options
        found = application.find(given.what)
        here = Path(os.path.abspath(given.what))
        folders = [found.directory, here if here.is_dir() else here.parent]
        venv = self.way.virtualenv(given, folders)
        user = users.choose(given.user, found.directory)
        # What takes no time first: the parts may have to be built.
        users.require(user, filter(None, [found.directory, found.path, venv, *given.conf_snippet,
                                          *(path for _, path in given.static)]))
        parts = self.way.parts(given, venv)
        if not shutil.which(parts.nginx):
            raise Problem(f"there is no nginx: {parts.nginx}")
        if found.not_django:
            self.say(f"not taken for Django: {found.not_django}")
        self.say(f"application in {found.directory}" if found.django else
                 f"application {found.target} in {found.directory}")
        self.say(f"Python {parts.version}, " + (f"virtualenv {venv}" if venv else
                                                "the system's: no virtualenv"))
        if user:
            self.say(f"workers run as {user.pw_name}")
        users.require(user, filter(None, [venv and venv / "lib" / f"python{parts.version}",
                                          parts.library, parts.standard_library]))

        self.environ = environment(user)
        files = self.look_at_django(found, parts.executable, self.environ, user) \
            if found.django else {}
        files |= dict(given.static)
        for url, path in files.items():
            self.say(f"static files: {url} from {path}")
        users.require(user, files.values())

        self.binds = self.way.binds(given)
        # Where nothing is started the place may be taken.
        self.binds = [server.free(each) if not testing or not (each.path or each.port) else each
                      for each in self.binds]
        self.directory = self.way.directory(given, self.binds, user)
        self.command = command(self.directory, nginx=parts.nginx)
        log = given.access_log or self.way.access_log
        self.output = output.Output(self.directory) if log == "-" and not testing else None
        text = config.render(
            about=self.way.about(parts), parts=parts,
            directory=self.directory, application=found, venv=venv, static=files,
            environ=self.environ, user=user, binds=self.binds, options=given,
            access_log=self.output.path if self.output else "/dev/stdout" if log == "-" else log,
            http2=given.certfile and has_http2(parts.nginx),
        )
        (self.directory / "nginx.conf").write_bytes(text)
        return text

    def print_config(self):
        sys.stdout.buffer.write(self.prepare(testing=True))
        return 0

    def check(self):
        self.prepare(testing=True)
        done = subprocess.run([*self.command, "-t"], stdin=subprocess.DEVNULL,
                              env=server.environ(self.environ))
        return done.returncode

    # ------- running

    def serve(self):
        self.prepare(testing=False)
        self.say(f"configuration: {self.directory}/nginx.conf")
        for bind in self.binds:
            if bind.is_open:
                self.say(f"listening on {bind.address}: other machines may reach it")
        self.say("starting nginx")
        nginx = None
        server.block_signals()
        try:
            if self.output:
                self.output.start()
            nginx = server.Server(self.command, self.environ)
            number = nginx.wait_until_up(self.binds)
            if not number:
                self.say_where()
            while not number:
                number = nginx.wait()
                if number == signal.SIGHUP and self.way.hangup_reloads:
                    self.say("loading configuration and application again")
                    nginx.signal(number)
                    number = None
            self.say(f"stopping; requests that run have {seconds(self.options.graceful_timeout)}")
            return 0
        finally:
            if nginx:
                nginx.stop(self.options.graceful_timeout)
            if self.output:
                self.output.stop()

    def say_where(self):
        log = self.options.access_log or self.way.access_log
        place = {"-": "to standard output", "off": "nowhere"}.get(
            str(log), f"in {self.directory / log}")
        self.say(f"requests are logged {place}; errors and what the application prints appear here")
        scheme = "https" if self.options.certfile else "http"
        for bind in self.binds:
            where = str(bind) if bind.path else f"{scheme}://{bind}/"
            self.say(f"{where} until Ctrl-C")

    def finish(self):
        directory = getattr(self, "directory", None)
        if directory and not self.way.is_kept(directory, self.options):
            shutil.rmtree(directory, ignore_errors=True)


def seconds(number):
    return {1: "a second", 10: "ten seconds"}.get(number, f"{number} seconds")


def environment(user):
    """What the application finds in os.environ: the caller's, without what steers Python."""
    dropped = ("_", "SHLVL", "PWD", "OLDPWD")
    kept = {
        name: value for name, value in processes.environment().items()
        if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and name not in dropped
    }
    if user:
        kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
        kept |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    return kept


def wsgi_of(directory, settings, named):
    """Module and callable of a project: WSGI_APPLICATION, else the wsgi.py nearest to the settings,
    else what Django itself makes."""
    if named and "." in named:
        return named.rpartition(".")[::2]
    package = settings.split(".")
    while package := package[:-1]:
        if (directory.joinpath(*package) / "wsgi.py").is_file():
            return ".".join([*package, "wsgi"]), "application"
    return "django.core.wsgi", "get_wsgi_application()"


def main(way, argv, action="serve"):
    run = Serve(way, argv)
    processes.leave_on_signals()
    os.umask(0o022)
    try:
        return getattr(run, "print_config" if run.options.print_config else action)()
    except Problem as problem:
        run.say(problem)
    except OSError as error:
        run.say(error)
    finally:
        run.finish()
    return 1
