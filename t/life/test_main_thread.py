"""Python's main thread: imports one after the other, on it, and the end on it."""

import pytest
from lib import procs
from lib.held import importing
from lib.poll import until
from lib.sources import HELLO


def test_an_import_runs_on_the_main_thread_as_under_any_other_server(nginx):
    site = nginx(apps=["main_thread"])
    site.wait_event("daemon")
    found = dict(line.split(" ", 1) for line in site.events())
    assert found["main"] == "True"
    assert found["loop"] == "ran"
    assert found["daemon"] == "False"
    # It returns what was there before, and raises what the real one raises.
    assert found["signal"] == "True"
    assert site.events("wrong") == ["wrong TypeError", "wrong ValueError"]
    place = r'signal\.signal\(15\) has no effect in a worker.*main_thread\.py:\d+'
    place = place.replace("15", r"(Signals\.SIGTERM|15)")
    assert len(site.log.wait_for(r"\[warn\].*" + place)) == 1


def test_a_forked_child_has_signal_handlers_of_its_own(nginx):
    assert nginx(apps=["main_thread"]).get("/main_thread").body == b"7"


@pytest.mark.parametrize("how", ["quit", "stop"])
def test_who_waits_for_the_main_thread_cleans_up_at_the_end(nginx, how):
    site = nginx(apps=["main_thread"], http="wsgi_shutdown_timeout 50s;")
    site.wait_event("daemon")
    getattr(site, how)(timeout=5)
    assert site.events("cleaned") == ["cleaned False"]


def test_signals_of_a_worker_are_nginxs_after_an_import_that_wanted_them(nginx):
    site = nginx(apps=["main_thread"])
    site.wait_event("daemon")
    worker = site.worker()
    site.signal("TERM", worker)
    until(lambda: not procs.alive(worker), 5, "the end of a worker that was told to stop")
    site.wait_respawn(worker)


NESTED = """
import importlib, record, threading
record.record("begins", "{0}", threading.active_count())
import time
for _ in range(20):
    time.sleep(0.005)
record.record("ends", "{0}")
"""


def test_imports_follow_one_another_in_the_order_of_the_configuration(make_nginx):
    names = ["one", "two", "three"]
    locations = "".join(
        f"location /{name} {{ wsgi_app {name}; wsgi_thread_pool {name}; }}" for name in names
    )
    pools = "".join(f"thread_pool {name} threads=2;" for name in names)
    site = make_nginx(server=locations, main=pools, http="wsgi_chdir @DIR@/site;")
    for name in names:
        site.write(f"site/{name}.py", NESTED.format(name) + HELLO.format(name))
    site.start()
    for name in reversed(names):
        assert site.get(f"/{name}").body == name.encode()
    order = [" ".join(line.split()[:2]) for line in site.events()]
    assert order == [f"{what} {name}" for name in names for what in ("begins", "ends")]


def test_an_application_is_served_while_those_behind_it_are_imported(make_nginx):
    site = make_nginx(apps=["plain", "gated_import"])
    gate = importing(site)
    assert site.get("/plain").body == b"plain"
    gate.open()
    assert site.get("/gated_import").body == b"imported at last"


LONG = {
    "sleeps": ("import time\ntime.sleep(60)\n", r'File ".*sleeps\.py", line \d+'),
    # It never lets go of the GIL: the stack is had without Python's help.
    "computes": (
        "import ctypes\nctypes.PyDLL(None).sleep(60)\n", r'File ".*computes\.py", line \d+'
    ),
}


def test_an_import_that_takes_long_is_named_with_its_stack(make_nginx):
    sites = []
    for name, (text, _) in LONG.items():
        site = make_nginx(
            server=f"location /{name} {{ wsgi_app {name}; }}",
            http="wsgi_chdir @DIR@/site; wsgi_shutdown_timeout 300ms;",
        )
        site.write(f"site/{name}.py", text)
        site.start()
        site.allow_alert("python did not stop")
        sites.append(site)
    for site, (name, (_, place)) in zip(sites, LONG.items(), strict=True):
        said = rf'\[error\].*the import of "{name}:application" has taken \d+ s'
        found = site.log.wait_for(said, 20)
        assert len(found) == 1
        site.log.wait_for(rf"\[error\].*{place}")
        assert site.get("/static").body == b"static"


def test_exit_functions_run_though_an_import_hangs(make_nginx):
    site = make_nginx(apps=["leaving", "gated_import"], http="wsgi_shutdown_timeout 2s;")
    gate = importing(site)
    worker = site.worker()
    site.quit(timeout=5)
    assert site.events("atexit") == [f"atexit {worker}"]
    site.log.wait_for(r'\[error\].*the import of "gated_import:application" does not end, leaving')
    site.log.wait_for(r'File ".*gate\.py", line \d+ in wait')
    site.log.wait_for(rf"worker process {worker} exited with code 0$")
    gate.open()


ENDLESS = """
import atexit, threading, record
threading.Thread(target=threading.Event().wait, name="endless").start()
atexit.register(record.record, "atexit")
"""


