"""wsgi_check: a reload, and nginx -t, try the applications before they are taken."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from lib import procs
from lib.load import Load
from lib.poll import elapse, until

ROOT = os.getuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root, which gives the workers another user")
MODULE = "/ngx_http_wsgi_module.so"
HELLO = "def application(e, s):\n    s('200 OK', [])\n    return [b'{}']\n"
BROKEN = "def inner():\n    raise ValueError('burnt down')\ninner()\n"
OPEN = HELLO.format("open")
SHOP = "location /shop { wsgi_app shop; }"
# One line for each process that imports the shop.
SEEN = """
import json, os, resource, sys, threading
with open(os.path.dirname(__file__) + f"/seen.{os.getpid()}", "w") as file:
    json.dump({
        "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
        "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "argv": sys.argv,
        "executable": sys.executable, "prefix": sys.prefix, "flags": str(sys.flags),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE), "umask": os.umask(0o22),
        "own": os.stat("/proc/self/fd").st_uid, "interval": sys.getswitchinterval(),
        "main": threading.current_thread() is threading.main_thread(),
        "stack": threading.stack_size(), "loaded": "first" in sys.modules,
    }, file)
"""


@pytest.fixture
def shop(make_nginx):
    """A site with the application /shop, whose code is given; not started."""

    def make(code=OPEN, http="", server="", **options):
        site = make_nginx(http=f"wsgi_chdir @DIR@/site; {http}", server=SHOP + server, **options)
        site.write("site/shop.py", code)
        return site

    return make


def change(site, code):
    """New code for the shop, and no compiled one that could be of the same second.

    What runs already has imported the old one by then.
    """
    site.settle()
    site.write("site/shop.py", code)
    folder = f"{site.dir}/site/__pycache__"
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        os.unlink(f"{folder}/{name}")


def refuse(site, code, pattern):
    """Reload with this code: it is refused for this reason; the lines of the log."""
    site.expect_alert(r"\[emerg\]")
    change(site, code)
    mark, workers = site.log.mark(), site.workers()
    site.signal("HUP")
    site.log.wait_for(rf"\[emerg\].*{pattern}", start=mark, timeout=20)
    # The master answers signals again: all it does in the reload is done.
    barrier(site)
    assert site.workers(shutting_down=True) == workers
    return site.log.lines(mark)


def barrier(site):
    """Wait until the master has acted on a signal sent now."""
    mark = site.log.mark()
    site.signal("USR1")
    site.log.wait_for("reopening logs", start=mark, timeout=20)


def undisturbed(site, fds):
    """No zombie, no descriptor, no wrong line is left of a check."""
    stats = {pid: procs.stat(pid) for pid in procs.pids()}
    zombies = [pid for pid, s in stats.items() if s and int(s[1]) == site.pid and s[0] == "Z"]
    assert zombies == []
    assert sorted(procs.fds(site.pid).values()) == fds
    assert site.log.matching("unknown process|waitpid") == []


def master_fds(site):
    return sorted(procs.fds(site.pid).values())


def test_a_broken_application_refuses_the_reload_and_the_old_code_goes_on(shop):
    site = shop(workers=2).start()
    assert site.get("/shop").body == b"open"
    fds = master_fds(site)
    with Load(site.port, "/shop", clients=2) as load:
        for _ in range(3):
            refuse(site, BROKEN, "ValueError: burnt down")
            answered = len(load.answers)
            until(lambda n=answered: len(load.answers) > n + 20, what="answers after the refusal")
        undisturbed(site, fds)
        change(site, HELLO.format("rebuilt"))
        site.reload(gone=True)
        answered = len(load.answers)
        until(lambda n=answered: len(load.answers) > n + 20, what="answers after the reload")
    assert load.failures() == []
    assert site.get("/shop").body == b"rebuilt"


def test_the_reason_is_told_with_place_and_traceback(shop):
    site = shop().start()
    lines = refuse(site, BROKEN, "ValueError")
    with open(site.conf) as file:
        place = [n for n, line in enumerate(file, 1) if "wsgi_app" in line][0]
    told = [line.partition("[emerg] ")[2].partition(": ")[2] for line in lines if "[emerg]" in line]
    assert told == [
        f'wsgi_app "shop:application" in {site.conf}:{place}: cannot be imported: '
        "ValueError: burnt down",
        "Traceback (most recent call last):",
        f'  File "{site.dir}/site/shop.py", line 3, in <module>',
        "    inner()",
        f'  File "{site.dir}/site/shop.py", line 2, in inner',
        "    raise ValueError('burnt down')",
        "ValueError: burnt down",
        '"wsgi_check off;" in its location skips the trial of this application',
    ]


REASONS = {
    "syntax": ("def application(:\n", "SyntaxError: invalid syntax"),
    "module": ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
    "exit": ("import sys\nsys.exit(2)\n", "SystemExit: 2"),
    "interrupt": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "no application": ("app = 1\n", "AttributeError: module 'shop' has no attribute"),
    "not callable": ("application = 5\n", "TypeError: it is not callable: int"),
    "control characters": ("raise ValueError('a\\x1b[31m\\x1b[2J\\nb')\n",
                           r"ValueError: a\\x1b\[2J$"),
    "surrogates": ("raise ValueError('\\udc80')\n", "ValueError: "),
    "recursion": ("def f(): f()\nf()\n", "RecursionError: maximum recursion depth"),
    "_exit": ("import os\nos._exit(0)\n", "it ended the process with code 0"),
    "_exit 2": ("import os\nos._exit(2)\n", "it ended the process with code 70"),
    "abort": ("import os\nos.abort()\n", "it ended the process by signal 6"),
    "crash": ("import ctypes\nctypes.string_at(0)\n", "it ended the process by signal 11"),
    "kill": ("import os\nos.kill(os.getpid(), 9)\n", "it ended the process by signal 9"),
    "terminate": ("import os\nos.kill(os.getpid(), 15)\n", "it ended the process by signal 15"),
    "closed": ("import os, time\nos.closerange(0, 1000)\ntime.sleep(60)\n",
               "it closed descriptors"),
    "taken": ("import os\nos.closerange(0, 1000)\n"
              "files = [open(f'{os.path.dirname(__file__)}/f{n}', 'w') for n in range(20)]\n"
              "print('x' * 100)\n" + HELLO,
              "it (closed descriptors|ended the process with code 0)"),
    "left by a parent": ("import os, time\nif os.fork(): os._exit(0)\ntime.sleep(60)\n",
                         "it ended the process with code 0"),
    "flood": ("while True: print('x' * 1000)\n", "it takes longer than 1s"),
    "flood of C": ("import os\nwhile True: os.write(1, b'x' * 100_000)\n",
                   "it takes longer than 1s"),
    "sleep": ("import time\ntime.sleep(60)\n", "it takes longer than 1s"),
    "loop": ("while True: pass\n", "it takes longer than 1s"),
    "stopped": ("import os, time\nos.kill(os.getpid(), 19)\ntime.sleep(60)\n",
                "it takes longer than 1s"),
    "deaf": ("import signal, time\nsignal.pthread_sigmask(0, range(1, 65))\ntime.sleep(60)\n",
             "it takes longer than 1s"),
    "children": ("import subprocess, time\n[subprocess.Popen(['sleep', '60']) for _ in range(5)]\n"
                 "time.sleep(60)\n", "it takes longer than 1s"),
    "its parent": ("import os\nos.kill(os.getppid(), 9)\n", "PermissionError" if ROOT else None),
}


# Writes into every pipe that the trial has, as any imported code may.
FORGE = """
import os, stat
for fd in map(int, os.listdir('/proc/self/fd')):
    try:
        if fd > 2 and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.write(fd, FORGED)
    except OSError:
        pass
