"""nginx-wsgi gunicorn2nginx: nginx takes what it writes, and nothing is left out silently."""

import os
import re
import subprocess

import pytest
from lib import config

FILE = """
import multiprocessing, os
bind = ["127.0.0.1:@PORT@", f"unix:{os.getcwd()}/socket"]
workers = multiprocessing.cpu_count() * 2 + 1
worker_class = "gthread"
threads = 6
timeout = 60
keepalive = 5
max_requests = 1000
max_requests_jitter = 50
raw_env = ["A=b=c", "D=e f"]
umask = 0o027
accesslog = "-"
errorlog = "-"
loglevel = "warning"
preload_app = True
statsd_host = "localhost:8125"
limit_request_line = 16384
def post_fork(server, worker):
    pass
"""


def directives(text):
    return [" ".join(line.split()).rstrip(";") for line in text.splitlines()
            if line.strip() and not line.startswith("#")]


def test_a_configuration_file_is_written_as_one_that_nginx_takes(site):
    site.write("wsgi.py")
    site.write("gunicorn.conf.py", FILE.replace("@PORT@", str(config.free_port())))
    done = site.call("gunicorn2nginx", "wsgi:application", "--threads", "9")
    assert (done.returncode, done.stderr) == (0, "")
    found = directives(done.stdout)
    for each in ("thread_pool wsgi threads=9", f"worker_processes {os.cpu_count() * 2 + 1}",
                 "error_log stderr warn", "wsgi_request_timeout 60s", "keepalive_timeout 5s",
                 "wsgi_max_requests 1000 jitter=50", "wsgi_env A b=c", 'wsgi_env D "e f"',
                 "wsgi_umask 027", "access_log /dev/stdout", f"listen unix:{site.dir}/socket",
                 "large_client_header_buffers 4 16384", "wsgi_app wsgi:application",
                 f"wsgi_chdir {site.dir}"):
        assert each in found
    for each in ("# - post_fork: a hook has no counterpart", "# - statsd_host = 'localhost:8125'",
                 "Needs nothing: preload_app"):
        assert each in done.stdout
    text = done.stdout.replace("modules/ngx_http_wsgi_module.so", config.MODULE)
    text = text.replace("http {\n", "http {\n" + config.PLACES)
    path = site.write("nginx.conf", "pid nginx.pid;\n" + text)
    tested = subprocess.run([config.BINARY, "-t", "-e", "stderr", "-p", site.dir, "-c", path],
                            capture_output=True, text=True, timeout=30)
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize("args, env, expected", [
    (["gunicorn", "-b", ":8000", "a:b"], {}, ["listen 8000", "worker_processes 1"]),
    (["/x/bin/gunicorn", "a"], {"PORT": "81"}, ["listen 0.0.0.0:81", "wsgi_app a"]),
    (["a"], {}, ["listen 127.0.0.1:8000"]),
    (["-b", "[::1]", "-b", "x.example", "a"], {}, ["listen [::1]:8000", "listen x.example:8000"]),
    (["-w", "2", "a"], {"GUNICORN_CMD_ARGS": "-w 4 --reload"},
     ["worker_processes 2", "wsgi_reload on"]),
    (["a", "--certfile", "c.pem", "--keyfile", "k.pem"], {},
     ["listen 127.0.0.1:8000 ssl", "ssl_certificate @/c.pem", "ssl_certificate_key @/k.pem"]),
    (["a", "--user", "0", "--group", "0"], {}, ["user root root"]),
    (["a", "--forwarded-allow-ips", "10.0.0.1,10.0.0.2"], {},
     ["set_real_ip_from 10.0.0.1", "set_real_ip_from 10.0.0.2", "real_ip_header X-Forwarded-For"]),
    (["--paste", "site.ini#main"], {}, ["wsgi_app paste:@/site.ini#main"]),
    (["a", "--pythonpath", "x,y", "--chdir", "z"], {}, ["wsgi_python_path @/x @/y",
                                                         "wsgi_chdir @/z"]),
    (["a", "--graceful-timeout", "20", "--backlog", "64"], {},
     ["worker_shutdown_timeout 20s", "listen 127.0.0.1:8000 backlog=64"]),
    (["proj:create_app('x', debug=True)"], {}, ["wsgi_app proj:create_app('x', debug=True)"]),
])
def test_options_are_those_of_gunicorn(site, args, env, expected):
    done = site.call("gunicorn2nginx", *args, env=env)
    assert done.returncode == 0, done.stderr
    found = [each.replace('"', "") for each in directives(done.stdout)]
    for each in expected:
        assert each.replace("@", site.dir) in found


@pytest.mark.parametrize("args, file, expected", [
    ([], "", "no application is named"),
    (["a", "-k", "uvicorn.workers.UvicornWorker"], "", "is for ASGI, which this module does not"),
    (["a"], "1 / 0", "gunicorn.conf.py: ZeroDivisionError: division by zero"),
    (["a"], "workers = 'many'", "workers is 'many', which is no number"),
    (["a", "-c", "nowhere.py"], "", "nowhere.py: FileNotFoundError"),
    (["a", "-c", "python:conf"], "", "name its file in place of the module"),
])
def test_what_cannot_be_converted_is_refused(site, args, file, expected):
    site.write("gunicorn.conf.py", file)
    said = site.refused("gunicorn2nginx", *args)
    assert re.match("gunicorn2nginx: ", said) and expected in said


def test_asynchronous_workers_are_named(site):
    done = site.call("gunicorn2nginx", "-k", "gevent", "a")
    assert "# - worker_class gevent has no counterpart but more threads" in done.stdout
