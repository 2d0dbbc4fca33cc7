"""Logging as a framework configures it, by the dotted name of the handler, and what passes by."""

import logging
import logging.config
import multiprocessing
import os
import threading

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"format": "own %(levelname)s %(message)s"}},
    "handlers": {
        "nginx": {"class": "nginx_wsgi.LogHandler"},
        "own": {"class": "nginx_wsgi.LogHandler", "formatter": "own"},
    },
    "loggers": {"formatted": {"handlers": ["own"], "propagate": False}},
    "root": {"handlers": ["nginx"], "level": "DEBUG"},
}
logging.config.dictConfig(LOGGING)
log = logging.getLogger("shop.views")


def tell(text):
    log.error(text)


def fork(text):
    child = os.fork()
    if not child:
        tell(text)
        os._exit(0)
    os.waitpid(child, 0)


def aside(make, target, text):
    worker = make(target=target, args=(text,))
    worker.start()
    worker.join()


def failed(text):
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it went wrong")


WAYS = {
    "failed": failed,
    "formatted": lambda text: logging.getLogger("formatted").error(text),
    "wrong": lambda text: log.error("%d", text),
    "thread": lambda text: aside(threading.Thread, tell, text),
    "fork": fork,
    "spawn": lambda text: aside(multiprocessing.get_context("spawn").Process, tell, text),
}


def application(environ, start_response):
    """/logs/HOW?TEXT"""
    how, text = environ["PATH_INFO"].rsplit("/", 1)[1], environ["QUERY_STRING"]
    if how.isdecimal():
        log.log(int(how), text)
    else:
        WAYS[how](text)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"logged"]
