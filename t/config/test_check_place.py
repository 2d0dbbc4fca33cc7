"""wsgi_check: the application is tried as a worker would have it, and when."""

import os
import re
import subprocess
import sys

import pytest
from lib.load import Load
from lib.poll import until
from lib.shop import BROKEN, SEEN, SHOP, barrier, change, refuse, refused, seen, warned
from lib.sources import HELLO

ROOT = os.getuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root, which gives the workers another user")


def test_the_check_imports_as_the_worker_does(shop):
    user = "user daemon;" if ROOT else ""
    site = shop(SEEN + HELLO.format("open"), server="location /first { wsgi_app first; }",
                main=f"{user} env FROM_MAIN=1; worker_rlimit_nofile 777; working_directory @DIR@;",
                http="wsgi_env SHOP yes; wsgi_switch_interval 3ms; wsgi_python_path @DIR@/lib;")
    site.values["SERVER"] = "location /first { wsgi_app first; }" + SHOP
    site.write("site/first.py", HELLO.format("first"))
    os.mkdir(f"{site.dir}/lib")
    os.environ["LEFT_OVER"] = "1"
    try:
        site.start()
    finally:
        del os.environ["LEFT_OVER"]
    assert site.get("/shop").body == b"open"
    worker = site.worker()
    by_worker = seen(site, 1)
    assert list(by_worker) == [worker]
    site.reload(gone=True)
    assert site.get("/shop").body == b"open"
    found = seen(site, 3)
    assert len(found) == 3
    (checked,) = found.keys() - {worker, site.worker()}
    assert found[checked] == found[worker] == found[site.worker()]
    assert found[checked]["loaded"] and found[checked]["main"]
    environ = found[checked]["environ"]
    assert environ["SHOP"] == "yes" and environ["FROM_MAIN"] == "1"
    assert "LEFT_OVER" not in environ


def test_the_check_has_no_descriptor_of_nginx(shop):
    site = shop("import os\n" + HELLO.format("open"), server="listen unix:@DIR@/sock;").start()
    lines = refuse(site, "import os\nfor fd in os.listdir('/proc/self/fd'):\n    try: print(fd, "
                   "os.readlink(f'/proc/self/fd/{fd}'))\n    except OSError: pass\n" + BROKEN,
                   "ValueError")
    told = [line.partition("wsgi_check output: ")[2] for line in lines]
    told = {int(fd): name for fd, _, name in (line.partition(" ") for line in told if line)}
    assert told[0] == "/dev/null"
    assert told[1] == told[2] and told[1].startswith("pipe:")
    others = [name for fd, name in told.items() if fd > 2]
    # The answer's pipe, and Python's stdin.
    assert len(others) == 2 and "/dev/null" in others
    assert [n for n in others if n.startswith("pipe:") and n != told[1]] != []


def test_all_applications_are_checked_in_one_process(shop):
    site = shop(server="location /other { wsgi_app other; }")
    site.write("site/other.py", HELLO.format("other"))
    site.start()
    site.settle()
    site.write("site/other.py", "import shop\nshop.opened += 1\nraise ValueError(shop.opened)\n")
    refuse(site, "opened = 41\n" + HELLO.format("x"),
           'wsgi_app "other:application" in .*: ValueError: 42')


def test_a_factory_is_called(shop):
    site = shop()
    site.values["SERVER"] = "location /shop { wsgi_app shop:make(); }"
    site.write("site/shop.py", "def make():\n    from shop_parts import application\n"
               "    return application\n")
    site.write("site/shop_parts.py", HELLO.format("made"))
    site.start()
    assert site.get("/shop").body == b"made"
    site.write("site/shop_parts.py", "")
    refuse(site, "def make():\n    import shop_parts\n    return None\n",
           r'"shop:make\(\)" in .*: TypeError: what it returns is not callable: NoneType')


@needs_root
def test_a_home_that_the_worker_cannot_read_refuses_a_reload(shop):
    site = shop().start()
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    os.makedirs(f"{site.dir}/venv/lib/{python}/site-packages")
    site.write("venv/pyvenv.cfg", "home = /usr/bin\n")
    os.chmod(f"{site.dir}/venv", 0o700)
    site.write_config(http="wsgi_chdir @DIR@/site; wsgi_python_home @DIR@/venv;")
    refuse(site, HELLO.format("x"), f"wsgi_check: .*{site.dir}/venv.*[Pp]ermission")
    assert site.get("/shop").body == b"open"


