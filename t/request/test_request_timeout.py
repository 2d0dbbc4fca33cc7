"""wsgi_request_timeout: the client's answer, the exception, the stack, and stuck threads."""

import time

import pytest
from lib import procs
from lib.poll import elapse, until

MAIN = "thread_pool one threads=1; thread_pool four threads=4;"
HTTP = "wsgi_request_timeout 400ms; wsgi_shutdown_timeout 50s;"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    wsgi_thread_pool one;
    location /overdue/ { wsgi_app overdue:application; }
    location /wide/ { wsgi_app overdue:application; wsgi_thread_pool four; }
    location /wide/calm/ {
        wsgi_app overdue:application; wsgi_thread_pool four; wsgi_request_timeout 0;
    }
    location /streaming { wsgi_app overdue:streaming; }
    location /flooding { wsgi_app overdue:flooding; }
    location /edge { wsgi_app overdue:edge; wsgi_request_timeout 30ms; }
    location /in_c { wsgi_app overdue:in_c; }
    location /quick { wsgi_app overdue:quick; wsgi_request_timeout 0; }
    location /patient/ { wsgi_app overdue:application; wsgi_request_timeout 2s; }
    location /silent/ {
        wsgi_app overdue:application; wsgi_request_timeout 1s; wsgi_read_timeout 300ms;
    }
    location /calm/ { wsgi_app overdue:application; wsgi_request_timeout 0; }
