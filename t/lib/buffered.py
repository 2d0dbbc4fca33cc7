"""Answers of t/apps/buffered.py, the clients that are slow to read them, and their files."""

import contextlib
import hashlib
import importlib
import os
import socket
import sys

from . import config, procs, tls

sys.path.append(os.path.join(config.HERE, "apps"))
buffered = importlib.import_module("buffered")

MIB = 1 << 20
MAIN = "thread_pool few threads=2; thread_pool other threads=1;"
HTTP = "wsgi_thread_pool few;"
SERVER = tls.SERVER + """
    listen 127.0.0.1:@PORT2@ http2;
    listen 127.0.0.1:@PORT3@ ssl;
    listen 127.0.0.1:@PORT4@ ssl http2;
    location / { wsgi_app buffered:application; }
    location = /sendfile { sendfile on; wsgi_app buffered:application; }
    location = /threads { sendfile on; aio threads=other; wsgi_app buffered:application; }
    location = /read { aio threads=other; wsgi_app buffered:application; }
    location = /gzip { gzip on; gzip_types *; sendfile on; wsgi_app buffered:application; }
    location = /sub { sub_filter nowhere x; sendfile on; wsgi_app buffered:application; }
    location = /limited {
        wsgi_max_temp_file_size 1m; wsgi_read_timeout 1500ms; wsgi_app buffered:application;
    }
    location = /tight {
        sendfile on; wsgi_max_temp_file_size 256k; wsgi_app buffered:application;
    }
    location = /rate { limit_rate 1600k; sendfile on; wsgi_app buffered:application; }
    location = /counting { wsgi_app buffered:counting; }
    location = /counting/1m { wsgi_max_temp_file_size 1m; wsgi_app buffered:counting; }
    location = /off { wsgi_buffering off; wsgi_app buffered:counting; }
    location = /deaf {
        wsgi_ignore_headers X-Accel-Buffering; wsgi_buffering off; wsgi_app buffered:counting;
    }
    location = /zero { wsgi_max_temp_file_size 0; wsgi_app buffered:counting; }
    location = /behind {
        add_before_body /held/part; addition_types *; wsgi_app buffered:application;
    }
    location = /held/part { wsgi_app stream:writes; }
"""
WAYS = ["generator", "write", "wrapper", "list"]


def prepared(make_nginx, http=""):
    """nginx with all of SERVER, not started."""
    site = make_nginx(main=MAIN, http=HTTP + http, server=SERVER, apps=["plain"])
    tls.make_certificate(site.dir)
    return site


def path(place, n, size, **more):
    query = {"n": n, "size": size} | more
    return f"{place}?" + "&".join(f"{name}={value}" for name, value in query.items())


def digest(n, size, how="generator"):
    found = hashlib.sha256()
    for number in range(n):
        found.update(buffered.chunk(0 if how == "list" else number, size))
    return found.hexdigest()


def sha(body):
    return hashlib.sha256(body).hexdigest()


def files(site, worker=None):
    """The sizes of the temporary files that are open, by one descriptor or by several."""
    pid = worker or site.worker()
    found = {}
    for fd, to in procs.fds(pid).items():
        if to.startswith(f"{site.dir}/wsgi/"):
            # The worker may have closed it since.
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(f"/proc/{pid}/fd/{fd}")
                found[stat.st_ino] = stat.st_size
    return list(found.values())


def ask(site, target, **options):
    """A client that sends its request and reads nothing."""
    return site.ask(target, rcvbuf=4096, **options)


def drain(client):
    """The answer, which is taken as fast as it comes from now on."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return client.read_response()
