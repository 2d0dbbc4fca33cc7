"""Applications that use uWSGI's own API."""

import os
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from lib.poll import SLOWDOWN
from lib.websocket import BINARY, CLOSE, TEXT, frame
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        http="wsgi_uwsgi_api on;", apps=["uwsgi_chat"], app_directives="wsgi_websocket on;",
        main="thread_pool default threads=3;", workers=2,
    )


def test_an_echo(site):
    url = f"ws://127.0.0.1:{site.port}/uwsgi_chat/echo"
    with connect(url, open_timeout=10 * SLOWDOWN) as client:
        for message in ("a", "ä" * 1000, b"bytes come back as text"):
            client.send(message)
            said = message if isinstance(message, bytes) else message.encode()
            assert client.recv(decode=False)[4:] == said


def test_a_chat_by_descriptors(make_nginx, dial):
    site = make_nginx(http="wsgi_uwsgi_api on;", apps=["uwsgi_chat"],
                      app_directives="wsgi_websocket on;").start()
    clients = [dial(site, "/uwsgi_chat/chat") for _ in range(3)]
    site.wait_event("joined", 3)
    for n in range(30):
        said = b"message %d" % n
        clients[n % 3].say(TEXT, said)
        assert [client.hear() for client in clients] == [(BINARY, said)] * 3
    mark = site.log.mark()
    clients.pop().close()
    site.wait_event("over /chat")
    clients[0].say(TEXT, b"two left")
    assert [client.hear() for client in clients] == [(BINARY, b"two left")] * 2
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


@pytest.mark.parametrize("end", ["close", "reset", "says"])
def test_an_exception_because_of_the_client_is_no_error(site, dial, end):
    over, mark = len(site.events("over /echo")), site.log.mark()
    client = dial(site, "/uwsgi_chat/echo", ahead=frame(TEXT, b"x"))
    client.hear()
    if end == "says":
        client.say(CLOSE, b"\x03\xe8")
        assert client.hear() == (CLOSE, b"\x03\xe8")
    else:
        getattr(client, end)()
    site.wait_event("over /echo", over + 1)
    site.log.wait_for(r"\[info\].*unable to receive websocket message", start=mark)
    assert site.log.matching(r"\[(error|warn)\]", mark) == []


def test_disconnect_closes(site, dial):
    client = dial(site, "/uwsgi_chat/leaves")
    assert client.hear() == (TEXT, b"bye")
    assert client.hear() == (CLOSE, struct.pack("!H", 1000))
    site.wait_event("left")


def test_a_forked_child_has_no_descriptor(site, dial):
    dial(site, "/uwsgi_chat/forks")
    site.wait_event("child 7")


def test_a_bad_handshake_is_refused(site, dial):
    answer = dial(site).ask("/uwsgi_chat/echo", {"Sec-WebSocket-Version": "7"}).read_response()
    assert (answer.status, answer.header("Sec-WebSocket-Version")) == (426, "13")


def test_the_server_is_told_of(site):
    facts = site.get("/uwsgi_chat/facts").text
    assert facts in ("(1, 2, True, b'3', True)", "(2, 2, True, b'3', True)")


def test_a_lock_is_one_of_all_workers(site):
    path = f"{site.dir}/count"
    open(path, "w").close()
    os.chmod(path, 0o666)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: site.get(f"/uwsgi_chat/count?{path}"), range(8)))
    assert [answer.status for answer in answers] == [200] * 8
    assert open(path).read() == "400"


def test_atexit_is_called_when_the_worker_leaves(make_nginx):
    site = make_nginx(http="wsgi_uwsgi_api on;", apps=["uwsgi_chat"]).start()
    assert site.get("/uwsgi_chat/facts").status == 200
    site.stop()
    site.wait_event("atexit")


def test_without_the_directive_there_is_no_such_module(make_nginx):
    site = make_nginx(apps=["uwsgi_chat"], http="wsgi_check off;").start()
    assert site.get("/uwsgi_chat/facts").status == 500
    site.log.wait_for("No module named 'uwsgi'")
