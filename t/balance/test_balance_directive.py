"""wsgi_balance: where it may be, what it may be, and what is different when it is off."""

import pytest
from lib import http
from lib.balance import HTTP, LOG, MAIN, OPTIONS, SERVER, Workers, of_log
from lib.poll import elapse, until

from common.nginx import FORCED


@pytest.mark.parametrize("value", ["maybe", "1", "", "on off", "force"])
def test_other_values_are_refused(make_nginx, value):
    status, said = make_nginx(http=f"wsgi_balance {value};").test_config()
    assert status == 1
    assert "wsgi_balance" in said and "[emerg]" in said and "unknown directive" not in said


@pytest.mark.parametrize("value", ["on", "off"])
def test_it_is_for_http(make_nginx, value):
    directive = f"wsgi_balance {value};"
    status, said = make_nginx(http=directive).test_config()
    assert (status, "[warn]" in said) == (0, False), said
    for place in ({"server": directive}, {"server": f"location /a {{ {directive} }}"},
                  {"main": directive}, {"http": directive * 2}):
        status, said = make_nginx(**place).test_config()
        assert status == 1 and '"wsgi_balance" directive is' in said, said


def ran_by(client):
    client.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    return int(client.read_response().text)


@pytest.mark.parametrize("options", [{"master": False}, {"workers": 1}], ids=str)
def test_one_process_has_nobody_to_hand_over_to(nginx, options):
    site = nginx(http=HTTP + "wsgi_balance on;", main=MAIN, server=SERVER, **options)
    assert site.get("/plain").text == str(site.worker())
    site.settle()
    before = site.fd_count()
    for _ in range(5):
        assert site.get("/plain").text == str(site.worker())
    until(lambda: site.fd_count() == before, what="descriptors as before")


def test_off_each_worker_runs_what_it_has_accepted(start):
    pair = start(http="wsgi_balance off;").occupy()
    client = pair.ask("/plain")
    elapse(0.5)
    assert pair.ran() == []
    pair.release().read_response()
    assert client.read_response().text == str(pair.busy)


@pytest.mark.alone
def test_with_room_of_its_own_a_worker_runs_what_it_has_accepted(start):
    """Whatever the others have to do."""
    pair = start()
    for pid in pair.pids:
        client = pair.connect(pid)
        # It has to have loaded the application.
        until(lambda client=client, pid=pid: ran_by(client) == pid)
        ran = [ran_by(client) for _ in range(100)]
        # A thread that gets no processor for a millisecond looks like a queue.
        assert ran.count(pid) >= 80, f"{ran.count(pid)} of {len(ran)}"


def test_a_switch_for_tests_hands_over_all_that_may_be(start, monkeypatch):
    for name, value in FORCED.items():
        monkeypatch.setenv(name, value)
    pair = start()
    for pid, other in (pair.pids, pair.pids[::-1]):
        client = pair.connect(pid)

        def ran(client=client):
            # A thread is free a little after its client has the response.
            pair.site.settle()
            return ran_by(client)

        # The other worker has to have loaded the application. One that does not take what it is
        # offered, since it gets no processor for a tenth of a second, is left alone for one.
        until(lambda ran=ran, other=other: all(ran() == other for _ in range(20)))


# ------- what the access log says


def logged(pair, uri):
    """The fields of LOG behind $request_uri, of the last request for it."""
    # Of two workers the first to answer may be the last to write its line.
    pair.site.settle()
    with open(f"{pair.site.dir}/ran.log") as file:
        lines = [line.rstrip("\n").split("|") for line in file]
    return [fields for asked, *fields in lines if asked == uri][-1]


@pytest.fixture
def told(start):
    return start(http=LOG)


def test_the_log_names_the_worker_that_accepted_and_the_one_that_ran(told):
    own = told.connect()
    # The first request of a worker may have waited for its thread, and gone to the other one.
    until(lambda: ran_by(own) == told.busy)
    status, workers, thread, queued = logged(told, "/plain")
    assert (status, of_log(workers)) == ("200", (told.busy, told.busy))
    assert workers == str(told.busy)
    name = thread.rstrip("0123456789")
    told.occupy()
    assert told.handed("/plain?handed").status == 200
    status, workers, thread, queued = logged(told, "/plain?handed")
    assert (status, of_log(workers)) == ("200", (told.busy, told.free))
    assert thread.rstrip("0123456789") == name
    assert 0 <= float(queued) < 4


def test_the_log_names_the_worker_that_died(told):
    told.occupy()
    told.site.gate("a")
    client = told.ask("/before/a")
    told.site.wait_event("waiting a")
    assert told.ran() == [told.free]
    told.site.expect_alert(f"worker process {told.free} exited on signal 9")
    told.site.signal("KILL", told.free)
    assert client.read_response().status == 502
    status, workers, *_ = logged(told, "/before/a")
    assert (status, of_log(workers)) == ("502", (told.busy, told.free))


def test_the_log_of_what_no_application_has_run_names_none(told):
    told.occupy(told.busy, told.free)
    assert told.ask("/plain?waited").read_response().status == 503
    status, workers, *_ = logged(told, "/plain?waited")
    assert status == "503"
    assert workers == "-" or of_log(workers) == (told.busy, told.busy)
    told.connect()
    assert logged(told, "/pid")[1] == "-"


def test_three_workers_share_what_waits(nginx):
    three = Workers(nginx(**OPTIONS | {"workers": 3})).occupy()
    three.site.settle()
    clients = [three.connect() for _ in range(4)]
    gate = three.site.gate("shared")
    for client in clients:
        client.send(http.build("GET", "/hold/shared", close=False))
    # Each keeps its thread.
    three.site.wait_event("holding shared", 4)
    gate.open()
    ran = [int(client.read_response().text) for client in clients]
    assert sorted(ran) == sorted([*three.pids[1:]] * 2)