os._exit(3)
"""
FORGED = {
    "escapes": (b"!\x1b]0;owned\x07\xc2\x9b31m\n-\x1b[2J\n", r"\\x1b\]0;owned\\x07\\x9b31m$"),
    "index": (b"+99999999999999999999\n!\x1b[1Kx\n", r"wsgi_check: \\x1b\[1Kx$"),
    "conflict": (b"~\x1b[1Kx\n", r"\\x1b\[1Kx, in "),
    "flood": (b"!x\n" + b"-\x1b\n" * 15_000, "cannot be imported: x$"),
    "long": (b"!" + b"\x1b" * 60_000 + b"\n", r"cannot be imported: (\\x1b){256}$"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_an_import_writes_into_the_answer_is_escaped_and_bounded(shop, what):
    text, reason = FORGED[what]
    forged = f"FORGED = {text!r}\n{FORGE}"
    site = shop(forged)
    site.write_config()
    _, said = site.test_config(write=False)
    assert re.search(rf"(?m)\[(warn|emerg)\].*{reason}", said)
    assert not re.search(r"[^\n\t -~]", said)
    assert said.count("\n") < 1100 and len(said) < 200_000
    site.write("site/shop.py", HELLO)
    site.start()
    lines = refuse(site, forged, reason)
    assert not any(re.search(r"[^\t -~]", line) for line in lines)
    assert len(lines) < 1100


def test_a_forged_end_of_the_answer_is_the_end_of_the_trial(shop):
    """What cannot be prevented: an import that wants to pass does."""
    site = shop(f"FORGED = {b'=' + bytes([10])!r}\n{FORGE}")
    site.write_config()
    assert "cannot be imported" not in warned(site)


@pytest.mark.parametrize("what", [what for what in REASONS if REASONS[what][1]])
def test_whatever_an_application_does_is_a_clear_refusal(shop, what):
    code, reason = REASONS[what]
    site = shop(http="wsgi_check_timeout 1s;").start()
    assert site.get("/shop").body == b"open"
    fds = master_fds(site)
    before = set(procs.pids())
    refuse(site, code, f'wsgi_app "shop:application" in .*: cannot be imported: {reason}')
    undisturbed(site, fds)
    left = [pid for pid in procs.pids() if pid not in before and "sleep 60" in procs.cmdline(pid)]
    until(lambda: not any(map(procs.alive, left)), what=f"the end of {left}")
    assert site.get("/shop").body == b"open"
    if what == "taken":
        for number in range(20):
            assert os.path.getsize(f"{site.dir}/site/f{number}") == 0


HARMLESS = {
    "atexit": "import atexit, time\natexit.register(time.sleep, 60)\n",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=[3]).start()\n",
    "daemon": "import threading, time\n"
              "threading.Thread(target=time.sleep, args=[60], daemon=True).start()\n",
    "output": "import os\nfor n in range(2000): print('x' * 1000)\nos.write(2, b'y' * 1000000)\n",
    "child": "import subprocess\nsubprocess.run(['sh', '-c', 'exit 3']).returncode == 3 or 1 / 0\n",
    "forked": "import os\npid = os.fork()\nif pid:\n"
              "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 70\n",
    "output closed": "import os\nos.close(1), os.close(2)\nprint('x')\n",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_a_worker_survives_does_not_refuse_a_reload(shop, what):
    site = shop(http="wsgi_check_timeout 10s; wsgi_shutdown_timeout 10s;").start()
    if what == "atexit":
        site.write_config(http="wsgi_chdir @DIR@/site; wsgi_shutdown_timeout 100ms;")
        site.allow_alert("python did not stop")
    count = len(procs.fds(site.pid))
    change(site, HARMLESS[what] + HELLO.format("new"))
    site.reload(gone=True)
    assert site.get("/shop").body == b"new"
    # The channel to the old worker is closed when its end has been noticed.
    until(lambda: len(procs.fds(site.pid)) == count, what="no more descriptors than before")
    assert site.log.matching("unknown process|waitpid") == []


# Each makes a file or a directory below site/left that is gone when its interpreter has ended.
LEFT = """
import atexit, os, tempfile, threading, weakref
left = os.path.dirname(__file__) + "/left"
directory = tempfile.TemporaryDirectory(dir=left)
file = tempfile.NamedTemporaryFile(dir=left)
open(left + "/atexit", "w").close()
atexit.register(os.unlink, left + "/atexit")
open(left + "/thread", "w").close()
def work():
    threading.main_thread().join()
    os.unlink(left + "/thread")
