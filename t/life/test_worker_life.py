"""The life of a worker with Python inside: its threads, its deaths, its end."""

import os
import signal

import pytest
from lib import http, procs
from lib.held import ONE
from lib.poll import until


def test_thread_locals_live_from_request_to_request(nginx):
    site = nginx(apps=["local"], main=ONE,
                 app_directives="wsgi_thread_pool one;")
    answers = [site.get("/local").text.split() for _ in range(20)]
    assert [int(count) for _, count in answers] == list(range(1, 21))
    assert len({thread for thread, _ in answers}) == 1


def test_each_thread_keeps_its_own_locals(nginx):
    site = nginx(apps=["local"], main="thread_pool some threads=4;",
                 app_directives="wsgi_thread_pool some;")
    seen = {}
    for _ in range(40):
        thread, count = site.get("/local").text.split()
        assert int(count) == seen.get(thread, 0) + 1
        seen[thread] = int(count)


def ended_by_an_application(nginx, call, becomes):
    """nginx after a request has ended its worker, which comes back."""
    site = nginx(apps=["fatal", "plain"])
    worker = site.worker()
    if becomes:
        site.expect_alert(rf"worker process {worker} exited with code {becomes}")
    assert site.get(f"/fatal/{call}").end in ("nothing", "reset")
    site.log.wait_for(rf"worker process {worker} exited with code {becomes}$")
    site.wait_respawn(worker)
    assert site.get("/plain").body == b"plain"
    return site


@pytest.mark.parametrize("status, becomes", [(0, 0), (1, 1), (2, 70), (3, 3), (70, 70)])
def test_a_worker_that_an_application_ends_comes_back(nginx, status, becomes):
    site = ended_by_an_application(nginx, f"os_exit?{status}", becomes)
    assert site.log.matching("cannot be respawned") == []


@pytest.mark.parametrize("status, becomes", [(0, 0), (2, 70), (3, 3), (258, 70)])
def test_a_worker_that_a_c_library_ends_comes_back(nginx, status, becomes):
    """The master never starts one again in place of a worker that ends with 2."""
    ended_by_an_application(nginx, f"c_exit?{status}", becomes)


def test_a_file_over_its_limit_is_an_error_and_not_the_end(nginx):
    site = nginx(apps=["fatal"])
    worker = site.worker()
    assert site.get("/fatal/file_limit").text == "EFBIG"
    assert site.worker() == worker


@pytest.mark.parametrize("how, number", [("segfault", signal.SIGSEGV), ("abort", signal.SIGABRT)])
def test_a_worker_that_crashes_comes_back(nginx, how, number):
    site = nginx(apps=["fatal", "plain"])
    worker = site.worker()
    site.expect_alert(rf"worker process {worker} exited on signal {number.value}")
    assert site.get(f"/fatal/{how}").end in ("nothing", "reset")
    site.wait_respawn(worker)
    assert site.get("/plain").body == b"plain"


def test_a_worker_that_is_killed_comes_back_with_its_application(nginx):
    site = nginx(apps=["plain"])
    site.expect_alert("exited on signal 9")
    for _ in range(3):
        worker = site.worker()
        os.kill(worker, signal.SIGKILL)
        site.wait_respawn(worker)
        assert site.get("/plain").body == b"plain"


@pytest.mark.parametrize("how", ["recursion", "nested_json", "nested_repr", "memory"])
def test_an_application_at_its_limits_gets_an_exception(nginx, how):
    site = nginx(apps=["fatal"])
    worker = site.worker()
    expected = "MemoryError" if how == "memory" else "RecursionError"
    assert site.get(f"/fatal/{how}").text == expected
    assert site.worker() == worker


def test_a_long_backtracking_match_does_not_exhaust_the_stack(nginx):
    assert nginx(apps=["fatal"]).get("/fatal/backtracking").text == "None"


def test_static_files_are_served_while_c_code_holds_the_gil(nginx):
    site = nginx(apps=["fatal"])
    gate = site.gate("gil")
    with site.ask("/fatal/hold_the_gil") as client:
        site.wait_event("waiting gil")
        for _ in range(20):
            site.barrier()
        gate.open()
        assert client.read_response().text == "held"


