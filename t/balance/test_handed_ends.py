"""The ends of requests that another worker runs: their times, their clients, the queue."""

import time

import pytest
from lib import h2client, http
from lib.poll import elapse, until

OVERDUE = """
    location /overdue { wsgi_request_timeout 1s; wsgi_app ran:overdue; }
    location /in_time { wsgi_request_timeout 3s; wsgi_app ran:overdue; }
    location /silent { wsgi_read_timeout 1s; location /silent/midway { wsgi_app ran:midway; }
                       location /silent/before { wsgi_app ran:before_head; } }
"""
STREAMED = "location /streamed { wsgi_request_buffering off; wsgi_app ran:upload; }"


def test_an_overdue_request_is_interrupted_in_the_other_worker(start):
    pair = start(server=OVERDUE).occupy()
    assert pair.handed("/overdue/spin/").status == 504
    assert pair.site.wait_event("raised") == ["raised RequestTimeout False"]
    (line,) = pair.site.log.wait_for("request took longer than 1s")
    assert f" {pair.busy}#" in line and "/overdue/spin/" in line
    pair.site.log.wait_for(r'overdue\.py", line \d+,? in spin')
    # The thread is there again.
    for _ in range(2 * pair.threads):
        assert pair.handed("/plain").status == 200
    assert set(pair.pids) == set(pair.site.workers())


def test_a_request_in_time_is_left_alone(start):
    pair = start(server=OVERDUE).occupy()
    for _ in range(3):
        assert pair.handed("/in_time/spin/0.5").body == b"done"
    assert pair.site.events("raised") == []


SLOW = """
    location /slow/ { wsgi_slow_request 200ms repeat=200ms; wsgi_app ran:overdue; }
    location = /slow/hog { wsgi_slow_request 200ms repeat=200ms; wsgi_app ran:hog; }
"""


def test_the_stack_of_a_slow_request_is_logged_by_the_worker_with_the_client(start):
    pair = start(server=SLOW).occupy()
    gate = pair.site.gate("a")
    client = pair.ask("/slow/gate/a")
    lines = pair.site.log.wait_for("request has been running for", count=3)
    assert pair.ran() == [pair.free]
    assert all("[warn]" in line and f" {pair.busy}#" in line for line in lines)
    assert all('request: "GET /slow/gate/a HTTP/1.1"' in line for line in lines)
    frames = pair.site.log.wait_for(r'gate\.py", line \d+, in wait', count=3)
    assert all(f" {pair.busy}#" in line for line in frames)
    gate.open()
    assert client.read_response().body == b"done"
    assert pair.site.events("raised") == []


def test_a_gil_that_is_held_in_the_other_worker_is_named(start):
    pair = start(server=SLOW).occupy()
    gate = pair.site.gate("hog")
    client = pair.ask("/slow/hog")
    (line,) = pair.site.log.wait_for("the stack of this request is not to be had")
    assert f" {pair.busy}#" in line and "GET /slow/hog" in line
    gate.open()
    assert client.read_response().text == str(pair.free)


def test_silence_before_the_head_is_504(start):
    pair = start(server=OVERDUE).occupy()
    gate = pair.site.gate("a")
    assert pair.handed("/silent/before/a").status == 504
    gate.open()
    pair.site.wait_event("closed a")
    assert pair.handed("/plain").status == 200


def test_silence_after_the_head_cuts_the_response(start):
    pair = start(server=OVERDUE).occupy()
    gate = pair.site.gate("a")
    response = pair.handed("/silent/midway/a")
    assert (response.status, response.body, response.complete) == (200, b"first", False)
    # The other worker has heard of it when it answers a later request.
    assert pair.handed("/plain").status == 200
    gate.open()
    (closed,) = pair.site.wait_event("closed a")
    assert int(closed.split()[2]) <= 3


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_goes_ends_the_iteration_in_the_other_worker(pair, way):
    gate = pair.site.gate("a")
    client = pair.ask("/midway/a")
    pair.site.wait_event("waiting a")
    assert pair.ran() == [pair.free]
    descriptors = pair.site.fd_count(pair.busy)
    getattr(client, way)()
    until(lambda: pair.site.fd_count(pair.busy) < descriptors, what="nginx has noticed")
    # The other worker has heard of it when it answers a later request.
    assert pair.handed("/plain").status == 200
    gate.open()
    (closed,) = pair.site.wait_event("closed a")
    assert int(closed.split()[2]) <= 3


def test_an_endless_response_ends_with_its_client(pair):
    client = pair.ask("/closing?endless")
    client.read_until(b"x" * 10_000)
    assert pair.ran() == [pair.free]
    client.close()
    pair.site.wait_event("close")


def test_a_stream_that_is_reset_ends_the_iteration_alone(pair):
    client = pair.connect_h2()
    endless = client.send("GET", "/closing?endless")
    client.wait(endless, lambda response: response.body)
    client.reset(endless)
    pair.site.wait_event("close")
    assert client.wait(client.send("GET", "/plain")).text == str(pair.free)


def test_an_ignored_abort_lets_the_application_run_to_its_end(start):
    pair = start(http="wsgi_ignore_client_abort on;").occupy()
    gate = pair.site.gate("a")
    client = pair.ask("/midway/a")
    pair.site.wait_event("waiting a")
    client.reset()
    assert pair.handed("/plain").status == 200
    gate.open()
    assert pair.site.wait_event("closed a") == ["closed a 100001"]


