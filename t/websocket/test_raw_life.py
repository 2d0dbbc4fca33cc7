"""The life of a connection that an application has taken over: its ends, and its worker's."""

import pytest
from lib import errorlog, procs, tls
from lib.poll import elapse, until
from lib.websocket import TIME, TIMES, build, idle_count

TWO = "thread_pool default threads=2;"
SERVER = "listen 127.0.0.1:@PORT2@ ssl; " + tls.SERVER


@pytest.fixture
def start(make_nginx):
    def start(**options):
        options.setdefault("app_directives", "wsgi_websocket on;")
        options.setdefault("main", TWO)
        site = make_nginx(server=SERVER, apps=["raw_socket", "held", "thread_limit"], **options)
        tls.make_certificate(site.dir)
        return site.start()

    return start


def echoes(client, text=b"still here"):
    client.send(text)
    return client.read_exactly(len(text)) == text


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_client_that_goes_away_is_the_end_of_file(start, dial, secure, end):
    site = start()
    options = {"port": site.ports["PORT2"], "tls": True} if secure else {}
    client = dial(site, "/raw_socket/echo", **options)
    assert echoes(client)
    getattr(client, end)()
    site.wait_event("over /echo")
    assert site.events("error") == []


def test_a_client_that_resets_is_noticed_while_its_application_takes_nothing(start, dial):
    site = start()
    gate = site.gate("deaf")
    idle = idle_count(site)
    client = dial(site, "/raw_socket/deaf")
    site.wait_event("waiting deaf")
    client.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            client.sock.send(b"x" * 65536)
    client.reset()
    # The application's end, and the file of the gate.
    until(lambda: site.fd_count() <= idle + 2, what="nginx has noticed")
    gate.open()
    site.wait_event("over /deaf")


def test_a_client_that_has_sent_all_gets_the_last_words(start, dial):
    site = start()
    client = dial(site, "/raw_socket/last_words", ahead=b"abc")
    client.send(b"def")
    client.sock.shutdown(1)
    assert client.read_to_end() == (b"6 bytes", "closed")


def test_after_the_clients_end_an_application_has_send_timeout(start, dial):
    site = start(http="send_timeout 200ms;")
    gate = site.gate("deaf")
    client = dial(site, "/raw_socket/deaf")
    site.wait_event("waiting deaf")
    client.sock.shutdown(1)
    assert client.at_eof()
    site.log.wait_for("application goes on after the end of its websocket's client")
    gate.open()
    site.wait_event("over /deaf")


def test_a_client_that_takes_nothing_has_send_timeout(start, dial):
    site = start(http="send_timeout 200ms;")
    client = dial(site, "/raw_socket/flood", rcvbuf=4096)
    site.log.wait_for("client timed out")
    site.wait_event("error /flood")
    assert client.read_to_end()[1] in ("closed", "reset")


def test_an_application_that_closes_its_socket_ends_the_connection(start, dial):
    site = start()
    gate = site.gate("closed")
    client = dial(site, "/raw_socket/closed")
    assert client.read_to_end() == (b"bye", "closed")
    gate.open()
    site.wait_event("over /closed")


def test_times_of_requests_do_not_count(start, dial):
    client = dial(start(http=TIMES), "/raw_socket/echo")
    elapse(2 * TIME)
    assert echoes(client)


def test_until_it_has_answered_an_application_has_the_read_timeout(start, dial):
    site = start(http="wsgi_read_timeout 2s;")
    gate = site.gate("waits")
    assert dial(site).ask("/raw_socket/waits").read_response().status == 504
    gate.open()
    site.wait_event("over /waits")


def test_a_client_that_leaves_before_the_answer_is_noticed(start, dial):
    site = start()
    gate = site.gate("waits")
    idle = idle_count(site)
    client = dial(site).ask("/raw_socket/waits")
    site.wait_event("waiting waits")
    client.close()
    until(lambda: site.fd_count() <= idle + 2, what="nginx has noticed")
    gate.open()
    site.wait_event("over /waits")


def test_threads_of_the_pool_are_free_for_requests(start, dial):
    site = start()
    clients = [dial(site, "/raw_socket/echo") for _ in range(10)]
    assert site.get("/raw_socket").status == 403
    assert all(echoes(client) for client in clients)


def test_beyond_the_threads_it_is_503_before_the_application_is_called(start, dial):
    site = start(app_directives="wsgi_websocket on; wsgi_websocket_threads 2;")
    clients = [dial(site, "/raw_socket/echo") for _ in range(2)]
    calls = len(site.events("called"))
    answer = dial(site).ask("/raw_socket/echo").read_response()
    assert (answer.status, answer.header("Retry-After")) == (503, "1")
    assert len(site.events("called")) == calls
    site.log.wait_for("all 2 websocket threads are in use")
    clients.pop().close()
    site.wait_event("over /echo")
    assert echoes(until(lambda: opened(site, dial)))


