"""The nginx.conf of a served application. Relative paths in it are in the directory of the run."""

import os
import re

from serve import Problem, users
from uwsgi2nginx.block import Impossible, quoted

CONFIG = """\
# Written by scripts/serve: nginx -p {directory}/ -c {directory}/nginx.conf
load_module {module};

{user}worker_processes {workers};
daemon off;
pid nginx.pid;
error_log stderr;

thread_pool wsgi threads={threads};

{env}
events {{
    worker_connections 1024;
}}

http {{
    types {{
        text/html html htm;
        text/css css;
        text/javascript js mjs;
        text/plain txt;
        text/xml xml;
        application/json json map;
        application/pdf pdf;
        application/wasm wasm;
        image/avif avif;
        image/gif gif;
        image/jpeg jpeg jpg;
        image/png png;
        image/svg+xml svg;
        image/webp webp;
        image/x-icon ico;
        font/woff woff;
        font/woff2 woff2;
    }}
    default_type application/octet-stream;

    access_log access.log;
    sendfile on;
    client_max_body_size 1000m;

    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    wsgi_temp_path tmp/wsgi;
    scgi_temp_path tmp/scgi;

    {http}

    server {{
        listen {listen};
        server_name localhost;

        location / {{
            wsgi_app {target};
            wsgi_thread_pool wsgi;
        }}
{locations}    }}
}}
"""
LOCATION = """
        location {url} {{
            alias {directory};
        }}
"""
DOLLAR = 'geo $dollar { default "$"; }'


def word(value):
    """An argument of a directive: quoted unless every character of it is harmless."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    try:
        return quoted(text)
    except Impossible as why:
        raise Problem(f"{text[:100]}: nginx cannot be given this: {why}") from None


def root(directory):
    """A directory for alias, which knows variables but no way to write a dollar."""
    text = os.fspath(directory).rstrip("/") + "/"
    return word(text.replace("$", "${dollar}"))


def plain(text):
    """Whether wsgi_app takes it: it must be UTF-8 without a dollar."""
    return "$" not in text and text.isprintable()


def target(application, directory):
    """The argument of wsgi_app. A directory that it would not take goes by a link to it."""
    text = application.target
    if not plain(text) and not application.module:
        if not plain(application.path.name):
            raise Problem(f"{application.path}: wsgi_app does not take a file of this name")
        link = directory / "application"
        link.unlink(missing_ok=True)
        link.symlink_to(application.directory)
        text = f"./{link.name}/{application.path.name}:{application.callable}"
    return word(text)


def render(*, directory, module, application, venv, static, environ, user, listen, options):
    """The whole file, as bytes. The values of the environment are not in it: nginx has them."""
    http = [f"wsgi_python_home {word(venv)};"] if venv else []
    http.append(f"wsgi_chdir {word(application.directory)};")
    if application.settings:
        http.append(f"wsgi_env DJANGO_SETTINGS_MODULE {word(application.settings)};")
    if options.reload:
        http.append("wsgi_reload on;")
        if options.listen.is_loopback:
            http.append("wsgi_debug on;")
    if any("$" in os.fspath(each) for each in static.values()):
        http.append(DOLLAR)
    text = CONFIG.format(
        directory=re.sub(r"[\r\n]", "?", os.fspath(directory)),
        module=word(module),
        user=f"user {word(user.pw_name)} {word(users.group(user))};\n" if user else "",
        workers=options.workers,
        threads=options.threads,
        env="".join(f"env {name};\n" for name in sorted(environ)),
        http="\n    ".join(http),
        listen=listen,
        target=target(application, directory),
        locations="".join(LOCATION.format(url=word(url), directory=root(path))
                          for url, path in static.items()),
    )
    return os.fsencode(text)