"""


@pytest.fixture
def start(nginx):
    return lambda **options: nginx(**{"main": MAIN, "http": HTTP, "server": SERVER} | options)


def test_python_code_is_interrupted_and_its_thread_serves_on(start, proto):
    site = start()
    worker = site.worker()
    assert proto(site, "GET", "/overdue/spin/").status == 504
    assert site.wait_event("raised") == ["raised RequestTimeout False"]
    assert site.get("/quick").text == str(worker)
    (line,) = site.log.matching("request took longer than 400ms")
    assert "[error]" in line and "/overdue/spin/" in line
    site.log.wait_for(r'stack of the thread.*client: 127\.0\.0\.1, request: "GET /overdue/spin/')
    site.log.wait_for(r'File ".*overdue\.py", line \d+ in spin$|overdue\.py", line \d+, in spin')
    site.log.wait_for(r"\[info\].*application was interrupted by wsgi_request_timeout")
    assert site.log.matching("Traceback") == []
    assert site.log.matching("stuck") == []


def test_a_request_in_time_is_left_alone(start):
    site = start()
    for _ in range(3):
        assert site.get("/patient/spin/0.15").body == b"done"
    assert site.get("/calm/spin/0.6").body == b"done"
    assert site.events("raised") == [] and site.log.matching("took longer") == []


def test_waiting_for_a_thread_does_not_count(start):
    site = start()
    clients = [site.ask(f"/patient/spin/0.5{number}") for number in range(5)]
    assert [client.read_response().status for client in clients] == [200] * 5


def test_after_the_head_the_response_is_cut_and_closed(start, proto):
    site = start()
    response = proto(site, "GET", "/streaming")
    assert response.status == 200 and not response.complete
    assert site.wait_event("closed") == ["closed"]
    assert site.get("/quick").status == 200


def test_an_application_that_waits_for_its_client_is_cut_and_closed_in_peace(start):
    site = start(server=SERVER + "wsgi_buffer_size 4k; wsgi_buffering off;")
    site.ask("/flooding")
    site.log.wait_for("request took longer")
    site.wait_event("closed")
    assert site.get("/quick").status == 200
    assert site.log.matching("Traceback|RequestTimeout") == []


@pytest.mark.parametrize("place", ["/overdue", "/silent"])
def test_a_request_whose_client_has_its_answer_or_has_gone_is_interrupted_too(start, place):
    site = start().ready("/quick")
    client = site.ask(f"{place}/spin/")
    site.wait_event("called")
    if place == "/silent":
        assert client.read_response().status == 504
    client.close()
    site.wait_event("raised RequestTimeout")
    site.log.wait_for("stack of the thread")
    assert site.get("/quick").status == 200


def test_the_exception_hits_neither_close_nor_the_next_request(start):
    """Requests that end just about when their time is over."""
    site = start()
    statuses = []
    for number in range(150):
        statuses.append(site.get(f"/edge?{0.024 + number % 12 * 0.001}").status)
        response = site.get("/quick")
        assert response.status == 200, number
    assert {200, 504} == set(statuses)
    site.barrier()
    closed, called = len(site.events("closed")), len(site.events("called"))
    assert site.events("close was hit") == []
    # What was interrupted has returned nothing that could be closed; where a processor had to be
    # waited for, that may have been before it could say that it was called.
    assert statuses.count(200) <= closed <= called <= 150
    assert site.log.matching("Traceback") == []


def test_an_exception_that_has_not_come_up_is_taken_away_before_close(start):
    site = start()
    assert site.get("/in_c").status == 504
    assert site.wait_event("closed") == ["closed"]
    assert site.events("close was hit") == []
    assert site.get("/quick").status == 200
    site.log.wait_for("stack of the thread")


def test_a_thread_that_does_not_come_back_is_stuck_until_it_does(start):
    """Without a master the worker cannot be replaced."""
    site = start(master=False)
    gate = site.gate("a")
    assert site.get("/overdue/gate/a").status == 504
    waiting = site.ask("/quick")
    site.log.wait_for(r'\[error\].* 1 of 1 threads of the pool "one" are stuck')
    # Nobody will take it.
    response = waiting.read_response()
    assert (response.status, response.header("Retry-After")) == (503, "1")
    assert site.get("/quick").status == 503
    (line,) = site.log.matching("cannot be replaced")
    assert '"master_process" is off' in line
    gate.open()
    site.log.wait_for("a stuck thread is back")
    assert site.events("ended") == ["ended gate a"]
    assert site.get("/quick").status == 200
    # Again: it counts anew.
    assert site.get("/overdue/spin/").status == 504
    assert site.get("/quick").status == 200


def test_a_pool_survives_all_but_one_of_its_threads(start):
    site = start(master=False)
    for _ in range(3):
        assert site.get("/wide/sleep/").status == 504
    site.log.wait_for('3 of 4 threads of the pool "four" are stuck')
    for _ in range(20):
        assert site.get("/wide/calm/spin/0.001").body == b"done"
    assert site.get("/quick").status == 200


def test_static_files_do_not_wait_while_threads_are_stuck(start):
    site = start(master=False)
    clients = [site.ask("/wide/sleep/") for _ in range(3)]
    site.wait_event("called", count=3)
    taken = []
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        begun = time.monotonic()
        assert site.get("/static").body == b"static"
        taken.append(time.monotonic() - begun)
    taken.sort()
    p99 = taken[len(taken) * 99 // 100] * 1000
    print(f"{len(taken)} static requests, p99 {p99:.2f} ms, max {taken[-1] * 1000:.2f} ms")
    assert [client.read_response().status for client in clients] == [504] * 3


def test_half_of_a_pool_stuck_has_the_worker_replaced(start):
    site = start()
    old = site.worker()
    assert site.get("/wide/sleep/").status == 504
    site.log.wait_for("1 of 4 threads")
    assert site.get("/wide/sleep/").status == 504
    site.log.wait_for("is to be replaced: 2 of 4 threads")
    # Meanwhile, and with the successor, requests are served.
    while site.workers() == [old] and procs.title(old) == procs.TITLES["worker process"]:
        assert site.get("/wide/calm/spin/0.001").body == b"done"
    new = site.wait_respawn(old)
    assert site.get("/quick").text == str(new)
    site.log.wait_for(rf"worker process {old} exited with code 0$")
    # Nobody waited for the stuck threads, and the exit functions were run.
    assert site.events("at exit") == ["at exit"]
    site.log.wait_for("python has 2 stuck threads, leaving")


def test_python_that_does_not_respond_is_shown_and_replaced(start):
    site = start()
    old = site.worker()
    clients = [site.ask("/wide/with_gil/3600")]
    site.wait_event("called")
    clients += [site.ask("/wide/spin/0.01") for _ in range(3)]
    assert clients[0].read_response().status == 504
    site.log.wait_for("python does not respond, the stacks of its threads")
    site.log.wait_for(r'overdue\.py", line \d+ in application')
    assert site.get("/static").body == b"static"
    # Those that no thread can take get an answer before the worker goes.
    assert {client.read_response().status for client in clients[1:]} <= {503, 504}
    new = site.wait_respawn(old)
    site.log.wait_for(rf"worker process {old} exited with code 0$")
    assert site.get("/quick").text == str(new)


def test_a_process_that_did_not_run_is_not_taken_for_one_that_hangs(start):
    site = start()
    gate, worker = site.gate("a"), site.worker()
    client = site.ask("/wide/gate_with_gil/a")
    assert client.read_response().status == 504
    # The interruption waits for the GIL, and a second later it is late.
    site.signal("STOP", worker)
    elapse(2)
    gate.open()
    site.signal("CONT", worker)
    interrupted = "application was interrupted by wsgi_request_timeout"
    until(lambda: site.events("ended") or site.log.matching(interrupted), what="the end")
    elapse(1.2)
    assert site.log.matching("stuck|does not respond") == []
    assert site.get("/quick").text == str(worker)


def test_a_call_into_c_that_comes_back_with_the_lock_is_no_loss(start):
    site = start(master=False)
    assert site.get("/wide/with_gil/0.9").status == 504
    # The exception may come up in the very line that would record the end.
    interrupted = "application was interrupted by wsgi_request_timeout"
    until(lambda: site.events("ended") or site.log.matching(interrupted), what="the end")
    elapse(1.2)
    assert site.log.matching("stuck|does not respond") == []
    assert site.get("/quick").status == 200