def test_without_a_thread_it_is_503_and_the_log_says_why(start, dial):
    site = start()
    assert site.get("/thread_limit?1").status == 200
    answer = dial(site).ask("/raw_socket/echo").read_response()
    assert (answer.status, answer.header("Retry-After")) == (503, "1")
    (line,) = site.log.wait_for("no thread could be started for a websocket")
    assert "GET /raw_socket/echo" in errorlog.context(line)
    assert site.log.matching("in use") == [] and site.events("called") == []
    site.allow_alert(r"pthread_create\(\) failed: ")
    assert site.get("/thread_limit?").status == 200
    assert echoes(dial(site, "/raw_socket/echo"))


def opened(site, dial):
    client = dial(site).ask("/raw_socket/echo")
    return client if client.read_head().status == 101 else None


def test_a_thread_serves_one_connection_after_the_other(start, dial):
    site = start()
    for n in range(20):
        client = dial(site, "/raw_socket/once")
        client.send(b"x")
        assert client.read_to_end() == (b"x", "closed")
        site.wait_event("over", n + 1)
        site.settle()
    names = [name for name in procs.thread_names(site.worker()) if name.startswith("websocket-")]
    assert names == ["websocket-1"]


def test_a_reload_does_not_cut_and_old_workers_leave_behind_the_last(start, dial):
    site = start()
    client = dial(site, "/raw_socket/echo")
    (old,) = site.reload()
    assert echoes(client)
    fresh = dial(site, "/raw_socket/echo")
    assert echoes(fresh) and echoes(client) and procs.alive(old)
    client.close()
    until(lambda: not procs.alive(old), what="the old worker's end")
    assert echoes(fresh)


def test_worker_shutdown_timeout_ends_them(start, dial):
    site = start(main=TWO + "worker_shutdown_timeout 500ms;")
    client = dial(site, "/raw_socket/echo")
    (old,) = site.reload()
    assert client.read_to_end() == (b"", "closed")
    site.wait_event("over /echo")
    until(lambda: not procs.alive(old), what="the old worker's end")


def test_a_source_that_changes_cuts_them(reloading, dial):
    site, change = reloading("raw_socket")
    client = dial(site, "/raw_socket/echo")
    assert echoes(client)
    old = site.worker()
    change()
    assert client.read_to_end() == (b"", "closed")
    site.wait_respawn(old)
    assert echoes(dial(site, "/raw_socket/echo"))


@pytest.mark.parametrize("how", ["stop", "quit"])
def test_the_end_of_nginx_is_the_end_of_file(start, dial, how):
    site = start(main=TWO + ("worker_shutdown_timeout 300ms;" if how == "quit" else ""))
    clients = [dial(site, "/raw_socket/echo") for _ in range(3)]
    getattr(site, how)()
    site.wait_event("over /echo", 3)
    assert [client.read_to_end()[1] for client in clients] == ["closed"] * 3


def test_an_application_that_does_not_stop_is_left_behind(start, dial):
    site = start(http="wsgi_shutdown_timeout 300ms;", main=TWO)
    site.gate("deaf")
    dial(site, "/raw_socket/deaf")
    site.wait_event("waiting deaf")
    site.expect_alert("python did not stop within 300ms, 2 threads left, leaving")
    site.stop()


def test_one_waits_for_the_import_as_others_do(make_nginx, dial):
    site = make_nginx(apps=["gated_import"], app_directives="wsgi_websocket on;")
    gate = site.gate("import")
    site.start()
    site.wait_event("waiting import")
    client = dial(site).ask("/gated_import")
    site.settle()
    gate.open()
    assert client.read_response().text == "imported at last"


def test_those_that_have_gone_before_the_import_take_no_thread_from_others(make_nginx, dial):
    site = make_nginx(apps=["raw_socket", "gated_import"],
                      app_directives="wsgi_websocket on; wsgi_websocket_threads 2;")
    gate = site.gate("import")
    site.start()
    site.wait_event("waiting import")
    # It has closed the file of the events.
    site.settle()
    idle = site.fd_count()
    clients = [dial(site).ask("/gated_import") for _ in range(2)]
    # The client's, and both ends of the application's.
    until(lambda: site.fd_count() == idle + 6, what="they wait")
    for client in clients:
        client.close()
    until(lambda: site.fd_count() <= idle + 2, what="nginx has noticed")
    assert echoes(dial(site, "/raw_socket/echo"))
    gate.open()


def test_a_thousand_connects_and_aborts_leave_nothing_behind(start, dial):
    site = start()

    def turn(number):
        for n in range(number):
            client = dial(site)
            client.send(build("/raw_socket/echo"))
            if n % 4:
                client.read_head()
            (client.reset if n % 2 else client.close)()

    turn(20)
    site.settle()
    worker = site.worker()
    before = site.fd_count()
    turn(1000)
    until(lambda: site.fd_count() <= before, what="the connections are closed")
    until(lambda: sum(name.startswith("websocket-") for name in procs.thread_names(worker)) <= 100)
    assert site.worker() == worker
    assert echoes(dial(site, "/raw_socket/echo"))
