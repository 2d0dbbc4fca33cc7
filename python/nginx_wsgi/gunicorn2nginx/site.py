"""The nginx.conf for settings of gunicorn. Each setting is a directive or is named in a comment."""

import grp
import os
import pwd
import sys

from ..common.block import Block, Impossible, comment
from .settings import HOOKS, Failure

# What needs nothing, with the reason.
NOTHING = {
    "worker_connections": "worker_connections in events is about all connections",
    "preload_app": "each worker imports the application for itself",
    "daemon": "nginx is a daemon unless daemon is off",
    "pidfile": "see pid",
    "proc_name": "", "default_proc_name": "", "worker_tmp_dir": "", "tmp_upload_dir": "",
    "check_config": "nginx -t", "print_config": "", "reload_engine": "",
    "capture_output": "what the application prints goes to the error log",
    "enable_stdio_inheritance": "", "disable_redirect_access_to_syslog": "", "initgroups": "",
    "limit_request_fields": "", "suppress_ragged_eofs": "", "do_handshake_on_connect": "",
    "proxy_allow_ips": "", "sendfile": "see sendfile", "no_sendfile": "see sendfile",
    "secure_scheme_headers": "wsgi.url_scheme is that of the connection",
    "forwarder_headers": "", "header_map": "", "strip_header_spaces": "",
    "permit_obsolete_folding": "", "permit_unconventional_http_method": "",
    "permit_unconventional_http_version": "", "casefold_http_method": "",
}
LEVELS = {"debug": "debug", "info": "info", "warning": "warn", "error": "error",
          "critical": "crit"}


