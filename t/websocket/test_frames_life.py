"""The life of a WebSocket of messages: pings, limits, its worker's end."""

import struct

import pytest
from lib import procs
from lib.poll import elapse, until
from lib.websocket import CLOSE, PING, PONG, TEXT, TIME, TIMES, build, frame, idle_count

TWO = "thread_pool default threads=2;"


@pytest.fixture
def start(make_nginx):
    def start(directives="", **options):
        options.setdefault("main", TWO)
        directives = f"wsgi_websocket on; {directives}"
        return make_nginx(apps=["messages"], app_directives=directives, **options).start()

    return start


def opened(site, dial, **options):
    """A client whose application is at work."""
    client = dial(site, "/messages/echo", ahead=frame(TEXT, b"x"), **options)
    assert client.hear() == (TEXT, b"x")
    return client


def echoes(client, text=b"still here"):
    client.say(TEXT, text)
    return client.hear() == (TEXT, text)


def code(number):
    return CLOSE, struct.pack("!H", number)


def test_a_client_that_does_not_answer_counts_as_gone(start, dial):
    site = start("wsgi_websocket_ping 1s timeout=1s;")
    client = dial(site, "/messages/echo")
    assert client.hear() == (PING, b"")
    assert client.at_eof()
    site.wait_event("over /echo")
    site.log.wait_for(r"\[info\].*the client has not answered a ping")


def test_a_client_that_answers_stays(start, dial):
    site = start("wsgi_websocket_ping 500ms timeout=10s;")
    client = dial(site, "/messages/echo")
    for _ in range(5):
        assert client.hear() == (PING, b"")
        client.say(PONG)
    assert site.events("over") == []


def test_a_client_that_talks_is_not_asked(start, dial):
    site = start("wsgi_websocket_ping 3s timeout=3s;")
    client = opened(site, dial)
    for _ in range(8):
        elapse(0.5)
        assert echoes(client)


def test_without_a_ping_nobody_is_asked(start, dial):
    client = opened(start("wsgi_websocket_ping 0;", http=TIMES), dial)
    elapse(2 * TIME)
    assert echoes(client)


def test_a_larger_message_than_the_limit_is_1009(start, dial):
    site = start("wsgi_websocket_max_message 10;")
    client = opened(site, dial)
    assert echoes(client, b"0123456789")
    # A control frame is none.
    client.say(PING, b"a ping may be longer")
    assert client.hear() == (PONG, b"a ping may be longer")
    client.say(TEXT, b"0123456789a")
    assert client.hear() == code(1009)


def test_an_answer_to_a_close_is_waited_for_but_not_for_ever(start, dial):
    site = start()
    client = dial(site, "/messages/closes")
    assert client.hear() == (CLOSE, b"\x0f\xa1enough")
    site.wait_event("over /closes")
    assert client.at_eof(timeout=30)


def test_a_client_that_takes_nothing_has_send_timeout(start, dial):
    site = start(http="send_timeout 200ms;")
    client = dial(site, "/messages/push", rcvbuf=4096)
    site.log.wait_for("client timed out")
    site.wait_event("stopped the client is gone")
    assert client.read_to_end()[1] in ("closed", "reset")


def test_until_the_handshake_an_application_has_the_read_timeout(start, dial):
    site = start(http="wsgi_read_timeout 2s;")
    gate = site.gate("waits")
    assert dial(site).ask("/messages/waits").read_response().status == 504
    gate.open()
    site.wait_event("over /waits")


@pytest.mark.parametrize("way", ["waits", "listens"])
def test_a_client_that_leaves_before_the_handshake_is_no_error(start, dial, way):
    site = start()
    gate, idle = site.gate(way), idle_count(site)
    client = dial(site).ask(f"/messages/{way}")
    site.wait_event(f"waiting {way}")
    client.close()
    # The application's end, and the file of the gate.
    until(lambda: site.fd_count() <= idle + 2, what="nginx has noticed")
    gate.open()
    site.wait_event(f"over /{way}")
    site.settle()
    assert site.log.matching(r"\[(error|warn)\]") == []