def test_a_thread_that_never_ends_leaves_time_for_the_exit_functions(make_nginx):
    site = make_nginx(
        server="location / { wsgi_app endless; }",
        http="wsgi_chdir @DIR@/site; wsgi_shutdown_timeout 3s;",
    )
    site.write("site/endless.py", ENDLESS + HELLO.format("endless"))
    site.start()
    assert site.get("/").body == b"endless"
    site.quit()
    assert site.events("atexit") == ["atexit"]
    site.log.wait_for(r"\[error\].*thread 'endless' of the application has not ended in time")
    assert site.log.matching("did not stop") == []


CROSSED = {
    "left": "import left_half\n" + HELLO.format("left"),
    "right": "import right_half\n" + HELLO.format("right"),
    "left_half": "import time\ntime.sleep(0.05)\nimport right_half\n",
    "right_half": "import time\ntime.sleep(0.05)\nimport left_half\n",
}


def test_imports_that_want_each_others_modules_do_not_wait_for_each_other(make_nginx):
    site = make_nginx(
        main="thread_pool one threads=2; thread_pool two threads=2;",
        server="""
            location /left { wsgi_app left; wsgi_thread_pool one; }
            location /right { wsgi_app right; wsgi_thread_pool two; }
        """,
        http="wsgi_chdir @DIR@/site;",
    )
    for name, text in CROSSED.items():
        site.write(f"site/{name}.py", text)
    site.start()
    for _ in range(3):
        for name in ("left", "right"):
            assert site.get(f"/{name}").body == name.encode()
        site.reload(gone=True)


ROBBER = "import os\nos.closerange(3, 1024)\n" + HELLO.format("robber")
# What it opens then has the numbers of nginx's.
OPENS = "import tempfile\nkept = [tempfile.TemporaryFile() for _ in range(40)]\n"
DEATHS = {
    "closes all descriptors": (ROBBER, "exited with code 70"),
    "opens others in their places": (ROBBER + OPENS, "exited with code 70"),
    "tells itself to end": ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
                            "import time\ntime.sleep(60)\n", "exited with code 0$"),
    "leaves": ("import os\nos._exit(1)\n", "exited with code 1$"),
    "crashes": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "exited on signal 11"),
}


@pytest.mark.parametrize("how", DEATHS)
def test_an_import_that_ends_its_worker_leaves_the_rest_at_work(make_nginx, how):
    text, end = DEATHS[how]
    site = make_nginx(
        apps=["plain"],
        server="location /deadly { wsgi_app deadly; }", http="wsgi_chdir @DIR@/site;",
    )
    site.write("site/deadly.py", text)
    site.expect_alert(end)
    site.allow_alert(r"an application has closed its descriptors|epoll_wait\(\) failed")
    site.start()
    site.log.wait_for('a worker has ended while it imported "deadly:application" again')
    site.barrier()
    worker = site.worker()
    for _ in range(5):
        assert site.get("/static").body == b"static"
        assert site.get("/plain").body == b"plain"
    assert site.worker() == worker
    # When it is asked for it is tried again, and heals if it can.
    site.write("site/deadly.py", HELLO.format("tame"))
    site.get("/deadly")

    def healed():
        return site.get("/deadly").body == b"tame"

    until(healed, 15, "the application that has been mended")
    assert site.worker() == worker


def test_a_request_that_closes_all_descriptors_has_its_worker_replaced(make_nginx):
    site = make_nginx(
        apps=["plain"],
        server="location /robber { wsgi_app robber; }", http="wsgi_chdir @DIR@/site;",
    )
    text = "import os\ndef application(e, s):\n    s('200 OK', [])\n    os.closerange(3, 1024)\n"
    site.write("site/robber.py", text + "    return [b'']\n")
    site.start()
    assert site.get("/plain").body == b"plain"
    worker = site.worker()
    site.expect_alert(rf"worker process {worker} exited with code 70")
    site.allow_alert(r"an application has closed its descriptors|epoll_wait\(\) failed")
    site.ask("/robber")
    site.wait_respawn(worker)
    assert site.get("/plain").body == b"plain"


FLOOD = """
import resource, sys
line = "x" * 1000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(50_000):
    print(line)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
def application(environ, start_response):
    start_response("200 OK", [])
    return [str(grown).encode()]
"""


def test_an_import_that_prints_without_end_waits_for_the_log(make_nginx):
    site = make_nginx(server="location / { wsgi_app flood; }", http="wsgi_chdir @DIR@/site;")
    site.write("site/flood.py", FLOOD)
    site.start()
    # It has printed 50 MB; in KiB.
    assert int(site.get("/", timeout=60).body) < 30_000


def test_what_python_prints_before_it_has_been_started_holds_up_nobody(make_nginx):
    site = make_nginx(apps=["plain"], http="wsgi_python_path @DIR@/marks;")
    site.write("marks/mark.pth", "import sys; sys.stderr.write(('x' * 1000 + chr(10)) * 3000)\n")
    site.start()
    assert site.get("/plain").body == b"plain"
