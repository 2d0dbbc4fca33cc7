"""What every server here is started with: a user, an environment, an end."""

import contextlib
import os
import pwd
import re
import signal
import sys

WORKER_USERS = ("www-data", "nobody")


def worker_user():
    """The unprivileged user that servers run as when root starts them, None if there is none."""
    for name in WORKER_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def environment(extra=()):
    """The environment without what steers Python, nginx or another server.

    nginx reads a variable NGINX of its own: descriptors that another master hands over.
    """
    kept = {
        name: value for name, value in os.environ.items()
        if not re.match(r"PYTHON|VIRTUAL_ENV$|NGINX$|GRANIAN_|GUNICORN_|UWSGI_|WEB_CONC", name)
    }
    return kept | dict(extra)


def leave_on_signals():
    """A signal raises SystemExit, so that all is stopped; further ones change nothing."""
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number, _):
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in caught:
        signal.signal(each, leave)
