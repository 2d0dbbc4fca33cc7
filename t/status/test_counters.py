"""What is counted never goes back, whatever becomes of workers and configurations."""

import time

import pytest
from lib.poll import elapse, until
from lib.status import STATUS, ask, loaded, metrics, of, says, total

MAIN = "thread_pool one threads=2; thread_pool two threads=1;"
HTTP = "wsgi_thread_pool one;"
SERVER = STATUS + """
    location /quick { wsgi_app overdue:quick; }
    location /two { wsgi_app overdue:quick; wsgi_thread_pool two; }
    location /raising { wsgi_app raising:application; }
    location /held/ { wsgi_app held:application; wsgi_queue 0; }
    location /impatient/ { wsgi_app held:application; wsgi_queue 5 timeout=200ms;
                           wsgi_thread_pool two; }
    location /patient/ { wsgi_app held:application; wsgi_queue 5 timeout=50s;
                         wsgi_thread_pool two; }
    location /slow/ { wsgi_app held:application; wsgi_read_timeout 200ms; }
    location /overdue/ { wsgi_app overdue:application; wsgi_request_timeout 200ms; }
"""


@pytest.fixture
def start(nginx):
    def begin(**options):
        more = {"main": MAIN, "http": HTTP, "server": SERVER}
        return loaded(nginx(**more | options))

    return begin


def counts(site, number, **labels):
    until(lambda: total(site, "requests_total", **labels) == number, 10, f"{number} requests")


def never_less(before, after):
    lost = {name: (value, after.get(name)) for name, value in before.items()
            if ("_total" in name or "_bucket" in name or "_count" in name)
            and after.get(name, -1) < value}
    assert lost == {}


def ask_for(site, path, number):
    for _ in range(number):
        assert site.get(path).status == 200


def test_a_reload_with_other_workers_and_other_applications_keeps_them(start):
    site = start()
    ask_for(site, "/quick", 5)
    ask_for(site, "/two", 3)
    counts(site, 8, code="2xx")
    before = metrics(site)
    site.workers_wanted = 3
    # Another order, another index: the names are what counts.
    site.reload(workers="3", gone=True, server="location /two { wsgi_app overdue:quick; "
                "wsgi_thread_pool two; } location /quick { wsgi_app overdue:quick; }" + STATUS)
    loaded(site)
    counts(site, 8, code="2xx")
    ask_for(site, "/quick", 4)
    counts(site, 9, pool="one", code="2xx")
    assert total(site, "requests_total", pool="two", code="2xx") == 3
    never_less(before, metrics(site))
    site.workers_wanted = 1
    site.reload(workers="1", gone=True)
    loaded(site)
    counts(site, 12, code="2xx")


def test_a_worker_that_is_killed_loses_nothing(start):
    site = start()
    site.allow_alert("exited on signal 9")
    ask_for(site, "/quick", 5)
    counts(site, 5, code="2xx")
    before, old = metrics(site), site.worker()
    site.signal("KILL", old)
    site.wait_respawn(old)
    loaded(site)
    until(lambda: total(site, "worker_replacements_total", reason="died") == 1, 5, "the death")
    ask_for(site, "/quick", 2)
    counts(site, 7, code="2xx")
    never_less(before, metrics(site))
    assert of(site)["workers"][0]["pid"] == site.worker()


def test_a_worker_that_is_replaced_loses_nothing(start):
    site = start(http=HTTP + "wsgi_max_requests 6;")
    old = site.worker()
    ask_for(site, "/quick", 6)
    site.wait_respawn(old)
    loaded(site)
    counts(site, 6, code="2xx")
    assert total(site, "worker_replacements_total", reason="max_requests") == 1
    assert total(site, "worker_replacements_total", reason="died") == 0


def test_processor_time_is_counted_where_it_is_measured(start):
    site = start(http=HTTP + "log_format cpu $wsgi_cpu_time; access_log @DIR@/cpu.log cpu;")
    ask_for(site, "/quick", 3)
    counts(site, 3, code="2xx")
    spent = total(site, "cpu_seconds_total")
    with open(f"{site.dir}/cpu.log", encoding="utf-8") as log:
        logged = [float(line) for line in log if line != "-\n"]
    assert 0 < spent < 3 and abs(spent - sum(logged)) < 0.001 * (len(logged) + 1)


