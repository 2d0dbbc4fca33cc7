"""A reload whose applications take long to import: the old workers serve until they are loaded."""

import os

import pytest
from lib import http, procs
from lib.load import Load
from lib.poll import elapse, until
from lib.stall import HELD, HTTP, WAITS, answers, begin, reload, switched


@pytest.mark.parametrize("workers, then, options", [
    (1, 1, {}),
    (2, 2, {}),
    (2, 3, {}),
    (3, 1, {}),
    (2, 2, {"events": "accept_mutex on;"}),
    (2, 3, {"events": "accept_mutex on; multi_accept on;"}),
    (2, 2, {"events": "use epoll; multi_accept on;"}),
    (2, 2, {"main": "timer_resolution 50ms;"}),
], ids=str)
def test_the_old_code_serves_until_the_new_one_is_loaded(start, workers, then, options):
    site = start(workers=workers, **options)
    gate, old = reload(site, workers=then)
    assert answers(site) == {"old"}
    # At the start a worker may have waited for one that was quicker, too.
    new = "|".join(str(pid) for pid in set(site.workers()) - set(old))
    assert len(site.log.matching(rf" ({new})#.*{WAITS}")) == then
    gate.open()
    switched(site, old)
    for pid in old:
        site.log.wait_for(rf"{pid}#.*quits .* told to: the new workers have loaded")
    site.log.wait_for("accepts connections .* after its start", count=then)


@pytest.mark.parametrize("workers, then", [(2, 2), (3, 1)])
def test_sockets_of_each_worker_are_served_by_the_old_one(start, workers, then):
    site = start(workers=workers, server="listen 127.0.0.1:@PORT2@ reuseport;")
    port = site.ports["PORT2"]
    gate, old = reload(site, workers=then)
    assert answers(site, 50, port=port) == {"old"}
    gate.open()
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    assert answers(site, 50, port=port) == {"new"}


def test_a_new_socket_of_another_worker_is_served_at_once(start):
    """With reuseport a third worker has a third socket, which no old worker accepts on."""
    site = start(workers=2, server="listen 127.0.0.1:@PORT2@ reuseport;")
    gate, old = reload(site, workers=3)
    for _ in range(50):
        assert site.get("/static", port=site.ports["PORT2"]).body == b"static"
    gate.open()
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    assert answers(site, 50, port=site.ports["PORT2"]) == {"new"}


def test_a_unix_socket_is_served_by_the_old_workers(start):
    site = start(workers=2, server="listen unix:@DIR@/socket;")
    path = f"{site.dir}/socket"

    def ask():
        with http.Connection(path=path) as client:
            client.send(http.build("GET", "/step"))
            return client.read_response().text

    gate, old = reload(site)
    assert {ask() for _ in range(20)} == {"old"}
    gate.open()
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    assert {ask() for _ in range(20)} == {"new"}


def test_a_port_that_is_new_is_served_by_the_new_workers_at_once(start):
    site = start(workers=2)
    gate, old = reload(site, server="listen 127.0.0.1:@PORT2@;")
    for _ in range(20):
        assert site.get("/static", port=site.ports["PORT2"]).body == b"static"
        assert site.get("/step").text == "old"
    gate.open()
    switched(site, old)


def test_a_port_of_a_generation_that_was_overtaken_is_served(start):
    """The old workers do not have it, and it is not new to the last ones."""
    more = "listen 127.0.0.1:@PORT2@;"
    site = start(workers=2)
    second, old = reload(site, "second", server=more)
    overtaken = set(site.workers()) - set(old)
    third, _ = reload(site, "third", held=2, server=more)
    until(lambda: overtaken.isdisjoint(site.workers()), what="the second generation leaves")
    for _ in range(20):
        assert site.get("/static", port=site.ports["PORT2"]).body == b"static"
    third.open()
    switched(site, old, "third")
    second.open()


def test_a_port_that_a_reload_drops_is_closed_as_ever_and_can_be_had_again(start):
    """The old workers are not held then: they would keep it open."""
    more = "listen 127.0.0.1:@PORT2@;"
    site = start(workers=2, server=more)
    gate = site.gate("new")
    old = site.workers()
    begin(site, "new", server="")
    site.wait_event("waiting new", count=2)
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    with pytest.raises(ConnectionRefusedError):
        site.get("/static", port=site.ports["PORT2"])
    for _ in range(20):
        site.barrier()
    begin(site, "last", server=more)
    site.wait_event("imported last", count=2)
    assert answers(site, port=site.ports["PORT2"]) == {"last"}
    gate.open()


