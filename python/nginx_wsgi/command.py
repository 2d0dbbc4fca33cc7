"""The command nginx-wsgi."""

import sys

USAGE = """\
usage: nginx-wsgi serve DIR|FILE|module:callable [options]   serves a WSGI application
       nginx-wsgi print-config DIR|FILE|module:callable ...  prints the nginx configuration for it
       nginx-wsgi check DIR|FILE|module:callable ...         has nginx test that (nginx -t)
       nginx-wsgi uwsgi2nginx FILE.ini                       the configuration for a uwsgi.ini
       nginx-wsgi gunicorn2nginx [gunicorn] OPTION...        that for a command line of gunicorn
       nginx-wsgi module-path                                where the module for nginx is
       nginx-wsgi COMMAND -h

In place of nginx-wsgi there is python -m nginx_wsgi too, and of `nginx-wsgi serve` for Django
python manage.py runnginx, with "nginx_wsgi.django" in INSTALLED_APPS.
"""


def module_path(argv):
    from .serve import Problem
    from .serve.installed import Installed

    if argv:
        print(USAGE, end="", file=sys.stderr)
        return 2
    try:
        print(Installed().module_path())
    except Problem as problem:
        print(f"nginx-wsgi: {problem}", file=sys.stderr)
        return 1
    return 0


def main(argv=None):
    """Runs what the arguments name; returns the exit status."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("serve", "print-config", "check"):
        from .serve.command import main as serve
        from .serve.installed import Installed

        return serve(Installed(), rest, name.replace("-", "_"))
    if name == "uwsgi2nginx":
        from .uwsgi2nginx.command import main as uwsgi2nginx

        return uwsgi2nginx(rest)
    if name == "gunicorn2nginx":
        from .gunicorn2nginx.command import main as gunicorn2nginx

        return gunicorn2nginx(rest)
    if name == "module-path":
        return module_path(rest)
    asked = name in ("-h", "--help")
    print(USAGE, end="", file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2
