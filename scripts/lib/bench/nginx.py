"""nginx as every server here has it: the same settings with the module, in front of a peer, alone.

Nginx itself writes only below its directory.
"""

from common import nginx

UWSGI_PARAMS = {
    "QUERY_STRING": "query_string", "REQUEST_METHOD": "request_method",
    "CONTENT_TYPE": "content_type", "CONTENT_LENGTH": "content_length",
    "REQUEST_URI": "request_uri", "PATH_INFO": "document_uri",
    "DOCUMENT_ROOT": "document_root", "SERVER_PROTOCOL": "server_protocol",
    "REQUEST_SCHEME": "scheme", "REMOTE_ADDR": "remote_addr", "REMOTE_PORT": "remote_port",
    "SERVER_PORT": "server_port", "SERVER_NAME": "server_name",
}
PROXY = (
    ("proxy_pass", "http://application"),
    ("proxy_http_version", "1.1"),
    ("proxy_set_header", "Connection", ""),
    ("proxy_set_header", "Host", "$http_host"),
    ("proxy_set_header", "X-Forwarded-For", "$proxy_add_x_forwarded_for"),
)


class Config(nginx.Config):
    """What is asked for is answered by self.location, `location /`."""

    def __init__(self, port, *, h2_port=None, workers=1, connections=1024, reuseport=True,
                 counted=False, **module):
        super().__init__(workers=workers, connections=connections,
                         error_log=("error.log", "error"), **module)
        self.main.add("worker_rlimit_nofile", connections + 64)
        for directive in (
            ("access_log", "off"), ("sendfile", "on"), ("keepalive_requests", 1_000_000_000),
            ("keepalive_timeout", "600s"), ("client_body_buffer_size", "128k"),
        ):
            self.http.add(*directive)
        if counted:
            self.http.add("log_format", "workers", "$wsgi_worker")
        options = ["backlog=1024", *(["reuseport"] if reuseport else [])]
        server = self.server(f"127.0.0.1:{port}", *options)
        if h2_port:
            server.add("listen", f"127.0.0.1:{h2_port}", "http2", *options)
        self.site = server
        self.location = server.block("location", "/")
        if counted:
            self.location.add("access_log", "workers.log", "workers", "buffer=64k")

    def status(self):
        self.site.block("location", "= /status").add("wsgi_status")

    def floor(self, location, site, kind="return"):
        """Nginx without Python answers there: by a line, or by the file of 1 MiB."""
        if kind == "file":
            location.add("root", site.files)
            location.add("try_files", "/large", "=404")
        else:
            location.add("return", 200, "Hello, World!")

    def application(self, target, site, environ):
        """By the module, with the interpreter and the paths of the site."""
        self.http.add("wsgi_python_home", site.venv)
        for path in site.python_path:
            self.http.add("wsgi_python_path", path)
        for name, value in environ.items():
            self.http.add("wsgi_env", name, value)
        self.location.add("wsgi_app", target)

    def proxy(self, socket):
        """By a server that speaks HTTP on the socket."""
        upstream = self.http.block("upstream", "application")
        upstream.add("server", f"unix:{socket}")
        upstream.add("keepalive", 64)
        for directive in PROXY:
            self.location.add(*directive)

    def uwsgi(self, socket):
        for name, variable in UWSGI_PARAMS.items():
            self.location.add("uwsgi_param", name, f"${variable}")
        self.location.add("uwsgi_param", "HTTPS", "$https", "if_not_empty")
        self.location.add("uwsgi_pass", f"unix:{socket}")
