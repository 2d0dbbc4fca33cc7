"""The nginx.conf of a served application. Relative paths in it are in the directory of the run."""

import glob
import os
import re

from ..common import nginx
from ..common.block import Impossible, Raw, quoted
from . import Problem, users

# Suffixes of static files.
TYPES = {
    "text/html": "html htm",
    "text/css": "css",
    "text/javascript": "js mjs",
    "text/plain": "txt",
    "text/xml": "xml",
    "application/json": "json map",
    "application/pdf": "pdf",
    "application/wasm": "wasm",
    "image/avif": "avif",
    "image/gif": "gif",
    "image/jpeg": "jpeg jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/webp": "webp",
    "image/x-icon": "ico",
    "font/woff": "woff",
    "font/woff2": "woff2",
}


def word(value):
    """An argument of a directive: quoted unless every character of it is harmless."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    try:
        return Raw(quoted(text))
    except Impossible as why:
        raise Problem(f"{text[:100]}: nginx cannot be given this: {why}") from None


def root(directory):
    """A directory for alias, which knows variables but no way to write a dollar."""
    text = os.fspath(directory).rstrip("/") + "/"
    return word(text.replace("$", "${dollar}"))


def plain(text, application):
    """Whether wsgi_app takes this path: UTF-8 without a dollar, and without a # for PasteDeploy."""
    return "$" not in text and text.isprintable() and not (application.paste and "#" in text)


def target(application, directory):
    """The argument of wsgi_app. A directory that it would not take goes by a link to it."""
    text = application.target
    if not application.module and not plain(str(application.path), application):
        if not plain(application.path.name, application):
            raise Problem(f"{application.path}: wsgi_app does not take a file of this name")
        link = directory / "application"
        link.unlink(missing_ok=True)
        link.symlink_to(application.directory)
        text = application.target_of(f"./{link.name}/{application.path.name}")
    return word(text)


def render(*, about, parts, directory, application, venv, static, environ, user, binds,
           options, access_log, http2):
    """The whole file, as bytes. The values of the environment are not in it: nginx has them."""
    made = nginx.Config(workers=options.workers, connections=1024, error_log=["stderr"],
                        module=word(parts.module), threads=options.threads,
                        library=parts.library and word(parts.library))
    if user:
        made.main.add("user", word(user.pw_name), word(users.group(user)))
    made.main.space()
    for name in sorted(environ):
        made.main.add("env", name)

    http = made.http
    http.space()
    types = http.block("types")
    for name, suffixes in TYPES.items():
        types.add(name, *suffixes.split())
    http.add("default_type", "application/octet-stream")
    http.add("access_log", word(access_log))
    http.add("sendfile", "on")
    http.add("client_max_body_size", "1000m")
    http.space()
    if venv:
        http.add("wsgi_python_home", word(venv))
    http.add("wsgi_chdir", word(application.directory))
    if application.settings:
        http.add("wsgi_env", "DJANGO_SETTINGS_MODULE", word(application.settings))
    if options.reload:
        http.add("wsgi_reload", "on")
        if not any(each.is_open for each in binds):
            http.add("wsgi_debug", "on")
    if any("$" in os.fspath(each) for each in static.values()):
        http.block("geo", Raw("$dollar")).add("default", "$")

    tls = ["ssl"] if options.certfile else []
    server = made.server(word(binds[0]), *tls, *listen_http2(http2))
    for each in binds[1:]:
        server.add("listen", word(each), *tls, *listen_http2(http2))
    server.add("server_name", "localhost")
    if options.certfile:
        server.add("ssl_certificate", word(options.certfile))
        server.add("ssl_certificate_key", word(options.keyfile or options.certfile))
        if http2 == "on":
            server.add("http2", "on")
    server.space()
    server.block("location", "/").add("wsgi_app", target(application, directory))
    for url, path in static.items():
        server.space()
        server.block("location", word(url)).add("alias", root(path))
    if options.status:
        server.space()
        status = server.block("location", "=", word(options.status))
        status.add("wsgi_status")
        for each in ("127.0.0.0/8", "::1", "unix:"):
            status.add("allow", each)
        status.add("deny", "all")
    for path in options.conf_snippet:
        server.space()
        server.add("include", word(glob.escape(os.fspath(path))))

    shown = re.sub(r"[\r\n]", "?", os.fspath(directory))
    return os.fsencode(about.replace("DIR", shown) + "\n") + bytes(made)


def listen_http2(how):
    return [how] if how == "http2" else []
