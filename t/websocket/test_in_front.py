"""What nginx does in front of an application that takes the connection over, and what it shows."""

import pytest
from lib import procs
from lib.poll import elapse, until
from lib.status import STATUS, in_words, total

SERVER = STATUS + """
    location = /yes { return 204; }
    location = /no { return 403; }
    location /in { wsgi_app raw_socket:application; wsgi_websocket on;
                   rewrite ^/in(.*)$ /raw_socket$1 break; auth_request /yes; }
    location /out { wsgi_app raw_socket:application; wsgi_websocket on; auth_request /no; }
    location /one { wsgi_app raw_socket:application; wsgi_websocket on; limit_conn all 1;
                    rewrite ^/one(.*)$ /raw_socket$1 break; }
    location /local { wsgi_app raw_socket:application; wsgi_websocket on; satisfy any;
                      deny all; auth_request /yes; rewrite ^/local(.*)$ /raw_socket$1 break; }
"""
HTTP = "limit_conn_zone $server_name zone=all:1m;"


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER, http=HTTP, apps=["raw_socket"], app_directives="wsgi_websocket on;")


@pytest.mark.parametrize("path", ["/in/echo", "/local/echo"])
def test_auth_request_lets_one_through(site, dial, path):
    client = dial(site, path)
    client.send(b"x")
    assert client.read_exactly(1) == b"x"


def test_auth_request_refuses_one_before_the_application(site, dial):
    assert dial(site).ask("/out/echo").read_response().status == 403
    assert site.events() == []


def test_limit_conn_counts_a_websocket_as_long_as_it_is_open(site, dial):
    client = dial(site, "/one/echo")
    assert dial(site).ask("/one/echo").read_response().status == 503
    client.close()
    until(lambda: dial(site).ask("/one/echo").read_head().status == 101)


def websockets(site):
    """How many are open, and how many threads are at one."""
    return total(site, "websockets"), total(site, "websocket_threads", state="busy")


def test_the_status_shows_websockets_and_their_threads(site, dial):
    clients = [dial(site, "/raw_socket/echo") for _ in range(3)]
    until(lambda: websockets(site) == (3, 3))
    words, page, text = in_words(site)
    assert "all is well" in words
    assert text.count(" websocket, waited ") == 3
    assert "GET /raw_socket/echo" in text and " thread websocket:" in text
    assert "websockets: 3 of 3 threads busy" in text
    assert "websockets: 3 / 3" in page
    for client in clients:
        client.close()
    until(lambda: websockets(site) == (0, 0))
    # They count as answered, and how long they lasted is in no histogram.
    until(lambda: total(site, "requests_total", code="1xx") == 3)


def test_nobody_looks_at_idle_ones(site, dial):
    clients = [dial(site, "/raw_socket/echo") for _ in range(3)]
    until(lambda: websockets(site) == (3, 3))
    pids = [site.worker()]

    def rests():
        before = procs.at_rest(pids)
        elapse(0.5)
        return before is not None and procs.at_rest(pids) == before

    until(rests, 20, "half a second in which no thread of the worker runs")
    for client in clients:
        client.send(b"x")
        assert client.read_exactly(1) == b"x"
