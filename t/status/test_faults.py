"""Ten faults: the status names the line, the pool or the client that is to blame, in words."""

import re

import pytest
from lib import config, procs
from lib.poll import until
from lib.status import STATUS, ask, in_words, loaded, of, says

MAIN = "thread_pool shop threads=2;"
HTTP = "wsgi_thread_pool shop; wsgi_shutdown_timeout 1s;"
SERVER = STATUS + """
    location /faults/ { wsgi_app faults:application; }
    location /large { wsgi_app faults:large; }
    location /sleeping { wsgi_app faults:sleeping; }
    location /full/ { wsgi_app faults:application; wsgi_queue 1; }
"""
STACKS = "/stacks?stacks"


@pytest.fixture
def start(nginx):
    def begin(**options):
        more = {"main": MAIN, "http": HTTP, "server": SERVER}
        site = loaded(nginx(**more | options))
        # Some of the threads never come back.
        site.allow_alert("python did not stop within 1s")
        return site

    return begin


def line_of(pattern):
    """The number of the first line of the application that has this."""
    with open(f"{config.HERE}/apps/faults.py") as file:
        return next(n for n, line in enumerate(file, 1) if re.search(pattern, line))


def shows_stack(site, function, pattern):
    """Wait until page and text have the line in the stack of a request."""
    number = line_of(pattern)

    def there():
        _, page, text = in_words(site, STACKS)
        place = rf"faults\.py:{number} in {function}"
        return re.search(place, page) and re.search(place, text)

    try:
        until(there, 15, f"line {number} in {function}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{in_words(site, STACKS)[2]}") from None


def test_a_thread_asleep_in_c(start):
    site = start()
    site.ask("/faults/asleep_in_c")
    site.wait_event("fault")
    shows_stack(site, "asleep_in_c", r"CDLL\(None\)\.sleep")


def test_a_deadlock_of_two_locks(start):
    site = start()
    for way in ("one_way", "other_way"):
        site.ask(f"/faults/{way}")
    site.wait_event("fault", 2)
    site.ask("/faults/leak")
    shows_stack(site, "take", "    with lock:")
    shows_stack(site, "one_way", r"take\(_second\)")
    shows_stack(site, "other_way", r"take\(_first\)")
    says(site, r"all 2 threads of pool shop are busy, 1 request waits.*; 2 of 2 in "
               rf"\S*faults\.py:{line_of('    with lock:')} take", STACKS)


def test_an_endless_loop(start):
    site = start()
    site.ask("/faults/endless_loop")
    site.wait_event("fault")
    number = line_of("while True")

    def there():
        _, page, text = in_words(site, STACKS)
        # It is at this line or at the next.
        place = rf"faults\.py:({number}|{number + 1}) in endless_loop"
        return re.search(place, page) and re.search(place, text)

    until(there, 15, "the loop")


def test_a_gil_that_is_never_released(start):
    site = start()
    site.ask("/faults/never_releases")
    site.wait_event("fault")
    says(site, "python of worker 0 .* does not respond: the GIL is held", STACKS)
    shows_stack(site, "never_releases", r"PyDLL\(None\)\.sleep")
    site.signal("KILL", site.worker())
    site.allow_alert("exited on signal 9")


def test_a_slow_database(start):
    site = start()
    gate = site.gate("SELECT-pg_sleep")
    clients = [site.ask("/faults/slow_database") for _ in range(5)]
    site.wait_event("fault", 2)
    shows_stack(site, "execute", r"gate\.wait\(query\)")
    # The innermost line is that of the driver.
    says(site, r"all 2 threads of pool shop are busy, 3 requests wait, the oldest for .*; "
               r"2 of 2 in \S*gate\.py:\d+ wait", STACKS)
    says(site, "3 requests wait, the oldest for .*; 2 of 2 at GET /faults/slow_database")
    gate.open()
    assert [client.read_response().status for client in clients] == [200] * 5


def test_a_full_queue(start):
    site = start()
    gate = site.gate("SELECT-pg_sleep")
    clients = [site.ask("/full/slow_database") for _ in range(3)]
    site.wait_event("fault", 2)
    until(lambda: of(site)["workers"][0]["pools"][0]["waiting"] == 1, 5, "one waits")
    assert site.get("/full/slow_database").status == 503
    says(site, r"the queue of pool shop was full \S+ \S+ ago, 1 request refused so far")
    gate.open()
    assert [client.read_response().status for client in clients] == [200] * 3


def test_a_slow_client(start):
    site = start()
    client = site.ask("/large", rcvbuf=4096)
    until(lambda: [each["state"] for each in of(site)["requests"]] == ["waiting"], 10, "it waits")
    (request,) = of(site)["requests"]
    assert request["client"] == "127.0.0.1" and request["path"] == "/large"
    assert 0 < request["bytes_sent"] < 32 << 20
    says(site, r"a client is slow to take its response, the oldest since .*: GET /large of client "
               r"127\.0\.0\.1; of 127\.0\.0\.1 \(1\)")
    client.close()
    until(lambda: of(site)["requests"] == [], 10, "the request has gone")


def test_an_import_error(nginx):
    site = nginx(main=MAIN, http=HTTP + "wsgi_python_path @DIR@/site; wsgi_check off;",
                 server=STATUS + "location /broken { wsgi_app broken:application; }")
    # Not there when nginx is started.
    says(site, r'"broken:application" is not loaded in 1 worker: ModuleNotFoundError')
    site.write("site/broken.py", "import json\n\nimport not_there_at_all\n")
    site.reload()
    says(site, r'"broken:application" is not loaded in 1 worker: ModuleNotFoundError: No module '
               r"named 'not_there_at_all' \(File \".*/site/broken\.py\", line 3")
    ready = ask(site, "/ready")
    assert (ready.status, ready.body) == (503, b"broken:application: failed\n")


def test_a_leak(start):
    site = start()
    for _ in range(3):
        assert site.get("/faults/leak").status == 200
    says(site, rf"worker 0 \(process {site.worker()}\) has grown from \d+ MiB to \d+ MiB in .*, "
               "3 requests since it loaded faults:application")


def test_clients_that_vanish(start):
    site = start()
    gate = site.gate("sleeping")
    for number in (1, 2):
        client = site.ask("/sleeping")
        site.wait_event("called", number)
        client.close()
    until(lambda: [each["state"] for each in of(site)["requests"]] == ["left"] * 2, 10, "both left")
    says(site, r"2 threads work for clients that have gone, the oldest since .*: GET /sleeping of "
               r"client 127\.0\.0\.1; of 127\.0\.0\.1 \(2\)")
    assert procs.alive(site.worker())
    gate.open()
    until(lambda: of(site)["requests"] == [], 10, "the threads are back")