def test_a_worker_without_a_free_connection_is_no_reason_to_wait(start):
    site = start(connections="16")
    site.allow_alert("worker_connections are not enough")
    gate = site.gate("new")
    held = []
    while not site.log.matching("worker_connections are not enough"):
        held.append(site.connect())
        # Without a part of a request nginx would use the connection again.
        held[-1].send(b"GET /step HTTP/1.1\r\n")
        site.settle()
    begin(site, "new")
    site.wait_event("waiting new")
    site.log.wait_for(HELD)
    site.log.wait_for(r"accepts connections .* after its start")
    for _ in range(20):
        until(lambda: site.get("/static").body == b"static", what="an answer of the new worker")
    gate.open()
    for connection in held:
        connection.close()
    until(lambda: site.get("/step").text == "new", what="an answer of the new code")


def test_the_new_configuration_is_for_new_connections_when_the_applications_are_loaded(start):
    site = start(workers=2, server='location = /page { return 200 "old page"; }')
    gate, old = reload(site, server='location = /page { return 200 "new page"; }')
    assert {site.get("/page").text for _ in range(20)} == {"old page"}
    gate.open()
    switched(site, old)
    assert site.get("/page").text == "new page"


def test_no_request_waits_for_the_import_of_a_reload(start):
    site = start(workers=2)
    with Load(site.port, "/step") as load:
        gate, old = reload(site, workers=3)
        # One that waited would get no answer.
        load.each(20)
        gate.open()
        switched(site, old)
        load.each(20)
    assert load.failures() == []


def test_a_second_reload_overtakes_the_first(start):
    site = start(workers=2)
    second, old = reload(site, "second")
    overtaken = set(site.workers()) - set(old)
    # It has nothing to serve with.
    third, _ = reload(site, "third", held=2)
    until(lambda: not any(map(procs.alive, overtaken)), what="the second generation's end")
    second.open()
    assert answers(site) == {"old"}
    third.open()
    switched(site, old, "third")
    assert "imported second" not in site.events()


def test_reloads_one_after_the_other_end_in_the_last_code(start):
    site = start(workers=2)
    for step in range(5):
        begin(site, f"{step}")
        # nginx has read the file.
        site.log.wait_for("start worker processes", count=2 + step)
    until(lambda: site.get("/step").text == "4", what="an answer of the last code")
    until(lambda: len(site.workers(shutting_down=True)) == 2, what="the old workers' end")
    assert answers(site) == {"4"}


def test_a_generation_that_has_loaded_serves_until_the_next_one_has(start):
    site = start(workers=2)
    for step in ["a", "b", "c"]:
        before = answers(site)
        gate, old = reload(site, step, held=2 * (ord(step) - ord("a") + 1))
        assert answers(site) == before
        gate.open()
        switched(site, old, step)


@pytest.mark.parametrize("changes", [{"apps": ()}, {"apps": (), "wsgi": False}],
                         ids=["no application", "no module"])
@pytest.mark.parametrize("held", [False, True])
def test_a_reload_without_applications_ends_all_there_were(start, changes, held):
    site = start(workers=2)
    old = reload(site)[1] if held else site.workers()
    old = {*old, *site.workers()}
    apps = site.apps, site.wsgi
    vars(site).update(changes)
    site.write_config(http="")
    site.signal("HUP")
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    assert site.get("/step").status == 404
    site.apps, site.wsgi = apps
    # Nobody serves who has the application: the new ones accept at once.
    site.gate("again")
    begin(site, "again")
    site.wait_event("waiting again", count=2)
    for _ in range(20):
        site.barrier()


def test_the_first_workers_accept_at_once(make_nginx):
    site = make_nginx(apps=["step"], http=HTTP.format("first"), workers=2)
    gate = site.gate("first")
    site.start()
    site.wait_event("waiting first", count=2)
    for _ in range(20):
        site.barrier()
    clients = [site.connect() for _ in range(4)]
    for client in clients:
        client.send(http.build("GET", "/step"))
    gate.open()
    assert {client.read_response().text for client in clients} == {"first"}
    assert site.log.matching(WAITS) == []


def test_workers_that_have_not_loaded_themselves_are_not_waited_for(make_nginx):
    site = make_nginx(apps=["step"], http=HTTP.format("first"), workers=2)
    site.extra = ""
    site.gate("first")
    site.start()
    site.wait_event("waiting first", count=2)
    old = site.workers()
    begin(site, "second")
    site.log.wait_for("gracefully shutting down", count=2)
    switched(site, old, "second")
    assert site.log.matching(HELD) == []