def test_a_client_that_goes_from_the_queue_never_reaches_any_application(pair):
    pair.occupy(pair.free)
    clients = [pair.ask("/plain") for _ in range(5)]
    # All workers have had time to look for room.
    elapse(0.2)
    descriptors = pair.site.fd_count(pair.busy)
    for client in clients:
        client.close()
    until(lambda: pair.site.fd_count(pair.busy) <= descriptors - 5, what="nginx has noticed")
    for pid in pair.pids:
        pair.release(pid).read_response()
    assert pair.ask("/plain?last").read_response().status == 200
    assert len(pair.ran()) == 1


def test_with_all_threads_of_all_workers_busy_the_limit_counts(start):
    pair = start(server="location = /two { wsgi_queue 2; wsgi_app ran:plain; }")
    pair.occupy(pair.busy, pair.free)
    waiting = [pair.ask("/two") for _ in range(2)]
    # Their places are taken when an answer comes that does not need a thread.
    pair.connect()
    for _ in range(3):
        response = pair.ask("/two").read_response()
        assert (response.status, response.header("Retry-After")) == (503, "1")
    pair.release(pair.free).read_response()
    assert [client.read_response().status for client in waiting] == [200] * 2
    assert pair.ran() == [pair.free] * 2


@pytest.mark.parametrize("limit", [0, 1])
def test_the_limit_is_none_while_another_worker_has_room(start, limit):
    pair = start(server=f"location = /few {{ wsgi_queue {limit}; wsgi_app ran:plain; }}").occupy()
    # Before it is loaded nobody has room.
    assert pair.ask("/plain", pid=pair.free).read_response().status == 200
    for _ in range(10):
        # A thread is free a little after its client has the response.
        pair.site.settle()
        assert pair.handed("/few").text == str(pair.free)


def test_a_wait_that_is_too_long_is_503(start):
    pair = start(server="location = /soon { wsgi_queue 5 timeout=1s; wsgi_app ran:plain; }")
    pair.occupy(pair.busy, pair.free)
    response = pair.ask("/soon").read_response()
    assert (response.status, response.header("Retry-After")) == (503, "1")
    pair.release(pair.free).read_response()
    assert pair.handed("/plain").text == str(pair.free)
    assert pair.ran() == [pair.free]


def test_requests_that_stay_do_not_keep_others(start):
    """Those that wait in front of what can be handed over, and cannot be themselves."""
    pair = start(server=STREAMED).occupy()
    uploads = [pair.connect() for _ in range(20)]
    for client in uploads:
        client.send(b"POST /streamed HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    assert pair.handed("/plain").status == 200
    for client in uploads:
        client.send(b"defghi")
    pair.release().read_response()
    assert [client.read_response().status for client in uploads] == [200] * len(uploads)
    assert pair.ran()[1:] == [pair.busy] * len(uploads)


def test_room_that_comes_up_in_another_worker_is_taken(pair):
    pair.occupy(pair.free)
    clients = [pair.ask("/plain") for _ in range(6)]
    elapse(0.1)
    assert pair.ran() == []
    pair.release(pair.free).read_response()
    assert [client.read_response().text for client in clients] == [str(pair.free)] * 6


def test_requests_of_one_connection_after_another_are_all_handed_over(pair):
    client = pair.connect()
    for _ in range(50):
        client.send(http.build("GET", "/plain", close=False))
        assert client.read_response().text == str(pair.free)
    assert pair.ran() == [pair.free] * 50


def test_a_connection_with_many_streams_uses_both_workers(start):
    pair = start()
    gate = pair.site.gate("streams")
    with h2client.H2Connection(pair.site.ports["PORT3"]) as client:
        streams = [client.send("GET", "/hold/streams") for _ in range(20)]
        # So many threads do both have together.
        pair.site.wait_event("holding streams", 2 * pair.threads)
        gate.open()
        pids = [int(client.wait(stream).text) for stream in streams]
    assert min(pids.count(pid) for pid in pair.pids) >= pair.threads, pids


def without_connections(pair, pid):
    """Clients that leave this worker no connection, each with half a request."""
    clients = []
    while not pair.site.log.matching(rf"\b{pid}#.* worker_connections are not enough$"):
        client = pair.site.connect(pair.site.ports["PORT2"])
        client.send(http.build("GET", "/pid", close=False))
        if client.read_response().text == str(pid):
            client.send(b"GET /pid HTTP/1.1\r\nHost: a\r\n")
            clients.append(client)
        else:
            client.close()
    return clients


@pytest.mark.parametrize("whose", ["busy", "free"])
def test_a_worker_without_free_connections_is_not_asked_again_and_again(start, whose):
    """nginx logs an alert for each connection that it cannot have."""
    pair = start(connections="24")
    pair.site.expect_alert("24 worker_connections are not enough")
    clients = [pair.connect() for _ in range(pair.threads + 1)]
    for client in clients:
        client.send(b"GET ")
    held = without_connections(pair, getattr(pair, whose))
    mark = pair.site.log.mark()
    gate = pair.site.gate("a")
    begun = time.monotonic()
    for client in clients:
        client.send(b"/hold/a HTTP/1.1\r\nHost: a\r\n\r\n")
    pair.site.wait_event("holding", pair.threads)
    tried = "worker_connections are not enough$"
    pair.site.log.wait_for(tried, start=mark)
    elapse(0.3)
    assert len(pair.site.events("holding")) == pair.threads
    # From one try to the next it is a second.
    assert len(pair.site.log.matching(tried, mark)) - 1 < time.monotonic() - begun
    for client in held:
        client.close()
    # Another try is made.
    pair.site.wait_event("holding", pair.threads + 1)
    gate.open()
    assert [client.read_response().status for client in clients] == [200] * len(clients)
