"""Reloads, replaced workers and the end of nginx while workers run the requests of others."""

import pytest
from lib import http, procs
from lib.balance import THREADS, Workers
from lib.load import Load, at_once
from lib.poll import elapse, until

from common import proc


def running(pair, count=THREADS):
    """Requests that the other worker runs, each until its gate is opened."""
    gates = [pair.site.gate(f"r{number}") for number in range(count)]
    clients = [pair.ask(f"/before/r{number}") for number in range(count)]
    pair.site.wait_event("waiting r", count)
    assert pair.ran() == [pair.free] * count
    return clients, gates


def open_all(pair, gates):
    for gate in gates:
        gate.open()
    while pair.held[pair.busy]:
        assert pair.release().read_response().status == 200


def test_requests_that_are_handed_over_outlive_a_reload(pair):
    clients, gates = running(pair)
    old = pair.site.reload()
    assert set(pair.pids) <= set(pair.site.workers(shutting_down=True))
    elapse(0.2)
    open_all(pair, gates)
    assert [client.read_response().status for client in clients] == [200] * len(clients)
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    new = Workers(pair.site).occupy()
    assert new.handed("/plain").status == 200


def test_requests_that_wait_are_handed_over_within_their_generation(start):
    """The new workers have room, and other code."""
    patient = "location = /patient { wsgi_queue 100 timeout=50s; wsgi_app ran:plain; }"
    pair = start(server=patient).occupy()
    clients, gates = running(pair)
    waiting = [pair.ask("/patient") for _ in range(3)]
    old = pair.site.reload()
    elapse(0.2)
    assert len(pair.ran()) == len(clients)
    open_all(pair, gates)
    assert {int(client.read_response().text) for client in waiting} <= set(pair.pids)
    assert [client.read_response().status for client in clients] == [200] * len(clients)
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")


def test_requests_that_are_handed_over_outlive_a_quit(pair):
    clients, gates = running(pair)
    pair.site.signal("QUIT")
    until(lambda: not pair.site.workers(), what="workers that leave")
    elapse(0.2)
    open_all(pair, gates)
    assert [client.read_response().status for client in clients] == [200] * len(clients)
    assert pair.site.quit() == 0
    assert len(pair.ran()) == len(clients)


def test_a_worker_that_is_told_to_leave_ends_what_it_runs_of_others(pair):
    clients, gates = running(pair)
    pair.site.signal("QUIT", pair.free)
    pair.site.log.wait_for(rf"{pair.free}#.* gracefully shutting down")
    elapse(0.2)
    for gate in gates:
        gate.open()
    assert [client.read_response().status for client in clients] == [200] * len(clients)
    until(lambda: not procs.alive(pair.free), what="its end")


def test_a_leaving_worker_waits_until_others_have_its_responses(pair):
    """More than the socket between them holds, while the one with the clients is stopped."""
    size = 1_500_000
    gate = pair.site.gate("late")
    clients = [pair.ask(f"/late/late?{size}") for _ in range(THREADS)]
    pair.site.wait_event("waiting late", THREADS)
    pair.site.signal("STOP", pair.busy)
    try:
        until(lambda: procs.state(pair.busy) == "T")
        gate.open()
        pair.site.wait_event("sent", THREADS)
        pair.site.signal("QUIT", pair.free)
        pair.site.log.wait_for(rf"{pair.free}#.* gracefully shutting down")
        elapse(1.5)
    finally:
        pair.site.signal("CONT", pair.busy)
    for client in clients:
        response = client.read_response()
        assert (response.status, len(response.body), response.complete) == (200, size, True)
    until(lambda: not procs.alive(pair.free), what="its end")


def test_the_time_to_shut_down_is_for_requests_of_others_too(start):
    pair = start(main=f"thread_pool few threads={THREADS}; worker_shutdown_timeout 500ms;").occupy()
    # The threads that wait for the gates.
    pair.site.allow_alert("python did not stop within")
    clients, gates = running(pair)
    pair.site.signal("QUIT", pair.free)
    # The master starts another one when it has gone.
    until(lambda: not procs.alive(pair.free), 15, "its end")
    for client in clients:
        assert client.read_response().status in (502, 504)
    for gate in gates:
        gate.open()