def test_what_fails_is_counted_by_what_it_is(start):
    site = start()
    assert site.get("/raising").status == 500
    until(lambda: total(site, "exceptions_total", app="raising:application") == 1, 5, "exception")
    labels = {"app": "raising:application", "code": "5xx"}
    until(lambda: total(site, "requests_total", **labels) == 1, 5, "the request")
    # A thread is free a little after its client has the response.
    site.settle()
    gate = site.gate("a")
    held = [site.ask("/held/a") for _ in range(2)]
    site.wait_event("called", 2)
    assert site.get("/held/a").status == 503
    held.append(site.ask("/patient/a"))
    site.wait_event("called", 3)
    assert site.get("/impatient/a").status == 503
    rejected = {"queue_full": ("one", 1), "queue_timeout": ("two", 1)}
    for reason, (pool, number) in rejected.items():
        until(lambda: total(site, "rejected_total", pool=pool, reason=reason) == number, 5, reason)
    gone = site.ask("/patient/a")
    until(lambda: len(of(site)["requests"]) == 4, 5, "one waits")
    gone.close()
    until(lambda: total(site, "rejected_total", pool="two", reason="client_gone") == 1, 5, "gone")
    gate.open()
    assert [client.read_response().status for client in held] == [200] * 3


def test_timeouts_are_counted(start):
    site = start()
    site.allow_alert("stack of the thread|File |    ")
    gate = site.gate("b")
    assert site.get("/slow/b").status == 504
    until(lambda: total(site, "timeouts_total", kind="read") == 1, 5, "the read timeout")
    gate.open()
    assert site.get("/overdue/spin/").status == 504
    until(lambda: total(site, "timeouts_total", kind="request") == 1, 5, "the request timeout")


def test_checks_are_counted_and_the_last_one_is_told_of(start):
    site = start(http=HTTP + "wsgi_python_path @DIR@/site;")
    site.log.allow("emerg")
    site.write("site/broken.py", "raise RuntimeError('no')\n")
    site.reload(gone=True)
    until(lambda: total(site, "checks_total", result="good") == 1, 10, "a good check")
    site.write_config(server=SERVER + "location /b { wsgi_app broken:application; }")
    site.signal("HUP")
    says(site, r"the last configuration was refused .* ago, the one before is served: "
               r".*\"broken:application\" .* cannot be imported: RuntimeError: no")
    assert total(site, "checks_total", result="failed") == 1


def test_a_configuration_without_a_status_counts_nothing(start):
    site = start()
    ask_for(site, "/quick", 2)
    site.reload(gone=True, server="location /quick { wsgi_app overdue:quick; }")
    until(lambda: site.get("/quick").status == 200, 10, "it serves")
    assert ask(site).status == 404


@pytest.mark.alone
def test_eight_workers_with_1000_requests_answer_within_a_second(start):
    site = start(workers=8, connections="2048", main="thread_pool one threads=4;"
                 "thread_pool two threads=1;", http=HTTP + "wsgi_balance off;",
                 server=STATUS + "location /held/ { wsgi_app held:application; }")
    gate = site.gate("many")
    clients = [site.ask("/held/many") for _ in range(1000)]
    until(lambda: len(of(site)["requests"]) == 1000, 30, "1000 requests")

    def is_quick(path):
        begun = time.monotonic()
        response = ask(site, path)
        assert response.status == 200 and response.complete
        if time.monotonic() - begun < 1:
            return True
        # For so long the same stacks are shown again.
        elapse(1)

    for path in ["/status", "/status?format=json", "/metrics", "/stacks?stacks"] * 2:
        # A processor that other programs take away can only add to the time.
        assert any(is_quick(path) for _ in range(3)), path
    gate.open()
    assert all(client.read_response().status == 200 for client in clients)
