"""WebSockets of a test: a server with the applications, and clients that are closed after it."""

import pytest
from lib.websocket import WebSocket

ON = "wsgi_websocket on;"


@pytest.fixture
def dial():
    """dial(site, path, ...): an open WebSocket; dial(site) a connection that has not asked yet."""
    opened = []

    def open_one(site, path=None, headers=(), ahead=b"", **options):
        client = WebSocket(options.pop("port", site.port), **options)
        opened.append(client)
        if path:
            client.open(path, headers, ahead)
        return client

    yield open_one
    for client in opened:
        client.close()


@pytest.fixture
def reloading(make_nginx):
    """reloading(module): a site with wsgi_reload, and what changes its source."""

    def start(module):
        site = make_nginx(http="wsgi_reload on; wsgi_websocket on; wsgi_python_path @DIR@/site;",
                          server="location / { wsgi_app @DIR@/site/app.py; }")
        text = f"from {module} import application\n"
        site.write("site/app.py", text)
        return site.start(), lambda: site.write("site/app.py", text + "\n")

    return start


@pytest.fixture(params=["plain", "tls"])
def phone(request, site, dial):
    """phone(path, ...) is dial(site, path, ...), over TCP and over TLS, of a file's own site."""
    if request.param == "plain":
        return lambda *args, **options: dial(site, *args, **options)
    return lambda *args, **options: dial(site, *args, port=site.ports["PORT2"], tls=True, **options)