@needs_root
def test_a_file_that_only_root_can_read_refuses_a_reload(shop):
    site = shop(main="user daemon;").start()
    change(site, HELLO.format("x"))
    os.chmod(f"{site.dir}/site/shop.py", 0o600)
    site.expect_alert(r"\[emerg\]")
    site.signal("HUP")
    site.log.wait_for(r"\[emerg\].*cannot be imported: PermissionError")
    barrier(site)
    assert site.get("/shop").body == b"open"


# -- when a check is made


def test_a_start_is_not_checked(shop):
    site = shop(SEEN + BROKEN).start()
    assert site.get("/shop").status == 500
    assert list(seen(site, 1)) == [site.worker()]


def test_without_wsgi_check_the_worker_alone_imports(shop):
    site = shop(http="wsgi_check off;").start()
    change(site, SEEN + BROKEN)
    site.reload(gone=True)
    assert site.get("/shop").status == 500
    assert list(seen(site, 1)) == [site.worker()]


OFF = "wsgi_check off;"
# Where it stands, and whether the shop is tried.
PLACES = {
    "location": ("", "", OFF, False),
    "server": ("", OFF, "", False),
    "the location overrides the server": ("", OFF, "wsgi_check on;", True),
    "the location overrides http": (OFF, "", "wsgi_check on;", True),
    "the server overrides http": (OFF, "wsgi_check on;", "", True),
}


@pytest.mark.parametrize("where", PLACES)
def test_a_location_has_its_application_tried_or_not(make_nginx, where):
    http, server, location, tried = PLACES[where]
    site = make_nginx(http=f"wsgi_chdir @DIR@/site; {http}", server=f"""{server}
        location /shop {{ {location} wsgi_app shop; }}
        location /other {{ wsgi_check on; wsgi_app other; }}""")
    site.write("site/shop.py", BROKEN)
    site.write("site/other.py", SEEN + HELLO.format("other"))
    site.write_config()
    if tried:
        assert re.search(r'\[warn\].*"shop:application".*burnt down', warned(site))
    else:
        assert "[warn]" not in warned(site)
        assert len(seen(site, 1)) == 1
        site.write("site/other.py", BROKEN)
        assert re.search(r'\[warn\].*"other:application".*burnt down', warned(site))


@pytest.mark.parametrize("first, second", [("on", "off"), ("off", "on"), ("off", "off")])
def test_an_application_of_two_locations_is_tried_unless_both_say_no(make_nginx, first, second):
    site = make_nginx(http="wsgi_chdir @DIR@/site;", server=f"""
        location /one {{ wsgi_app shop; wsgi_check {first}; }}
        location /two {{ wsgi_app shop; wsgi_check {second}; }}""")
    site.write("site/shop.py", BROKEN)
    site.write_config()
    said = warned(site)
    if first == second == "off":
        assert "[warn]" not in said
        return
    with open(site.conf) as file:
        place = [n for n, line in enumerate(file, 1) if "wsgi_check on" in line]
    assert f'"shop:application" in {site.conf}:{place[0]}: cannot be imported' in said


def test_an_application_that_locks_its_data_is_served_through_reloads_without_a_trial(shop):
    lock = ("import fcntl, os\nlock = open(os.path.dirname(__file__) + '/lock', 'w')\n"
            "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n")
    site = shop(lock + HELLO.format("open"))
    site.write("site/lock", "")
    os.chmod(f"{site.dir}/site/lock", 0o666)
    site.start()
    assert site.get("/shop").body == b"open"
    lines = refuse(site, lock + HELLO.format("new"), '"shop:application".*BlockingIOError')
    assert '"wsgi_check off;" in its location skips' in [li for li in lines if "[emerg]" in li][-1]
    site.reload(gone=True, server="location /shop { wsgi_app shop; wsgi_check off; }")
    until(lambda: site.get("/shop").body == b"new", what="the new code, once the lock is free")