def test_an_error_that_has_to_do_with_no_socket_is_one_after_the_client_has_left(start, dial):
    site = start()
    gate, idle = site.gate("careless"), idle_count(site)
    client = dial(site).ask("/messages/careless")
    site.wait_event("waiting careless")
    client.close()
    # The application's end, and the file of the gate.
    until(lambda: site.fd_count() <= idle + 2, what="nginx has noticed")
    gate.open()
    site.log.wait_for(r"\[error\].*FileNotFoundError: on purpose")


def test_beyond_the_threads_it_is_503(start, dial):
    site = start("wsgi_websocket_threads 2;")
    clients = [opened(site, dial) for _ in range(2)]
    assert dial(site).ask("/messages/echo").read_response().status == 503
    clients.pop().close()
    site.wait_event("over /echo")


def test_a_reload_does_not_cut_and_the_old_worker_leaves_behind_the_last(start, dial):
    site = start()
    client = opened(site, dial)
    (old,) = site.reload()
    assert echoes(client) and procs.alive(old)
    client.say(*code(1000))
    assert client.hear() == code(1000)
    until(lambda: not procs.alive(old), what="the old worker's end")


def test_worker_shutdown_timeout_closes_with_1001(start, dial):
    site = start(main=TWO + "worker_shutdown_timeout 500ms;")
    client = opened(site, dial)
    (old,) = site.reload()
    assert client.hear() == code(1001)
    assert client.at_eof()
    site.wait_event("over /echo")
    until(lambda: not procs.alive(old), what="the old worker's end")


def test_a_source_that_changes_closes_with_1001(reloading, dial):
    site, change = reloading("messages")
    client = opened(site, dial)
    old = site.worker()
    change()
    assert client.hear() == code(1001)
    assert client.at_eof()
    site.wait_event("over /echo")
    site.wait_respawn(old)
    assert echoes(opened(site, dial))


def test_a_handshake_behind_the_change_of_a_source_keeps_no_worker(reloading, dial):
    site, change = reloading("messages")
    gate, old = site.gate("listens"), site.worker()
    client = dial(site).ask("/messages/listens")
    site.wait_event("waiting listens")
    change()
    until(lambda: site.workers() == [], what="the worker leaves")
    gate.open()
    assert client.read_head().status == 101
    assert client.hear() == code(1001)
    assert client.at_eof()
    site.wait_respawn(old)


def test_a_worker_that_leaves_puts_nothing_into_a_head(start, dial):
    site = start("limit_rate 10;", main=TWO + "worker_shutdown_timeout 300ms;")
    client = dial(site).ask("/messages/echo", ahead=frame(TEXT, b"x"))
    assert client.read_exactly(9) == b"HTTP/1.1 "
    site.reload()
    rest, _ = client.read_to_end()
    assert rest.isascii(), rest
    site.wait_event("over /echo")


@pytest.mark.parametrize("how", ["stop", "quit"])
def test_the_end_of_nginx_closes_with_1001(start, dial, how):
    site = start(main=TWO + ("worker_shutdown_timeout 300ms;" if how == "quit" else ""))
    clients = [opened(site, dial) for _ in range(3)]
    getattr(site, how)()
    site.wait_event("over /echo", 3)
    assert [client.hear() for client in clients] == [code(1001)] * 3
    assert all(client.at_eof() for client in clients)


def test_a_thousand_connects_and_aborts_leave_nothing_behind(start, dial):
    site = start()

    def turn(number):
        for n in range(number):
            client = dial(site)
            client.send(build("/messages/echo") + frame(TEXT, b"x" * n))
            if n % 4:
                client.read_head()
            if n % 4 == 2:
                client.hear()
            if n % 8 == 6:
                client.send(frame(TEXT, b"half of it", length=100))
            (client.reset if n % 2 else client.close)()

    turn(20)
    site.settle()
    worker = site.worker()
    before = site.fd_count()
    turn(1000)
    until(lambda: site.fd_count() <= before, what="the connections are closed")
    assert site.worker() == worker
    assert echoes(opened(site, dial))