class Site:

    def __init__(self, settings):
        self.left = dict(settings)
        self.notes = []
        self.nothing = []

    def take(self, name, default=None):
        return self.left.pop(name, default)

    def note(self, text):
        self.notes.append(text)

    def number(self, name, default=0):
        value = self.take(name, default)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise Failure(f"{name} is {value!r}, which is no number") from None

    # ------- blocks

    def main(self):
        made = Block()
        made.add("load_module", "modules/ngx_http_wsgi_module.so")
        made.space()
        user, group = self.take("user"), self.take("group")
        if user is not None or group is not None:
            user = name_of(pwd.getpwuid, user) or pwd.getpwuid(os.getuid()).pw_name
            made.add("user", user, *filter(None, [name_of(grp.getgrgid, group)]))
        made.add("worker_processes", self.number("workers", 1))
        made.add("thread_pool", "wsgi", f"threads={self.threads()}")
        log, level = self.take("errorlog", "-"), str(self.take("loglevel", "")).lower()
        if log != "-" or level:
            level = [LEVELS[level]] if level in LEVELS else []
            made.add("error_log", "stderr" if log == "-" else os.path.abspath(log), *level)
        if self.left.get("graceful_timeout"):
            made.add("worker_shutdown_timeout", f"{self.number('graceful_timeout')}s")
        return made

    def threads(self):
        kind = self.take("worker_class", "sync")
        kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
        threads = max(1, self.number("threads", 1))
        if "uvicorn" in kind.lower() or "asgi" in kind.lower():
            raise Failure(f"worker_class {kind} is for ASGI, which this module does not serve")
        if kind in ("gevent", "eventlet", "tornado") or "gevent" in kind or "eventlet" in kind:
            self.note(f"worker_class {kind} has no counterpart but more threads: as many as"
                      " requests are to wait at a time")
        elif threads == 1:
            self.note("threads: gunicorn's sync workers run one request at a time, and so does"
                      " this; more threads take little, if the application may be used by several")
        return threads

    def http(self, app):
        made = Block("http")
        if sys.prefix != sys.base_prefix:
            made.add("wsgi_python_home", sys.prefix)
        made.add("wsgi_chdir", os.path.abspath(self.take("chdir", os.getcwd())))
        if paths := self.take("pythonpath"):
            made.add("wsgi_python_path", *map(os.path.abspath, paths.split(",")))
        for pair in self.take("raw_env", []):
            name, _, value = pair.partition("=")
            made.add("wsgi_env", name, value)
        if umask := self.take("umask"):
            made.add("wsgi_umask", f"{umask if isinstance(umask, int) else int(umask, 0):03o}")
        if number := self.number("max_requests"):
            jitter = self.number("max_requests_jitter")
            made.add("wsgi_max_requests", number, *([f"jitter={jitter}"] if jitter else []))
        self.take("max_requests_jitter")
        if self.take("reload"):
            made.add("wsgi_reload", "on")
        if "keepalive" in self.left:
            made.add("keepalive_timeout", f"{self.number('keepalive')}s")
        sizes = [self.number(name) for name in ("limit_request_line", "limit_request_field_size")]
        if max(sizes) > 8192:
            made.add("large_client_header_buffers", 4, max(sizes))
        self.proxies(made)
        log = self.take("accesslog")
        made.add("access_log", *(["off"] if not log else
                                 ["/dev/stdout" if log == "-" else os.path.abspath(log)]))
        made.space()
        self.server(made.block("server"), app)
        return made

    def proxies(self, made):
        allowed = self.take("forwarded_allow_ips")
        if not allowed:
            return
        if allowed == "*":
            self.note('forwarded_allow_ips = "*" believes everybody: name the proxies in'
                      " set_real_ip_from")
            return
        for each in allowed.split(","):
            made.add("set_real_ip_from", each.strip())
        made.add("real_ip_header", "X-Forwarded-For")
        self.note("X-Forwarded-Proto of those proxies does not change wsgi.url_scheme here: see"
                  " wsgi_param HTTPS")

    def server(self, made, app):
        certificate, key = self.take("certfile"), self.take("keyfile")
        options = ["ssl"] if certificate else []
        options += ["reuseport"] if self.take("reuse_port") else []
        options += ["proxy_protocol"] if self.take("proxy_protocol") else []
        if backlog := self.take("backlog"):
            options.append(f"backlog={backlog}")
        binds = self.take("bind") or [
            f"0.0.0.0:{os.environ['PORT']}" if os.environ.get("PORT") else "127.0.0.1:8000"]
        for each in [binds] if isinstance(binds, str) else binds:
            if each.startswith("fd://"):
                self.note(f"bind {each}: nginx opens its sockets itself; a listen is to be added")
                continue
            each = each.removeprefix("tcp://")
            if each.startswith("unix:"):
                each = "unix:" + os.path.abspath(each[5:].removeprefix("//"))
            elif ":" not in each.rpartition("]")[2]:
                each += ":8000"
            made.add("listen", each.removeprefix(":") if each.startswith(":") else each, *options)
        if certificate:
            made.add("ssl_certificate", os.path.abspath(certificate))
            made.add("ssl_certificate_key", os.path.abspath(key or certificate))
        if ciphers := self.take("ciphers"):
            made.add("ssl_ciphers", ciphers)
        if authorities := self.take("ca_certs"):
            made.add("ssl_client_certificate", os.path.abspath(authorities))
            made.add("ssl_verify_client",
                     {"2": "on", "1": "optional"}.get(str(self.take("cert_reqs", 0)), "off"))
        made.space()
        inner = made.block("location", "/")
        inner.add("wsgi_app", app, variables=True)
        inner.add("wsgi_thread_pool", "wsgi")
        if timeout := self.number("timeout"):
            inner.add("wsgi_request_timeout", f"{timeout}s")

    # ------- the whole

    def app(self):
        if paste := self.take("paste"):
            path, _, name = paste.partition("#")
            return f"paste:{os.path.abspath(path)}" + (f"#{name}" if name else "")
        text = self.take("wsgi_app")
        if not text:
            raise Failure("no application is named: module:callable")
        return text

    def rest(self):
        """What is left of the settings, in words."""
        for name, value in sorted(self.left.items()):
            if name in HOOKS:
                self.note(f"{name}: a hook has no counterpart: what it does belongs into the"
                          " application's module, or its end into atexit")
            elif name in NOTHING:
                why = NOTHING[name]
                self.nothing.append(f"{name}" + (f" ({why})" if why else ""))
            else:
                self.note(f"{name} = {value!r} is not carried over")

    def text(self):
        app = self.app()
        blocks = [self.main(), Block("events"), self.http(app)]
        self.rest()
        lines = comment("nginx.conf for a configuration of gunicorn, written by gunicorn2nginx."
                        " Check it with nginx -t.")
        if self.notes:
            lines += ["#", "# To look at:"]
            for each in self.notes:
                lines += comment(f"- {each}", hanging="  ")
        if self.nothing:
            lines += ["#", *comment("Needs nothing: " + ", ".join(self.nothing))]
        for block in blocks:
            lines += ["", *block.lines()]
        return "\n".join(lines) + "\n"


def name_of(look, value):
    """A user or group that may be a number."""
    if value is None or not str(value).isdigit():
        return value
    try:
        return look(int(value))[0]
    except KeyError:
        raise Failure(f"nobody has the number {value}") from None


def render(settings):
    try:
        return Site(settings).text()
    except Impossible as why:
        raise Failure(f"nginx cannot be given a value: {why}") from None
