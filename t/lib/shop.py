"""An application that a reload tries: new code for it, and what nginx says of it."""

import json
import os

from . import procs
from .poll import until

BROKEN = "def inner():\n    raise ValueError('burnt down')\ninner()\n"
SHOP = "location /shop { wsgi_app shop; }"
# One line for each process that imports the shop.
SEEN = """
import json, os, resource, sys, threading
folder = os.path.dirname(__file__)
with open(f"{folder}/unseen.{os.getpid()}", "w") as file:
    json.dump({
        "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
        "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "argv": sys.argv,
        "executable": sys.executable, "prefix": sys.prefix, "flags": str(sys.flags),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE), "umask": os.umask(0o22),
        "own": os.stat("/proc/self/fd").st_uid, "interval": sys.getswitchinterval(),
        "main": threading.current_thread() is threading.main_thread(),
        "stack": threading.stack_size(), "loaded": "first" in sys.modules,
    }, file)
# Under its name it is whole.
os.rename(file.name, f"{folder}/seen.{os.getpid()}")
"""


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
    # A log that is being opened again is there twice.
    until(lambda: master_fds(site) == fds, what="the descriptors of the master as before")
    assert site.log.matching("unknown process|waitpid") == []


def master_fds(site):
    return sorted(procs.fds(site.pid).values())


def seen(site, wanted):
    """What the processes that imported the shop have written, by pid."""
    names = until(
        lambda: [found] and found if len(found := [
            name for name in os.listdir(f"{site.dir}/site") if name.startswith("seen.")
        ]) >= wanted else None,
        what="the imports")
    found = {}
    for name in names:
        with open(f"{site.dir}/site/{name}") as file:
            found[int(name.partition(".")[2])] = said = json.load(file)
        # nginx's own, of HTTP/3: it is made after the trial of a configuration.
        said["environ"].pop("NGINX_BPF_MAPS", None)
    return found


def tested(site, status, said, unsaid):
    """What nginx -t says of the configuration as it is."""
    found, text = site.test_config(write=False)
    assert found == status, text
    assert said in text
    assert unsaid not in text
    return text


def warned(site):
    return tested(site, 0, "test is successful", "[emerg]")


def refused(site):
    return tested(site, 1, "test failed", "[warn]")


def gated(site, body):
    """Code that waits for the gate, which it tells in the events."""
    return f"from record import record\nimport gate\nrecord('waiting')\ngate.wait('import')\n{body}"
