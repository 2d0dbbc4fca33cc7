"""The nginx.conf for the options of a uwsgi.ini."""

import contextlib
import glob
import grp
import os
import pwd
import re

from ..common.block import Block, Raw, comment
from . import logs, magic, reasons
from .apps import Applications, Statics
from .ini import shown
from .settings import MOST_SECONDS, Settings
from .sockets import Listening

MOST_PROCESSES = 1024
MOST_SIZE = 1 << 40
# What stands in for the many requests at a time of an event loop.
THREADS_FOR_LOOP = 16
LOOPS = ("gevent", "asyncio", "async", "ugreen")
PYTHON_PATHS = ("pythonpath", "python-path", "pp", "early-pythonpath", "early-python-path")


class Site:
    """Made of the options that ini.Reader has read."""

    def __init__(self, reader, name, *, module, listen):
        self.reader = reader
        self.name = name
        self.module = module
        self.settings = Settings(reader.options, reader.variables, reader.cwd)
        self.main = Block()
        self.http = None
        self.chdir = self.settings.text("chdir")
        if self.chdir:
            self.settings.base = self.settings.start_path(self.chdir.value)
        self.listening = Listening(self.settings, listen)
        self.apps = Applications(self.settings)
        self.statics = Statics(self.settings, self.apps)
        self.write_main()
        self.write_http()
        self.explain_the_rest()

    # -- outside of http

    def write_main(self):
        main, settings = self.main, self.settings
        main.add("load_module", self.module)
        main.space()
        self.user()
        self.workers()
        if found := settings.number("max-fd"):
            main.add("worker_rlimit_nofile", str(found[1]))
        pid = settings.text("safe-pidfile2", "safe-pidfile", "pidfile2", "pidfile")
        if pid:
            settings.writable(pid, settings.start_path(pid.value), main, "pid")
        logs.error_log(settings, main)
        main.space()
        self.threads()
        main.space()
        events = main.block("events")
        events.add("worker_connections", "1024")
        main.space()

    def user(self):
        settings = self.settings
        uid, gid = settings.text("uid"), settings.text("gid")
        if not uid and not gid:
            self.main.note("Without uid uWSGI runs as whoever starts it, and nginx's workers run"
                           " as its own user: name another one here.")
            return
        if not uid:
            settings.look(gid, "nginx's user takes a group only together with a user")
            return
        user = self.account(uid, pwd.getpwnam, pwd.getpwuid)
        if user is None:
            settings.look(uid, "would be user, but there is no such user here: a comment stands"
                          " there")
            if gid:
                settings.look(gid, "would be user's second argument")
            self.main.note(" ".join(["user", *(shown(each.value) for each in (uid, gid) if each)])
                           + ";")
            return
        group = self.account(gid, grp.getgrnam, grp.getgrgid) if gid else None
        if gid and group is None:
            settings.look(gid, "there is no such group here")
        if group is None:
            with contextlib.suppress(KeyError):
                group = grp.getgrgid(user.pw_gid)
        names = [user.pw_name] + ([group.gr_name] if group else [])
        settings.put(uid, self.main, "user", *names)

    @staticmethod
    def account(option, by_name, by_number):
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            if option.value.isascii() and option.value.isdigit():
                return by_number(int(option.value))
            return by_name(option.value)
        return None

    def workers(self):
        found = self.settings.number("workers", "processes")
        cheaper = self.settings.number("cheaper")
        if cheaper:
            self.settings.look(cheaper[0], reasons.reason("cheaper")[1])
        self.processes = 1
        if found:
            option, number = found
            if number > MOST_PROCESSES:
                self.settings.look(option, "nginx would start them all, each with a Python: one for"
                                   " each processor core is written instead")
                self.main.add("worker_processes", "auto")
                return
            self.processes = number
            if cheaper and cheaper[1] < number:
                self.settings.look(option, f"cheaper kept {cheaper[1]} of them and started the"
                                   " others under load; nginx starts all of them, and each has the"
                                   " application in memory: fewer may be meant")
        self.main.add("worker_processes", str(self.processes))

    def threads(self):
        settings = self.settings
        found = settings.number("threads")
        loops = [option for option in settings.take(*LOOPS) if self.runs(option)]
        number = found[1] if found else 1
        if number > MOST_PROCESSES:
            settings.look(found[0], f"{MOST_PROCESSES} are written")
            number = MOST_PROCESSES
        for option in loops:
            settings.look(option, reasons.reason(option.key)[1] + (
                "" if found else f"; {THREADS_FOR_LOOP} of them stand in for it"))
        if loops and not found:
            number = THREADS_FOR_LOOP
        self.main.add("thread_pool", "wsgi", Raw(f"threads={number}"))

    def runs(self, loop):
        """Whether a loop is switched on: but for ugreen, the value is a number of requests."""
        settings = self.settings
        return settings.on(loop) if loop.key == "ugreen" else bool(settings.read(loop))

    # -- http

    def write_http(self):
        self.http = http = self.main.block("http")
        if self.statics.used:
            types = "/etc/nginx/mime.types"
            http.add("include", types if os.path.exists(types) else "mime.types")
            http.add("default_type", "application/octet-stream")
        http.add("sendfile", "on")
        logs.access_log(self.settings, http)
        http.space()
        self.python()
        self.life()
        http.space()
        self.listening.write_redirect(http)
        server = http.block("server")
        self.server(server)

    def python(self):
        settings, http = self.settings, self.http
        home = settings.text("home", "virtualenv", "venv", "pyhome")
        if home:
            settings.put(home, http, "wsgi_python_home", settings.path(home.value))
        if self.chdir:
            settings.put(self.chdir, http, "wsgi_chdir", settings.base)
            if not os.path.isabs(self.chdir.value):
                settings.look(self.chdir, f"is relative to where uwsgi is started: taken as"
                              f" {shown(settings.base)}, see --cwd")
        else:
            http.note("Without chdir uWSGI stays where it is started (--cwd), and imports from"
                      " there.")
            if os.path.isdir(settings.cwd):
                http.add("wsgi_chdir", settings.cwd)
        environ = self.environ()
        paths = []
        # uWSGI puts each in front of the one before.
        for option in reversed(settings.take(*PYTHON_PATHS)):
            # A pattern is tried where uWSGI starts, a relative path counts where it is later.
            start = os.path.join(settings.cwd, "")
            found = sorted(glob.glob(start + option.value if option.value[:1] != "/"
                                     else option.value)) or [option.value]
            paths += [(option, settings.path(path.removeprefix(start)))
                      for path in reversed(found)]
        if "PYTHONPATH" in environ:
            option, value = environ.pop("PYTHONPATH")
            paths += [(option, settings.path(path)) for path in value.split(":") if path]
        for option, path in paths:
            settings.put(option, http, "wsgi_python_path", path)
        for name, (option, value) in environ.items():
            if settings.put(option, http, "wsgi_env", name, value) and name.startswith("PYTHON"):
                settings.look(option, "does nothing for the application's own Python, which reads"
                              " no such variable: only for programs that it starts")
        self.umask()

    def umask(self):
        option = self.settings.text("umask")
        if option and re.fullmatch("0?[0-7]{3}", option.value):
            self.http.add("wsgi_umask", option.value)
        elif option:
            self.settings.look(option, "is not octal, from 000 to 0777")

    def environ(self):
        """{name: (option, value)}; a name may be set once only, the last counts."""
        found = {}
        for option in self.settings.take("env", "ienv"):
            name, equals, value = option.value.partition("=")
            if not equals or not name:
                self.settings.look(option, "is not NAME=VALUE")
            elif name == "PYTHONHOME":
                self.settings.look(option, "is wsgi_python_home here")
            else:
                if name in found:
                    self.settings.look(found[name][0], f"does not count, {option.where} sets it"
                                       " again")
                    del found[name]
                found[name] = option, value
        for option in self.settings.take("envdir", "early-envdir", "unenv"):
            self.settings.look(option, "write each variable as wsgi_env NAME VALUE")
        return found

    def life(self):
        """When a worker is replaced."""
        settings, http = self.settings, self.http
        requests, delta = settings.number("max-requests"), settings.number("max-requests-delta")
        if requests:
            # uWSGI adds the delta times the number of the worker.
            jitter = min(delta[1] * self.processes, (1 << 31) - 1) if delta else 0
            more = [Raw(f"jitter={jitter}")] if jitter else []
            http.add("wsgi_max_requests", str(requests[1]), *more)
        elif delta:
            settings.quiet(delta[0], "does nothing without max-requests")
        memory = self.settings.last("evil-reload-on-rss", "reload-on-rss")
        if memory:
            size = self.megabytes(memory)
            if size:
                http.add("wsgi_max_rss", size)
        if settings.number("py-autoreload", "py-auto-reload", "python-autoreload",
                           "python-auto-reload"):
            http.note("For development: py-autoreload.")
            http.add("wsgi_reload", "on")

    def megabytes(self, option):
        if "." in option.value:
            number = magic.leading_real(option.value)
            if not 0 < number < 1 << 20:
                self.settings.look(option, "is no number of megabytes")
                return None
            if number != int(number):
                return f"{max(1, int(number * 1024))}k"
        else:
            number = self.settings.read(option, most=(1 << 20) - 1)
            if number == 0:
                self.settings.quiet(option, "0 is as if it were not there")
        return f"{int(number)}m" if number else None

    # -- server

    def server(self, server):
        settings = self.settings
        self.listening.write(server)
        server.space()
        self.bodies(server)
        for option in settings.take("add-header"):
            name, colon, value = option.value.partition(":")
            if colon and name.strip().isascii() and name.strip():
                settings.put(option, server, "add_header", name.strip(), value.strip(),
                             Raw("always"), variables=True)
            else:
                settings.look(option, "is not NAME: VALUE")
        server.space()
        server.add("wsgi_thread_pool", "wsgi")
        for option in settings.take("rem-header", "del-header"):
            if option.value:
                settings.put(option, server, "wsgi_hide_header", option.value)
            else:
                settings.look(option, "has no value")
        if found := settings.number("listen"):
            server.add("wsgi_queue", str(found[1]))
        self.times(server)
        self.websockets(server)
        if option := settings.flag("need-app"):
            settings.quiet(option, "wsgi_check, on by default, refuses a reload with an application"
                           " that cannot be imported; at a start nginx runs, it answers 500 and the"
                           " error log says why")
        server.space()
        self.statics.write(server)
        self.apps.write(server, self.statics)

    def bodies(self, server):
        settings = self.settings
        if found := settings.number("limit-post", most=MOST_SIZE):
            server.add("client_max_body_size", str(found[1]))
        elif self.listening.direct:
            server.note("uWSGI has no limit without limit-post; nginx's own would be 1m.")
            server.add("client_max_body_size", "0")
        else:
            server.note("nginx's limit for a request's body: copy client_max_body_size from the"
                        " server that had uwsgi_pass.")
            server.add("client_max_body_size", "1m")
        if found := settings.number("post-buffering", most=MOST_SIZE):
            if found[1] > 16384:
                server.add("client_body_buffer_size", str(found[1]))
            else:
                settings.quiet(found[0], "nginx reads the body first unless wsgi_request_buffering"
                               " is off; up to 16k of it stay in memory (client_body_buffer_size)")
        if found := settings.number("buffer-size", most=MOST_SIZE):
            if found[1] > 8192:
                kilobytes = -(-min(found[1], 65536) // 1024)
                server.add("large_client_header_buffers", "4", f"{kilobytes}k")
            else:
                settings.quiet(found[0], "nginx takes a request line or header of 8k, four of them"
                               " (large_client_header_buffers)")

    def times(self, server):
        settings = self.settings
        harakiri = settings.number("harakiri", most=MOST_SECONDS)
        router = settings.number("http-timeout", most=MOST_SECONDS)
        if router:
            server.add("wsgi_read_timeout", f"{router[1]}s")
        elif harakiri and harakiri[1] > 60:
            server.note("As long as harakiri, or the usual 60s of silence would be too long.")
            server.add("wsgi_read_timeout", f"{harakiri[1]}s")
        if harakiri:
            server.add("wsgi_request_timeout", f"{harakiri[1]}s")

    def websockets(self, server):
        """uWSGI has them in every application; here they are asked for."""
        settings = self.settings
        asked = settings.flag("http-websockets")
        if asked:
            settings.quiet(asked, "wsgi_websocket does it")
        # In kilobytes. No message has more than 1t.
        size = settings.number("websockets-max-size", "websocket-max-size", most=1 << 30)
        every = settings.number("websockets-ping-freq", "websocket-ping-freq", most=MOST_SECONDS)
        answer = settings.number("websockets-pong-tolerance", "websocket-pong-tolerance",
                                 most=MOST_SECONDS)
        if not any((asked, size, every, answer)):
            return
        server.note("For an application with WebSockets: see docs/websocket.md. One that calls"
                    " uwsgi.websocket_handshake() takes wsgi_uwsgi_api on too, in http.")
        server.add("wsgi_websocket", "on")
        if size:
            server.add("wsgi_websocket_max_message", f"{size[1]}k")
        if every or answer:
            server.add("wsgi_websocket_ping", f"{every[1] if every else 30}s",
                       Raw(f"timeout={answer[1] if answer else 3}s"))

    # -- what is no directive

    def explain_the_rest(self):
        settings = self.settings
        for option in settings.take("plugin", "plugins"):
            names = [name.strip() for name in option.value.split(",")]
            others = [name for name in names
                      if name and not name.startswith(("python", "http", "router_static"))]
            if others:
                settings.look(option, "only Python runs here, not "
                              + ", ".join(shown(name) for name in others))
            else:
                settings.quiet(option, "the module is the plugin")
        for option in settings.left():
            kind, why = reasons.reason(option.key, option.value) or ("", "")
            if kind == "look" and option.value != "" and not settings.on(option):
                settings.quiet(option, "is switched off")
            elif kind == "look":
                settings.look(option, why)
            elif kind == "quiet":
                settings.quiet(option, why)
            elif option.key in settings.variables:
                settings.quiet(option, "is a placeholder")
            elif option.key == "":
                settings.look(option, "has no name; uWSGI passes over it")
            else:
                settings.look(option, self.unknown(option.key))

    @staticmethod
    def unknown(key):
        other = key.replace("_", "-").lower()
        if other != key and reasons.reason(other):
            return f"unknown; uWSGI passes over it as well, its option is {other}"
        return "unknown to this script"

    # -- the text

    def text(self):
        lines = comment(f"nginx.conf for what {shown(self.name)} configures, written by"
                        " uwsgi2nginx. Check it with nginx -t.")
        reader, settings = self.reader, self.settings
        # What is said of an if is said of the lines behind it: not with that of another.
        notes = [self.said([each])[0] for each in reader.notes]
        notes += self.said(settings.look_at)
        if notes:
            lines += ["#", "# To look at:", *dict.fromkeys(notes)]
        if reader.guesses:
            lines += ["#", "# Taken from this machine, this directory and this environment:"]
            lines += [self.point(f"{name}: {what}, {shown(value)}")
                      for name, (what, value) in reader.guesses.items()]
        lines += ["#"]
        lines += comment("The environment that uwsgi was started with (systemd's Environment=, a"
                         " shell's export) is in no ini file: nginx passes none of it on, each"
                         " variable takes a wsgi_env line.")
        lines += ["", *self.main.lines()]
        if settings.quiet_about:
            lines += ["", "# Nothing has to be done for:"]
            lines += self.said(settings.quiet_about)
        return "\n".join(lines) + "\n"

    def said(self, remarks):
        """A point for each reason, with all options that it is said of."""
        points = {}
        for option, why in remarks:
            value = f" = {shown(option.value)}" if option.value else ""
            points.setdefault(why, {})[f"{option.where}: {shown(option.key)}{value}"] = True
        return [self.point((": " if len(options) == 1 else ":\n  ").join(
            ["\n  ".join(options), why])) for why, options in points.items()]

    @staticmethod
    def point(text):
        return "\n".join(comment(f"- {text}", hanging="  "))
