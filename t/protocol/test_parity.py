"""The same application called by werkzeug.test.run_wsgi_app, without a server, and by nginx."""

import importlib
import os
import sys
from urllib.parse import unquote_to_bytes

import pytest
from lib import config
from werkzeug.test import EnvironBuilder, run_wsgi_app

sys.path.append(os.path.join(config.HERE, "apps"))
classics = importlib.import_module("classics")

FRAMEWORKS = ["flask", "bottle", "falcon", "pyramid"]
SERVER = "listen 127.0.0.1:@PORT2@ http2; client_max_body_size 8m;"
SERVER += "".join(
    f"location /{name} {{ wsgi_app classics:{name}; wsgi_mount /{name}; }}"
    for name in classics.APPLICATIONS
)
SERVER += "".join(
    f"location /{name}/ {{ wsgi_app {name}_site:application; wsgi_mount /{name}; }}"
    for name in FRAMEWORKS
)
# Method, path and query, headers, body.
REQUESTS = [
    ("GET", "", {}, b""),
    ("HEAD", "/", {}, b""),
    ("GET", "/a/b?c=d&e=%20", {"X-A": "b", "Accept": "text/*;q=0.5, */*", "Cookie": "a=1; b=2"},
     b""),
    ("GET", "/a%20b/%C3%A9/%FF%25", {"X-Latin": "\xe9\xff", "User-Agent": ""}, b""),
    ("GET", "/?a%00b%2F%FF+c", {"Referer": "http://h/?a#b"}, b""),
    ("POST", "/x", {"Content-Type": "a/b; c=\"d\""}, b"a body\n\xff\0"),
    ("POST", "/x", {}, b"large" * 200_000),
    ("PUT", "/x?y", {"Content-Type": "text/plain"}, b"put"),
    ("DELETE", "/x", {}, b""),
    ("OPTIONS", "/x", {"Authorization": "Basic YTpi"}, b""),
]
PAGES = [
    ("GET", "/hello/%E2%82%ACuro%20%C3%A9?q=%C3%BC+x", {}, b""),
    ("POST", "/double", {"Content-Type": "application/json"}, b'{"number": 21}'),
    ("GET", "/stream", {}, b""), ("GET", "/redirect", {}, b""), ("GET", "/missing", {}, b""),
    ("HEAD", "/hello/x?q=y", {}, b""), ("GET", "/count", {}, b""),
]


@pytest.fixture(scope="module")
def site(shared_nginx):
    # The virtualenv lies where the checkout lies, which may be closed to another user.
    return shared_nginx(
        server=SERVER, http=f'wsgi_python_home "{sys.prefix}";',
        main="user root;" if os.getuid() == 0 else "",
    )


def called(application, proto, name, method, path, headers, body):
    """Status, headers and body as werkzeug gets them from the application."""
    path, _, query = path.partition("?")
    builder = EnvironBuilder(
        method=method, path="/", query_string=query, headers=headers, data=body or None,
        base_url="http://localhost/",
    )
    environ = builder.get_environ()
    environ["SCRIPT_NAME"] = f"/{name}"
    environ["PATH_INFO"] = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    environ["SERVER_PROTOCOL"] = {"http/1.0": "HTTP/1.0", "http/1.1": "HTTP/1.1",
                                  "h2": "HTTP/2.0"}[proto.name]
    # Buffered, it would lose what is given to write().
    chunks, status, found = run_wsgi_app(application, environ, buffered=False)
    body = b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return status, list(found), body


def compare(proto, response, method, status, headers, body):
    code = int(status[:3])
    assert response.complete
    assert response.status == code
    if proto.name != "h2" and code != 304:
        assert response.reason == status[4:]
    bodiless = method == "HEAD" or code in (204, 304)
    assert (response.body, response.rest) == (b"" if bodiless else body, b"")
    own = {name.lower() for name, _ in headers}
    added = {"date", "server", "content-length", "transfer-encoding", "connection"} - own
    found = [(n.lower(), v) for n, v in response.headers if n.lower() not in added]
    assert sorted(found) == sorted((n.lower(), v.strip()) for n, v in headers)
    order = [field for field in found if field[0] in ("set-cookie", "vary")]
    assert order == [(n.lower(), v) for n, v in headers if n.lower() in ("set-cookie", "vary")]


def without_secrets(headers):
    """Cookies are signed with the time; only their names can be the same."""
    return [(n, v.partition("=")[0].strip() if n.lower() == "set-cookie" else v)
            for n, v in headers]


# run_wsgi_app raises exc_info though nothing has been sent.
@pytest.mark.parametrize("name", sorted(set(classics.APPLICATIONS) - {"recovered"}))
def test_a_classic_application_answers_as_it_does_without_a_server(site, proto, name):
    for method, path, headers, body in REQUESTS:
        wanted = called(
            classics.APPLICATIONS[name], proto, name, method, path,
            {"Host": "localhost", **headers}, body,
        )
        sent = {"Host": "localhost", **headers} if proto.name != "h2" else headers
        response = proto(site, method, f"/{name}{path}", sent, body)
        compare(proto, response, method, *wanted)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_application_that_recovers_sends_its_second_head_alone(site, proto, method):
    response = proto(site, method, "/recovered/x", {}, b"x" if method == "POST" else b"")
    headers = [*classics.PLAIN, ("Retry-After", "5")]
    compare(proto, response, method, "503 Sorry", headers, b"sorry")


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated")
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_answers_as_it_does_without_a_server(site, proto, name):
    application = importlib.import_module(f"{name}_site").application
    for method, path, headers, body in PAGES:
        status, wanted, content = called(application, proto, name, method, path, headers, body)
        sent = {"Host": "localhost", **headers} if proto.name != "h2" else headers
        response = proto(site, method, f"/{name}{path}", sent, body)
        response.headers = without_secrets(response.headers)
        compare(proto, response, method, status, without_secrets(wanted), content)
