"""The applications of scripts/soak --deaths: a request with an id leaves a line, id and worker.

One write to a file that is open for appending: the line is whole, is there when the process is
killed, and needs no lock that a stopped process would keep.
"""

import os

import soak_mix
from miniproject.wsgi import application as project

_file = os.open(os.environ["SOAK_RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def recorded(application):
    def call(environ, start_response):
        if number := environ.get("HTTP_X_REQUEST_ID"):
            os.write(_file, f"{number} {os.getpid()}\n".encode("latin-1"))
        return application(environ, start_response)

    return call


mix = recorded(soak_mix.application)
django = recorded(project)
