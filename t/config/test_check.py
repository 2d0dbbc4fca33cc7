"""wsgi_check: what refuses a reload, why, and what does not."""

import os
import re

import pytest
from lib import procs
from lib.load import Load
from lib.poll import until
from lib.shop import BROKEN, change, master_fds, refuse, undisturbed, warned
from lib.sources import HELLO

ROOT = os.getuid() == 0


def test_a_broken_application_refuses_the_reload_and_the_old_code_goes_on(shop):
    site = shop(workers=2).start()
    assert site.get("/shop").body == b"open"
    # The other worker has read the file, too.
    site.settle()
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
    # Newer Pythons point to the call in a line.
    told = [line for line in told if set(line) - set(" ~^")]
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
    "flood": ("while True: print('x' * 1000)\n", "it takes longer than 2s"),
    "flood of C": ("import os\nwhile True: os.write(1, b'x' * 100_000)\n",
                   "it takes longer than 2s"),
    "sleep": ("import time\ntime.sleep(60)\n", "it takes longer than 2s"),
    "loop": ("while True: pass\n", "it takes longer than 2s"),
    "stopped": ("import os, time\nos.kill(os.getpid(), 19)\ntime.sleep(60)\n",
                "it takes longer than 2s"),
    "deaf": ("import signal, time\nsignal.pthread_sigmask(0, range(1, 65))\ntime.sleep(60)\n",
             "it takes longer than 2s"),
    "children": ("import subprocess, time\n[subprocess.Popen(['sleep', '60']) for _ in range(5)]\n"
                 "time.sleep(60)\n", "it takes longer than 2s"),
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
    # What it does by itself it has the time to do, and else to begin.
    site = shop(http=f"wsgi_check_timeout {'2s' if 'than 2s' in reason else '20s'};").start()
    assert site.get("/shop").body == b"open"
    fds = master_fds(site)
    refuse(site, code, f'wsgi_app "shop:application" in .*: cannot be imported: {reason}')
    undisturbed(site, fds)
    ours = procs.belonging_to(site.sessions, site.dir)
    left = [pid for pid in ours if "sleep 60" in procs.cmdline(pid)]
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
    if "in time" not in text:
        # It ends by itself.
        limit = limit.replace("300ms", "20s")
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
    site = shop(http="wsgi_check_timeout 2s;").start()
    code = ("import threading\ndef connect():\n    threading.Event().wait()\n"
            "print('connecting')\nconnect()\n")
    lines = refuse(site, code, "it takes longer than 2s")
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
