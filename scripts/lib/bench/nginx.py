"""nginx as every server here has it: the same settings with the module, in front of a peer, alone.

Nginx itself writes only below its directory.
"""

import os
import shutil

NGINX = os.environ.get("NGINX") or shutil.which("nginx") or "/usr/sbin/nginx"

CONFIG = """\
{main}
worker_processes {processes};
worker_rlimit_nofile {files};
daemon off;
pid nginx.pid;
error_log error.log error;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_buffer_size 128k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=1024 reuseport;
        {server}
    }}
}}
"""

UWSGI_PARAMS = "".join(
    f"uwsgi_param {name} ${variable}; "
    for name, variable in {
        "QUERY_STRING": "query_string", "REQUEST_METHOD": "request_method",
        "CONTENT_TYPE": "content_type", "CONTENT_LENGTH": "content_length",
        "REQUEST_URI": "request_uri", "PATH_INFO": "document_uri",
        "DOCUMENT_ROOT": "document_root", "SERVER_PROTOCOL": "server_protocol",
        "REQUEST_SCHEME": "scheme", "REMOTE_ADDR": "remote_addr", "REMOTE_PORT": "remote_port",
        "SERVER_PORT": "server_port", "SERVER_NAME": "server_name",
    }.items()
) + "uwsgi_param HTTPS $https if_not_empty;"


def config(*, port, server, processes=1, connections=1024, main="", http=""):
    return CONFIG.format(port=port, server=server, processes=processes, main=main, http=http,
                         connections=connections, files=connections + 64)


def command(directory, *options):
    """nginx in the foreground, with the nginx.conf of the directory."""
    return [NGINX, "-e", "stderr", "-p", f"{directory}/", "-c", f"{directory}/nginx.conf", *options]


def module_main(module, threads):
    return f"load_module {module};\nthread_pool wsgi threads={threads};"


def module_http(venv, paths, environ):
    """What the module's interpreter needs: the virtualenv, sys.path, os.environ."""
    lines = [f'wsgi_python_home "{venv}";', "wsgi_thread_pool wsgi;", "wsgi_temp_path wsgi;"]
    lines += [f'wsgi_python_path "{path}";' for path in paths]
    lines += [f'wsgi_env {name} "{value}";' for name, value in environ.items()]
    return "\n    ".join(lines)