@pytest.mark.parametrize("end", ["quit", "stop"])
def test_atexit_functions_run_once_when_nginx_ends(nginx, end):
    site = nginx(apps=["leaving"], workers=2)
    site.wait_event("imported", count=2)
    workers = site.workers()
    getattr(site, end)()
    assert sorted(site.events("atexit")) == sorted(f"atexit {pid}" for pid in workers)


def test_atexit_functions_run_in_the_worker_that_a_reload_replaces(nginx):
    site = nginx(apps=["leaving"])
    site.wait_event("imported")
    (old,) = site.reload(gone=True)
    # The process that has tried the application before the reload ends as a script does, too.
    imported = {int(line.split()[1]) for line in site.events("imported")}
    ended = sorted(imported - {site.worker()})
    assert len(ended) == 2 and old in ended
    assert sorted(site.events("atexit")) == sorted(f"atexit {pid}" for pid in ended)
    assert int(site.get("/leaving").text) == site.worker()


def test_the_application_is_imported_once_in_each_worker_before_any_request(nginx):
    site = nginx(workers=2, main="thread_pool other threads=2;", server="""
        location /one { wsgi_app leaving:application; }
        location /two { wsgi_app leaving:application; wsgi_thread_pool other; }
        location /three { wsgi_app leaving; }
    """)
    site.wait_event("imported", count=2)
    for _ in range(20):
        for path in ("/one", "/two", "/three"):
            site.get(path)
    assert sorted(site.events("imported")) == sorted(f"imported {p}" for p in site.workers())


def test_stop_of_an_idle_nginx_is_clean(nginx):
    site = nginx(apps=["plain"])
    assert site.get("/plain").status == 200
    worker = site.worker()
    site.stop(timeout=3)
    assert site.log.matching(rf"worker process {worker} exited with code 0$")


def test_memory_and_descriptors_do_not_grow_with_requests(nginx):
    site = nginx(apps=["plain", "fatal"], http="keepalive_requests 10000;")

    def work(count):
        with site.connect() as client:
            for number in range(count):
                client.send(http.build("GET", "/plain", close=False))
                assert client.read_response().status == 200
                if number % 10 == 0:
                    assert site.get("/fatal/nothing").status == 500  # A KeyError.

    work(2000)
    before, descriptors = procs.rss(site.worker()), site.fd_count()
    work(4000)
    assert procs.rss(site.worker()) - before < 1 << 20
    until(lambda: site.fd_count() <= descriptors, what="descriptors are as before")


@pytest.mark.parametrize("what, result", [("pooled", b"55"), ("looped", b"3"), ("spawned", b"7")])
def test_the_threads_and_loops_of_the_standard_library_work_and_end(nginx, what, result):
    site = nginx(apps=["background"], http="wsgi_shutdown_timeout 50s;")
    for _ in range(3):
        assert site.get(f"/background/{what}").body == result
    site.quit(timeout=5)


@pytest.mark.parametrize("end", ["quit", "stop"])
def test_what_atexit_functions_print_is_logged(nginx, end):
    site = nginx(apps=["background"])
    assert site.get("/background/pooled").status == 200
    getattr(site, end)()
    site.log.wait_for(r"\[error\].*last words$")
    site.log.wait_for(r"\[error\].*and no more$")


WORDY = """
import atexit
def speak():
    for number in range(500):
        print("last words", number)
atexit.register(speak)
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"wordy"]
"""


@pytest.mark.parametrize("turn", range(6))
def test_the_last_words_of_every_worker_are_logged(make_nginx, turn):
    """More than is written before the exit functions have ended; a race, so in several turns."""
    site = make_nginx(
        server="location / { wsgi_app wordy; }", http="wsgi_chdir @DIR@/site;", workers=8,
    )
    site.write("site/wordy.py", WORDY)
    site.start()
    workers = site.workers()
    assert site.get("/").body == b"wordy"
    # All have imported it.
    site.settle()
    site.quit()
    for worker in workers:
        said = site.log.matching(rf"{worker}#\d+: last words \d+$")
        assert len(said) == 500 and said[-1].endswith(" 499")
