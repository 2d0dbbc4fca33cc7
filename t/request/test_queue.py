"""Waiting for a thread: the limit, the timeouts, clients that do not wait."""

import os

import pytest
from lib import h2client, http
from lib.held import hold
from lib.poll import elapse, until

MAIN = "thread_pool one threads=1; thread_pool two threads=2; thread_pool four threads=4;"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location /held/ { wsgi_app held:application; wsgi_thread_pool one; }
    location /midway/ { wsgi_app held:midway; wsgi_thread_pool one; }
    location /before/ { wsgi_app held:before_head; wsgi_thread_pool one; }
    location /chatty { wsgi_app chatty:application; wsgi_thread_pool one; }
    location /hurried/ {
        wsgi_app held:application; wsgi_thread_pool one; wsgi_queue 10 timeout=300ms;
    }
    location /other { wsgi_app plain:application; wsgi_thread_pool two; }
"""
IMPATIENT = "wsgi_read_timeout 600ms;"
# Less than what /chatty?20 takes, and much more than it is silent in between.
PATIENT = "wsgi_read_timeout 1500ms;"


@pytest.fixture
def start(nginx):
    return lambda **options: nginx(main=MAIN, **{"server": SERVER} | options).ready("/other")


def queue_up(site, count):
    """That many requests behind the gate, and nginx has seen them all."""
    waiting = [site.ask(f"/held/a?{number}") for number in range(count)]
    site.barrier()
    return waiting


@pytest.mark.parametrize("threads, limit, surplus", [(1, 3, 5), (2, 4, 6), (2, 1, 3)])
def test_requests_over_the_limit_get_503_and_the_others_are_served(
    nginx, threads, limit, surplus
):
    site = nginx(
        main=f"thread_pool some threads={threads};",
        server=f"location /held/ {{ wsgi_app held:application; wsgi_thread_pool some;"
        f" wsgi_queue {limit}; }}",
    )
    gate = site.gate("a")
    clients = []
    for number in range(threads):
        clients.append(site.ask(f"/held/a?{number}"))
        site.wait_event("waiting", count=number + 1)
    clients += [site.ask(f"/held/a?{threads + number}") for number in range(limit)]
    site.barrier()
    for _ in range(surplus):
        response = site.get("/held/a?surplus")
        assert response.status == 503
        assert response.header("Retry-After") == "1"
    gate.open()
    assert [client.read_response().text for client in clients] == [
        str(number) for number in range(threads + limit)
    ]
    assert site.events("called a surplus") == []
    # And room again.
    assert site.get("/held/a?again").text == "again"


def test_a_wait_over_the_timeout_is_503_and_never_reaches_the_application(start):
    site = start()
    first, gate = hold(site)
    second = site.get("/hurried/a?second")
    assert (second.status, second.header("Retry-After")) == (503, "1")
    gate.open()
    assert first.read_response().text == "first"
    assert site.get("/held/a?third").text == "third"
    assert site.events("called") == ["called a first", "called a third"]


def test_retry_after_is_the_queue_timeout_when_that_is_longer(start):
    site = start(http="wsgi_queue 10 timeout=2s;")
    first, gate = hold(site)
    assert site.get("/held/a?second").header("Retry-After") == "2"
    gate.open()
    assert first.read_response().text == "first"


def test_a_503_can_have_an_error_page(start):
    site = start(server=SERVER + "error_page 503 /busy; location = /busy { return 200 busy; }")
    site.gate("a")
    site.ask("/held/a?first")
    site.wait_event("waiting")
    response = site.get("/hurried/a?second")
    assert (response.status, response.body) == (503, b"busy")


def test_the_queue_of_one_pool_is_not_that_of_another(start):
    site = start(http="wsgi_queue 1;")
    gate = site.gate("a")
    clients = [site.ask("/held/a?1")]
    site.wait_event("waiting")
    clients += queue_up(site, 1)
    assert site.get("/held/a?2").status == 503
    assert site.get("/other").body == b"plain"
    gate.open()
    assert all(client.read_response().status == 200 for client in clients)


def test_a_silent_application_is_504_before_the_head(start, proto):
    site = start(http=IMPATIENT)
    gate = site.gate("a")
    assert proto(site, "GET", "/before/a").status == 504
    gate.open()
    site.wait_event("closed a")
    # The thread is free again and the next client gets its own answer.
    assert proto(site, "GET", "/held/b?mine").text == "mine"
    assert len(site.events("closed")) == 1


def test_a_silent_application_after_the_head_is_an_abort(start, proto):
    site = start(http=IMPATIENT)
    gate = site.gate("a")
    response = proto(site, "GET", "/midway/a")
    assert (response.status, response.body) == (200, b"first")
    assert not response.complete
    gate.open()
    # It stops at its next chunk: the second step found nobody. Another worker hears of it by a
    # message, and the application, which has 100,000 steps, goes on for that long.
    (closed,) = site.wait_event("closed a")
    steps = int(closed.rsplit(" ", 1)[1])
    assert steps == 2 or ("WSGI_BALANCE" in os.environ and steps < 100_000)
    assert proto(site, "GET", "/held/b?mine").text == "mine"


def test_a_late_answer_goes_to_nobody(start):
    site = start(http=IMPATIENT)
    for number in range(3):
        gate = site.gate(f"g{number}")
        with site.ask(f"/held/g{number}?late{number}", close=False) as client:
            assert client.read_response().status == 504
            gate.open()
            client.send(http.build("GET", f"/held/free?mine{number}", close=False))
            response = client.read_response()
            if client.at_eof(0.01) and response.end == "nothing":
                continue  # nginx may end the connection after a 504.
            assert response.text == f"mine{number}"


@pytest.mark.parametrize("queue", ["", "wsgi_queue 10;"])
def test_without_a_timeout_of_its_own_a_wait_ends_with_the_read_timeout(start, queue):
    site = start(http=IMPATIENT + queue)
    mark = site.log.mark()
    first, gate = hold(site, "/before/a")
    # The only thread is stuck at the first one, whose client has its 504 soon.
    second, third = site.ask("/held/free?second"), site.ask("/chatty")
    assert first.read_response().status == 504
    for client in (second, third):
        response = client.read_response()
        assert (response.status, response.header("Retry-After")) == (503, "1")
    assert len(site.log.matching("request waited 600ms in the wsgi queue", mark)) == 2
    gate.open()
    assert site.get("/held/free?fourth").text == "fourth"
    assert site.events("called") == ["called free fourth"]


def test_a_wait_for_an_import_that_hangs_has_an_end(make_nginx):
    site = make_nginx(apps=["gated_import"], http=IMPATIENT)
    gate = site.gate("import")
    site.start()
    for _ in range(2):
        response = site.get("/gated_import/", timeout=5)
        assert (response.status, response.header("Retry-After")) == (503, "1")
    gate.open()
    until(lambda: site.get("/gated_import/").status == 200, what="the import")


def test_a_wait_for_an_interpreter_that_nobody_gets_has_an_end(nginx):
    site = nginx(http=IMPATIENT + "wsgi_shutdown_timeout 200ms;", apps=["stuck", "plain"])
    site.ready("/plain/")
    site.allow_alert("python did not stop")
    stuck = site.ask("/stuck/stuck_with_gil")
    site.wait_event("stuck")
    assert site.get("/plain/", timeout=5).status == 503
    assert stuck.read_response().status == 504


def test_a_timeout_of_its_own_may_be_longer_than_the_read_timeout(start):
    site = start(http=IMPATIENT + "wsgi_queue 10 timeout=3s;")
    first, gate = hold(site, "/before/a")
    second, third = site.ask("/held/b?second"), site.ask("/held/a?third")
    assert first.read_response().status == 504
    third.close()
    elapse(0.9)
    gate.open()
    assert second.read_response().text == "second"
    gate = site.gate("a")
    first = site.ask("/before/a")
    site.wait_event("waiting", count=2)
    assert site.get("/held/b?fourth", timeout=10).status == 503
    assert site.log.matching("request waited 3s in the wsgi queue")
    gate.open()


def test_waiting_in_the_queue_does_not_count_as_silence(start):
    site = start(http=PATIENT + "wsgi_queue 10 timeout=60s;")
    first = site.ask("/chatty?20")
    first.read_head()
    second = site.ask("/held/free?second")
    assert b"".join(iter(first.read_chunk, b"")) == b"chunk " * 20
    assert second.read_response().text == "second"


def test_an_application_that_keeps_sending_outlives_the_timeout(start):
    site = start(http=PATIENT)
    assert site.get("/chatty?20").body == b"chunk " * 20


def gone(site, clients):
    """Close the connections and wait until nginx has noticed."""
    descriptors = site.fd_count()
    for client in clients:
        client.close()
    until(lambda: site.fd_count() <= descriptors - len(clients), what="the connections are closed")
    site.barrier()


def test_a_hundred_requests_whose_clients_left_never_reach_the_application(start):
    site = start()
    first, gate = hold(site)
    gone(site, queue_up(site, 100))
    gate.open()
    assert first.read_response().text == "first"
    assert site.get("/held/a?last").text == "last"
    assert site.events("called") == ["called a first", "called a last"]


def test_requests_whose_clients_left_right_after_sending_never_reach_the_application(start):
    """nginx finds request and end at once: there is no second event for the end."""
    site = start()
    first, gate = hold(site)
    descriptors = site.fd_count()
    worker = site.worker()
    site.signal("STOP", worker)
    for _ in range(20):
        site.ask("/held/a?gone").close()
    site.signal("CONT", worker)
    site.barrier()
    until(lambda: site.fd_count() <= descriptors, what="the connections are closed")
    gate.open()
    assert first.read_response().text == "first"
    assert site.get("/held/a?last").text == "last"
    assert site.events("called") == ["called a first", "called a last"]


def test_cancelled_http_2_streams_never_reach_the_application(start):
    site = start()
    first, gate = hold(site)
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        streams = [client.send("GET", "/held/a?h2") for _ in range(50)]
        for stream in streams:
            client.reset(stream)
        # The answer to a later request shows that nginx has seen the resets.
        assert client.wait(client.send("GET", "/static")).body == b"static"
        gate.open()
        assert client.wait(client.send("GET", "/held/a?last")).text == "last"
    assert first.read_response().text == "first"
    assert len(site.events("called")) == 2


def test_requests_that_left_the_queue_make_room_in_it(start):
    site = start(http="wsgi_queue 5;")
    first, gate = hold(site)
    for _ in range(3):
        gone(site, queue_up(site, 5))
    waiting = queue_up(site, 5)
    assert site.get("/held/a?surplus").status == 503
    gate.open()
    assert first.read_response().text == "first"
    assert sorted(client.read_response().text for client in waiting) == list("01234")


def test_a_client_that_leaves_a_running_request_does_not_stop_the_next(start):
    site = start()
    first, gate = hold(site, "/before/a")
    gone(site, [first])
    gate.open()
    site.wait_event("closed a")
    assert site.get("/held/b?next").text == "next"
    assert len(site.events("closed")) == 1


def test_a_request_that_is_sent_while_another_runs_is_answered_after_it(start):
    """Watching a client for its leaving must not take what it sends."""
    site = start()
    client, gate = hold(site, "/held/a?one", close=False)
    for tag in ("two", "three"):
        client.send(http.build("GET", f"/held/free?{tag}", close=False))
        site.barrier()
    gate.open()
    assert [client.read_response().text for _ in range(3)] == ["one", "two", "three"]


def test_requests_are_served_in_the_order_they_came(start):
    site = start()
    gate = site.gate("a")
    clients = [site.ask("/held/a?first")]
    site.wait_event("waiting")
    for number in range(20):
        clients.append(site.ask(f"/held/a?{number}"))
        site.barrier()
    gate.open()
    for client in clients:
        client.read_response()
    assert site.events("called")[1:] == [f"called a {number}" for number in range(20)]


def test_blocked_requests_do_not_keep_the_other_threads_from_working(start):
    """Threads that wait without the GIL leave the rest of the pool at work."""
    site = start(server=SERVER + """
        location /wide/ { wsgi_app held:application; wsgi_thread_pool four; }
    """)
    gate = site.gate("a")
    clients = []
    for number in range(3):
        clients.append(site.ask(f"/wide/a?{number}"))
        site.wait_event("waiting a", count=number + 1)
    for number in range(20):
        assert site.get(f"/wide/free?{number}").text == str(number)
    gate.open()
    assert [client.read_response().text for client in clients] == ["0", "1", "2"]


def test_nothing_is_left_in_the_worker_after_a_storm_of_aborts(start):
    site = start()
    assert site.get("/held/free?warm").text == "warm"
    descriptors = site.fd_count()
    for number in range(300):
        client = site.connect()
        client.send(http.build("GET", "/midway/free")[: 5 + number % 60])
        if number % 3 == 0:
            client.send(http.build("GET", "/midway/free")[5 + number % 60:])
        (client.reset if number % 2 else client.close)()
    until(lambda: site.fd_count() <= descriptors, what="all connections are closed")
    assert site.get("/held/free?still").text == "still"
    assert len(site.events("closed")) <= 100
