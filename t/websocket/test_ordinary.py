"""Requests that ask for a WebSocket and become none, and threads whose clients have gone."""

import pytest
from lib import procs
from lib.poll import elapse, until
from lib.status import STATUS, in_words, total
from lib.websocket import TEXT, frame

HTTP = "wsgi_request_timeout 1s; wsgi_shutdown_timeout 50s;"
SERVER = STATUS + """
    location /quick { wsgi_app overdue:quick; wsgi_request_timeout 0; }
    location /one/ { wsgi_app overdue:application; wsgi_websocket on; wsgi_websocket_threads 1;
                     wsgi_request_timeout 3s; rewrite ^/one(.*) /overdue$1 break; }
"""


@pytest.fixture
def start(make_nginx):
    def start(directives="", **options):
        options = {"http": HTTP, "apps": ["overdue", "raw_socket", "messages"]} | options
        directives = f"wsgi_websocket on; {directives}"
        return make_nginx(server=SERVER, app_directives=directives, **options).start()

    return start


def states(site):
    return {state: total(site, "websocket_threads", state=state)
            for state in ("busy", "left", "stuck")}


def test_an_ordinary_answer_has_the_request_timeout(start, dial):
    site = start()
    client = dial(site).ask("/overdue/spin/")
    assert client.read_response().status == 504
    site.wait_event("raised RequestTimeout")
    (line,) = site.log.matching("request took longer than 1s")
    assert "/overdue/spin/" in line
    site.log.wait_for(r'stack of the thread.*client: 127\.0\.0\.1, request: "GET /overdue/spin/')
    site.log.wait_for(r"\[info\].*application was interrupted by wsgi_request_timeout")
    assert site.log.matching("stuck|Traceback") == []
    until(lambda: states(site) == {"busy": 0, "left": 0, "stuck": 0})
    # A thread that has left a request waits for the next one a little later.
    site.settle()
    # The connection is kept, and the thread is free.
    assert client.ask("/overdue/spin/0.01").read_response().text == "done"
    names = [name for name in procs.thread_names(site.worker()) if name.startswith("websocket-")]
    assert names == ["websocket-1"]


def test_a_request_whose_client_has_gone_is_interrupted_too(start, dial):
    site = start()
    client = dial(site).ask("/overdue/spin/")
    site.wait_event("called")
    client.close()
    site.wait_event("raised RequestTimeout")
    site.log.wait_for("stack of the thread")


@pytest.mark.parametrize("path", ["/raw_socket/waits", "/messages/waits"])
def test_it_counts_until_the_answer_and_what_waits_then_is_refused(start, dial, path):
    site = start()
    gate = site.gate("waits")
    assert dial(site).ask(path).read_response().status == 504
    site.log.wait_for("request took longer than 1s")
    site.log.wait_for("1 of 100 websocket threads are stuck")
    gate.open()
    site.log.wait_for("a stuck thread is back")
    client = dial(site, "/raw_socket/echo")
    client.send(b"x")
    assert client.read_exactly(1) == b"x"


def test_it_counts_for_a_response_of_its_own(start, dial):
    site = start()
    gate = site.gate("half")
    client = dial(site).ask("/raw_socket/half")
    data, _ = client.read_to_end()
    assert data.startswith(b"HTTP/1.1 418") and data.endswith(b"\r\n\r\n")
    site.log.wait_for("request took longer than 1s")
    site.log.wait_for("stack of the thread")
    gate.open()
    site.log.wait_for("application was interrupted by wsgi_request_timeout")


def test_a_thread_that_does_not_come_back_is_stuck_until_it_does(start, dial):
    site = start()
    worker = site.worker()
    gate = site.gate("a")
    assert dial(site).ask("/overdue/gate/a").read_response().status == 504
    site.log.wait_for(r"\[error\].* 1 of 100 websocket threads are stuck")
    until(lambda: states(site) == {"busy": 0, "left": 0, "stuck": 1})
    words, _, text = in_words(site)
    assert "1 websocket thread is stuck: GET /overdue/gate/a of client 127.0.0.1" in words
    assert " stuck, waited " in text
    gate.open()
    site.log.wait_for("a stuck thread is back")
    until(lambda: states(site)["stuck"] == 0)
    until(lambda: "all is well" in in_words(site)[0])
    assert site.worker() == worker


def test_a_worker_with_half_of_them_stuck_is_replaced(start, dial):
    site = start("wsgi_websocket_threads 3;",
                 http="wsgi_request_timeout 1s; wsgi_shutdown_timeout 300ms;")
    site.gate("a")
    old = site.worker()
    assert dial(site).ask("/overdue/gate/a").read_response().status == 504
    site.log.wait_for("1 of 3 websocket threads are stuck")
    assert site.log.matching("replaced") == []
    assert dial(site).ask("/overdue/gate/a").read_response().status == 504
    site.log.wait_for("is to be replaced: 2 of 3 websocket threads are stuck")
    site.wait_respawn(old)
    site.log.wait_for("python has 2 stuck threads, leaving")
    assert site.get("/quick").status == 200


def test_a_location_with_few_threads_does_not_end_the_others(start, dial):
    site = start()
    worker = site.worker()
    site.gate("a")
    asking = dial(site).ask("/one/gate/a")
    site.wait_event("called")
    clients = [dial(site, "/raw_socket/echo") for _ in range(3)]
    assert asking.read_response().status == 504
    site.log.wait_for("1 of 4 websocket threads are stuck")
    site.settle()
    assert site.log.matching("replaced") == [] and site.worker() == worker
    for client in clients:
        client.send(b"x")
        assert client.read_exactly(1) == b"x"


@pytest.mark.parametrize("path", ["/raw_socket/deaf", "/messages/push"])
def test_threads_for_clients_that_have_gone_are_named(start, dial, path):
    site = start("wsgi_websocket_threads 2;")
    gate = site.gate(path.rpartition("/")[2])
    for number in (1, 2):
        client = dial(site, path)
        site.wait_event("waiting", number)
        client.reset()
    until(lambda: states(site) == {"busy": 0, "left": 2, "stuck": 0})
    words, _, text = in_words(site)
    assert "2 threads work for clients that have gone, the oldest since " in words
    assert f"GET {path} of client 127.0.0.1" in words
    assert text.count(" left, waited ") == 2
    assert dial(site).ask("/raw_socket/echo").read_response().status == 503
    site.log.wait_for("all 2 websocket threads are in use, 2 for clients that have gone")
    # No time counts for what has been a WebSocket.
    elapse(1.2)
    gate.open()
    until(lambda: states(site) == {"busy": 0, "left": 0, "stuck": 0})
    assert site.log.matching("stack of the thread|stuck") == []
    client = dial(site, "/messages/echo", ahead=frame(TEXT, b"x"))
    assert client.hear() == (TEXT, b"x")