def test_an_import_that_fails_ends_the_hold_too(start):
    site = start(workers=2)
    gate, old = reload(site, "broken")
    assert answers(site) == {"old"}
    gate.open()
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    assert site.get("/step").status == 500


def test_new_workers_that_are_killed_in_their_import_are_followed_by_others(start):
    site = start(workers=2)
    site.allow_alert("exited on signal 9")
    gate, old = reload(site)
    for count, pid in enumerate(set(site.workers()) - set(old)):
        site.signal("KILL", pid)
        site.wait_event("waiting new", count=3 + count)
    assert answers(site) == {"old"}
    gate.open()
    switched(site, old)


def test_an_old_worker_that_dies_is_not_waited_for(start):
    site = start(workers=2)
    site.allow_alert("exited on signal 9")
    gate, old = reload(site)
    site.signal("KILL", old[0])
    assert answers(site) == {"old"}
    site.signal("KILL", old[1])
    # The new ones accept, though their application is not there.
    for _ in range(20):
        site.barrier()
    client = site.connect()
    client.send(http.build("GET", "/step"))
    gate.open()
    assert client.read_response().text == "new"
    switched(site, old)


def test_a_quit_by_a_signal_is_not_held(start):
    site = start()
    gate, (old,) = reload(site)
    site.signal("QUIT", old)
    until(lambda: not procs.alive(old), what="the old worker's end")
    site.barrier()
    gate.open()
    switched(site, [old])


@pytest.mark.parametrize("workers", [1, 3])
def test_a_hold_ends_with_the_server(start, workers):
    site = start("wsgi_shutdown_timeout 100ms;", workers=workers)
    site.allow_alert("python did not stop|does not end")
    _, old = reload(site)
    site.quit()
    for pid in old:
        assert site.log.matching(rf"{pid}#.*the new workers have been told to quit")


def test_a_stop_ends_a_hold_at_once(start):
    site = start(workers=2)
    _, old = reload(site)
    site.stop(timeout=5)
    assert not site.log.matching("quits .* told to")


def test_a_hold_is_over_after_wsgi_check_timeout(start):
    site = start("wsgi_check_timeout 1s;", workers=2)
    gate, old = reload(site)
    assert len(site.log.matching(HELD + ", at most 1s")) == 2
    for pid in old:
        quits = rf"{pid}#.*quits [1-9]\d*\.\d+ s after .* it takes the new workers too long"
        site.log.wait_for(quits)
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    # The new ones accept, as they do when nobody else serves.
    for _ in range(20):
        site.barrier()
    gate.open()
    switched(site, old)


def test_worker_shutdown_timeout_begins_after_the_hold(start):
    site = start(main="worker_shutdown_timeout 1s;",
                 server="location /held/ { wsgi_app held:application; }")
    running = site.gate("a")
    client = site.connect()
    client.send(http.build("GET", "/held/a?whole"))
    site.wait_event("waiting a")
    gate, old = reload(site)
    elapse(1.5)
    running.open()
    assert client.read_response().text == "whole"
    gate.open()
    switched(site, old)


def test_a_held_worker_is_not_replaced_on_its_own_account(start):
    site = start("wsgi_max_requests 5;")
    gate, (old,) = reload(site)
    assert answers(site) == {"old"}
    assert not site.log.matching("replaced")
    elapse(1.5)
    assert answers(site) == {"old"}
    gate.open()
    # The new worker has its own five.
    until(lambda: not procs.alive(old), what="the old worker's end")


def test_a_worker_that_is_replaced_and_told_to_quit_serves_until_the_new_ones_do(start):
    """It has said that it will leave, and closes its connections."""
    site = start("wsgi_max_requests 5;")
    answers(site, 5)
    site.log.wait_for("is to be replaced")
    gate, (old,) = reload(site)
    elapse(1.5)
    assert answers(site) == {"old"}
    gate.open()
    until(lambda: not procs.alive(old), what="the old worker's end")


def test_logs_are_opened_again_during_a_hold(start):
    site = start()
    gate, old = reload(site)
    os.rename(f"{site.dir}/access.log", f"{site.dir}/access.log.old")
    site.reopen()
    until(lambda: os.path.exists(f"{site.dir}/access.log"), what="the new log")

    def arrived():
        assert site.get("/step?again").text == "old"
        with open(f"{site.dir}/access.log") as file:
            return "/step?again" in file.read()

    until(arrived, what="a line of the old worker in the new log")
    gate.open()
    switched(site, old)