def test_a_configuration_without_applications_is_not_checked(shop):
    site = shop().start()
    change(site, BROKEN)
    site.reload(gone=True, server="")
    assert site.get("/static").body == b"static"


def test_the_test_of_a_configuration_warns_where_no_nginx_runs(shop):
    site = shop(BROKEN)
    site.write_config()
    said = warned(site)
    assert re.search(r'\[warn\].*wsgi_app "shop:application" in \S+:\d+: cannot be imported: '
                     "ValueError: burnt down", said)
    assert re.search(r'\[warn\].*File ".*/shop.py", line 2, in inner', said)
    change(site, HELLO)
    assert "[warn]" not in warned(site)


def test_the_test_of_a_configuration_fails_where_an_nginx_runs(shop):
    site = shop().start()
    assert site.get("/shop").body == b"open"
    change(site, BROKEN)
    said = refused(site)
    assert re.search(r'\[emerg\].*wsgi_app "shop:application" in \S+:\d+: cannot be imported: '
                     "ValueError: burnt down", said)
    assert site.get("/shop").body == b"open"
    assert site.read_pid() == site.pid
    change(site, HELLO)
    assert "[emerg]" not in warned(site)
    change(site, BROKEN)
    site.quit()
    assert "burnt down" in warned(site)


@pytest.mark.parametrize("whose", ["gone", "foreign", "worker", "nobody", "garbage", "negative"])
def test_a_pid_file_that_names_no_master_counts_as_none(shop, nginx, whose):
    site = shop(BROKEN)
    site.write_config()
    gone = subprocess.Popen(["true"])
    gone.wait()
    foreign = subprocess.Popen(["sleep", "600"])
    try:
        pid = {"gone": gone.pid, "foreign": foreign.pid, "nobody": "", "garbage": "x1",
               "negative": -foreign.pid}.get(whose)
        if whose == "worker":
            pid = nginx(apps=["plain"]).worker()
        site.write("nginx.pid", f"{pid}\n")
        assert "burnt down" in warned(site)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_the_test_of_a_configuration_works_where_children_are_ignored(shop):
    site = shop(BROKEN)
    command = site.command
    site.command = lambda *args: ["sh", "-c", "trap '' CHLD; exec \"$@\"", "sh", *command(*args)]
    site.write_config()
    assert "ValueError: burnt down" in warned(site)
    change(site, "import os\nos._exit(3)\n")
    assert "it ended the process" in warned(site)
    change(site, HELLO)
    assert "[warn]" not in warned(site)


def test_the_test_of_a_configuration_works_for_a_single_process(shop):
    site = shop(BROKEN, master=False)
    site.write_config()
    assert "burnt down" in warned(site)
    change(site, HELLO.format("open"))
    site.start()
    assert site.get("/shop").body == b"open"
    warned(site)
    change(site, BROKEN)
    assert "burnt down" in refused(site)


def test_a_signal_is_sent_without_a_check(shop):
    site = shop().start()
    assert site.get("/shop").body == b"open"
    change(site, SEEN + BROKEN)
    mark = site.log.mark()
    done = subprocess.run(site.command("-s", "reopen", "-e", "stderr"), capture_output=True,
                          timeout=30)
    assert done.returncode == 0, done.stderr
    site.log.wait_for("reopening logs", start=mark)
    assert not [name for name in os.listdir(f"{site.dir}/site") if name.startswith("seen.")]
    assert b"emerg" not in done.stderr and b"warn" not in done.stderr


def test_an_upgrade_with_a_broken_application_leaves_the_old_master_alone(shop):
    site = shop(daemon=True).start()
    assert site.get("/shop").body == b"open"
    change(site, BROKEN)
    site.expect_alert(r"\[emerg\].*burnt down")
    site.allow_alert(r"\[emerg\]|exited with code 1")
    worker = site.worker()
    with Load(site.port, "/shop", clients=2) as load:
        site.signal("USR2")
        site.log.wait_for("exited with code 1")
        until(lambda: site.read_pid() == site.pid, what="the pid file of the old master")
        answered = len(load.answers)
        until(lambda: len(load.answers) > answered + 20, what="answers afterwards")
    assert load.failures() == []
    assert site.worker() == worker
    change(site, HELLO.format("new"))
    site.reload(gone=True)
    assert site.get("/shop").body == b"new"