threading.Thread(target=work, daemon=False).start()
class Held:
    def __del__(self, unlink=os.unlink):
        unlink(left_by_held)
left_by_held = left + "/del"
open(left_by_held, "w").close()
held = Held()
open(os.path.dirname(__file__) + "/made", "w").write(str(len(os.listdir(left))))
"""


@pytest.mark.parametrize("code", [HELLO, BROKEN, "raise SystemExit"], ids=["good", "bad", "exit"])
def test_what_an_import_makes_for_a_while_does_not_outlive_the_check(shop, code):
    site = shop(LEFT + code)
    for path in ("site", "site/left"):
        os.makedirs(f"{site.dir}/{path}", exist_ok=True)
        os.chmod(f"{site.dir}/{path}", 0o777)
    site.write_config()
    said = warned(site)
    assert ("cannot be imported" in said) == (code != HELLO)
    assert "the process of the trial" not in said
    with open(f"{site.dir}/site/made") as file:
        assert file.read() == "5"
    assert os.listdir(f"{site.dir}/site/left") == []


ENDLESS = {
    "atexit": ("import atexit, time\natexit.register(time.sleep, 61)\n", "did not end in time"),
    "thread": ("import threading, time\n"
               "threading.Thread(target=time.sleep, args=[61], daemon=False).start()\n",
               "did not end in time"),
    "flood": ("import atexit, os\n@atexit.register\ndef flood():\n    while True:\n"
              "        os.write(1, b'x' * 10000)\n", "did not end in time"),
    "abort": ("import atexit, os\natexit.register(os.abort)\n", "ended by signal 6"),
    "_exit": ("import atexit, os\natexit.register(os._exit, 3)\n", "ended with code 3"),
}


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("limit", ["wsgi_shutdown_timeout 300ms;", "wsgi_check_timeout 4s;"])
def test_a_clean_up_that_hangs_or_crashes_refuses_nothing_and_is_warned_of(shop, what, limit):
    code, text = ENDLESS[what]
    site = shop(code + HELLO, http=limit)
    site.write_config()
    status, said = site.test_config(write=False)
    assert status == 0 and "[emerg]" not in said
    (line,) = [line for line in said.split("\n") if "[warn]" in line]
    assert f"wsgi_check: the process of the trial {text}" in line
    assert [pid for pid in procs.pids() if site.dir in procs.cmdline(pid)] == []


def test_a_child_that_outlives_the_import_does_not_outlive_the_check(shop):
    site = shop().start()
    code = f"import subprocess\nsubprocess.Popen(['sleep', '61.{site.port}'])\n"
    refuse(site, code + BROKEN, "ValueError")
    until(lambda: not [p for p in procs.pids() if f"61.{site.port}" in procs.cmdline(p)], 10,
          "the end of the application's child")


def test_a_check_that_takes_too_long_says_where_it_hangs(shop):
    site = shop(http="wsgi_check_timeout 300ms;").start()
    code = ("import threading\ndef connect():\n    threading.Event().wait()\n"
            "print('connecting')\nconnect()\n")
    lines = refuse(site, code, "it takes longer than 300ms")
    told = [line.partition("wsgi_check output: ")[2] for line in lines]
    assert "connecting" in told
    assert any(re.search(rf'File "{site.dir}/site/shop.py", line 3 in connect', t) for t in told)


def test_what_an_application_prints_is_told_only_of_a_failure(shop):
    site = shop(http="wsgi_check_timeout 10s;").start()
    talk = ("import os, sys\nprint('one')\nsys.stderr.write('two\\x1b\\n')\n"
            "os.system('echo three')\n")
    lines = refuse(site, talk + BROKEN, "ValueError")
    told = [line.partition("wsgi_check output: ")[2] for line in lines]
    assert [text for text in told if text] == ["one", "two\\x1b", "three"]
    mark = site.log.mark()
    change(site, talk + HELLO)
    site.reload(gone=True)
    site.log.wait_for(": two", start=mark)
    assert site.log.matching("wsgi_check output", mark) == []


def test_the_last_of_a_long_output_is_told(shop):
    site = shop().start()
    code = "for n in range(100_000): print(n)\n" + BROKEN
    lines = refuse(site, code, "ValueError")
    told = [line.partition("wsgi_check output: ")[2] for line in lines]
    assert "99999" in told
    assert len(told) < 10_000


def seen(site, wanted):
    """What the processes that imported the shop have written, by pid."""
    names = until(
        lambda: [found] and found if len(found := [
            name for name in os.listdir(f"{site.dir}/site") if name.startswith("seen.")
            and os.path.getsize(f"{site.dir}/site/{name}")]) >= wanted else None,
        what="the imports")
    found = {}
    for name in names:
        with open(f"{site.dir}/site/{name}") as file:
            found[int(name.partition(".")[2])] = json.load(file)
    return found


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


def warned(site):
    status, said = site.test_config(write=False)
    assert status == 0, said
    assert "test is successful" in said
    assert "[emerg]" not in said
    return said


def refused(site):
    status, said = site.test_config(write=False)
    assert status == 1, said
    assert "test failed" in said
    assert "[warn]" not in said
    return said


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


# -- what the master goes on with


def gated(site, body):
    """Code that waits for the gate, which it tells in the events."""
    return f"from record import record\nimport gate\nrecord('waiting')\ngate.wait('import')\n{body}"


@pytest.mark.parametrize("taken", [False, True])
def test_a_worker_that_dies_during_a_check_is_noticed(shop, taken):
    site = shop(workers=2).start()
    assert site.get("/shop").body == b"open"
    gate = site.gate("import")
    change(site, gated(site, HELLO.format("new") if taken else BROKEN))
    site.expect_alert(r"worker process \d+ exited on signal 9")
    if not taken:
        site.expect_alert(r"\[emerg\]")
    old = site.workers()
    site.signal("HUP")
    site.wait_event("waiting")
    os.kill(old[0], signal.SIGKILL)
    until(lambda: procs.state(old[0]) in ("Z", None), what="the worker's death")
    assert site.get("/shop").body == b"open"
    if not taken:
        # What the new worker, in place of the dead one, is to load.
        change(site, HELLO.format("open"))
    gate.open()
    site.log.wait_for(rf"worker process {old[0]} exited on signal 9")
    until(lambda: len(site.workers()) == 2 and old[0] not in site.workers(), what="two workers")
    if taken:
        until(lambda: set(site.workers()).isdisjoint(old), what="new workers")
    else:
        assert old[1] in site.workers()
    until(lambda: site.get("/shop").body == (b"new" if taken else b"open"), what="the answer")
    assert site.log.matching("unknown process") == []


@pytest.mark.parametrize("early", [True, False])
def test_a_worker_is_not_replaced_while_the_master_is_busy_with_a_check(shop, early):
    """Nobody would start another."""
    quick = "location /quick { wsgi_app overdue:quick; }"
    site = shop(http="wsgi_max_requests 20;", server=quick).start()
    (old,) = site.workers()
    assert site.get("/shop").body == b"open"
    gate = site.gate("import")
    change(site, gated(site, BROKEN))
    site.expect_alert(r"\[emerg\]")

    def spend():
        for _ in range(19):
            assert site.get("/quick").text == str(old)

    if early:
        spend()
    site.signal("HUP")
    site.wait_event("waiting")
    if not early:
        spend()
    site.log.wait_for("replaced: 20 requests served")
    # Longer than the farewell.
    elapse(2.5)
    assert site.get("/quick", timeout=3).text == str(old)
    assert site.log.matching("gracefully") == []
    change(site, HELLO.format("new"))
    gate.open()
    site.log.wait_for("burnt down", timeout=20)
    new = site.wait_respawn(old)
    until(lambda: site.get("/quick").text == str(new), what="an answer of the new worker")


def test_signals_that_come_during_a_check_are_acted_on_afterwards(shop):
    site = shop().start()
    assert site.get("/shop").body == b"open"
    gate = site.gate("import")
    change(site, gated(site, HELLO.format("new")))
    site.signal("HUP")
    site.wait_event("waiting")
    mark = site.log.mark()
    site.signal("USR1")
    site.signal("QUIT")
    assert site.get("/shop").body == b"open"
    assert procs.alive(site.pid)
    gate.open()
    until(lambda: (site.process.poll(), not procs.alive(site.pid))[1], 15, "nginx's end")
    assert site.process.returncode == 0
    assert site.log.matching("SIGQUIT", mark)


def test_a_master_that_is_killed_takes_the_check_with_it(shop):
    site = shop().start()
    assert site.get("/shop").body == b"open"
    site.gate("import")
    change(site, SEEN + gated(site, ""))
    site.signal("HUP")
    site.wait_event("waiting")
    (child,) = seen(site, 1)
    (worker,) = site.workers()
    assert procs.alive(child)
    os.kill(site.pid, signal.SIGKILL)
    site.process.wait(10)
    until(lambda: not procs.alive(child), what="the end of the check")
    os.kill(worker, signal.SIGTERM)
    until(lambda: not procs.alive(worker), what="the end of the worker")


def test_nothing_that_processes_share_is_taken_down_by_a_check(shop):
    http = "limit_req_zone $uri zone=z:1m rate=1r/m;"
    server = "listen unix:@DIR@/sock; location = /once { limit_req zone=z; }"
    site = shop(http=http, server=server).start()
    site.write("html/once", "once")
    assert site.get("/once").body == b"once"
    refuse(site, "import os\nos._exit(0)", "ended")
    refuse(site, BROKEN, "burnt down")
    change(site, HELLO.format("new"))
    site.reload(gone=True)
    assert site.get("/shop").body == b"new"
    assert site.get("/once").status == 503
    assert os.path.exists(f"{site.dir}/sock") and site.read_pid() == site.pid
    assert site.log.matching("was locked by|deleting socket") == []


def test_the_master_neither_runs_python_nor_keeps_the_module(shop):
    site = shop().start()
    for number in range(3):
        refuse(site, BROKEN, "burnt down")
        change(site, HELLO.format(number))
        site.reload(gone=True)
    with open(f"/proc/{site.pid}/maps") as file:
        assert MODULE in file.read()
    assert len(os.listdir(f"/proc/{site.pid}/task")) == 1
    site.wsgi = False
    site.reload(gone=True, server="", http="")
    with open(f"/proc/{site.pid}/maps") as file:
        assert MODULE not in file.read()


def test_reloads_leave_no_descriptor_in_the_master(shop):
    site = shop().start()
    site.reload(gone=True)
    count = len(procs.fds(site.pid))
    for _ in range(10):
        site.reload(gone=True)
        refuse(site, BROKEN, "burnt down")
        change(site, HELLO.format("open"))
    assert len(procs.fds(site.pid)) == count


def test_reloads_that_come_during_a_check_lead_to_one_more(shop):
    site = shop().start()
    gate = site.gate("import")
    change(site, gated(site, HELLO.format("new")))
    site.signal("HUP")
    site.wait_event("waiting")
    for _ in range(5):
        site.signal("HUP")
    gate.open()
    until(lambda: site.get("/shop").body == b"new", 15, "the new code")
    elapse(0.3)
    barrier(site)
    assert len(site.log.matching("\\[notice\\].*: reconfiguring")) == 2