def test_what_is_left_of_it_runs_in_its_successor(pair):
    """A worker that has no applications yet has no room; when it has them it has."""
    pair.site.signal("QUIT", pair.free)
    until(lambda: not procs.alive(pair.free), what="its end")
    client = pair.ask("/plain")
    (successor,) = until(lambda: set(pair.site.workers()) - set(pair.pids), 15)
    assert client.read_response().text == str(successor)


def test_requests_count_where_they_run(start):
    """A worker is replaced for what it has run, and not for what it has accepted."""
    pair = start(http="wsgi_max_requests 20;").occupy()
    clients = [pair.connect() for _ in range(40)]

    def ask(client):
        client.send(http.build("GET", "/plain", close=False))
        return client.read_response().status

    assert [ask(client) for client in clients] == [200] * 40
    # And that which has shown that it is ready.
    held = [event for event in pair.site.events("holding ") if event.endswith(f" {pair.free}")]
    assert 1 + pair.ran().count(pair.free) + len(held) >= 20
    until(lambda: not procs.alive(pair.free), what="the end of the one that ran them")
    assert pair.busy in pair.site.workers()


def test_a_forked_child_keeps_no_link(pair):
    """Of either worker: as long as the child lived nobody would see the end of its parent."""
    gate = pair.site.gate("child")
    children = [int(pair.handed("/fork/child").text)]
    pair.release().read_response()

    def own():
        """The client may have its response before the thread is free for the next request."""
        children.append(int(pair.ask("/fork/child").read_response().text))
        return pair.ran()[-1] == pair.busy

    until(own)
    pair.site.wait_event("waiting child", len(children))
    assert [proc.unix_sockets(child) for child in children] == [0] * len(children)
    gate.open()
    until(lambda: not any(map(procs.alive, children)), what="the children's end")


@pytest.mark.alone
def test_no_request_fails_while_nginx_is_reloaded(start):
    """Twelve clients, four threads: many requests wait, and some are handed over."""
    site = start().site
    with Load(site.port, "/pause?0.02", clients=12) as load:
        for _ in range(4):
            enough = len(load.answers) + 50
            until(lambda enough=enough: len(load.answers) > enough)
            site.reload(gone=True)
    assert load.failures() == []


@pytest.mark.alone
def test_no_request_fails_while_workers_are_replaced(start):
    site = start(http="wsgi_max_requests 60;").site
    old = set(site.workers())
    with Load(site.port, "/pause?0.02", clients=12) as load:
        until(lambda: old.isdisjoint(site.workers()), 30, "both are replaced")
    assert load.failures() == []


@pytest.mark.alone
def test_requests_that_compute_do_not_wait_beside_an_idle_interpreter(start):
    """All on connections of one worker, whose threads take turns with its interpreter."""
    pair = start()
    clients = [pair.connect() for _ in range(4)]

    def ran():
        for client in clients:
            client.send(http.build("GET", "/compute?0.3", close=False))
        return {int(client.read_response().text) for client in clients}

    # One that does not take what it is offered, since it gets no processor for a tenth of a second,
    # is left alone for one.
    assert any(ran() == set(pair.pids) for _ in range(3)), pair


def test_each_answer_is_that_of_its_request(start):
    """Many at once, of two workers and four threads."""
    pair = start()
    clients = [pair.connect(pid) for pid in pair.pids * 8]

    def ask(client):
        found = []
        for number in range(30):
            path = f"/whereabouts/{id(client)}/{number}"
            client.send(http.build("GET", path, close=False))
            found.append(f"'{path}'" in client.read_response().text)
        return all(found)

    assert all(at_once(ask, clients, len(clients)))
    assert len(pair.ran()) == 30 * len(clients)
