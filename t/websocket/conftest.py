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
