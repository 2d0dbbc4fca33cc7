"""Roots of Debian with Python and nothing else, for what a target of the wheel is."""

import os
import shutil
import subprocess

from .steps import WORK, Failed, run, say

# The Python of each release.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13", "sid": "3.14"}
# In a mount namespace of its own, which takes its mounts along when it ends.
ENTER = 'mount -t proc proc "$1/proc" && shift && exec "$@"'
# And with nothing to write to but /tmp.
ENTER_READ_ONLY = (
    'mount -t proc proc "$1/proc" && mount -t tmpfs -o mode=1777 tmpfs "$1/tmp" &&'
    ' mount --rbind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"')


def make(suite):
    """A fresh one: unpacked from what debootstrap has made, once."""
    if os.geteuid():
        raise Failed("only root can make a root")
    packed, root = WORK / f"root-{suite}.tar", WORK / f"root-{suite}"
    remove(root)
    if not packed.is_file():
        say(f"making a root of Debian {suite} (a minute or two)")
        packages = ["python3", "python3-venv", f"libpython{PYTHONS[suite]}"]
        run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, root,
            log=WORK / f"debootstrap-{suite}.log")
        run("tar", "-C", root, "-cf", f"{packed}.new", ".")
        os.rename(f"{packed}.new", packed)
        remove(root)
    root.mkdir()
    run("tar", "-C", root, "-xf", packed)
    for program in ("usr/bin/cc", "usr/bin/gcc", "usr/sbin/nginx"):
        if (root / program).exists():
            raise Failed(f"the root of {suite} has /{program}")
    return root


def remove(root):
    if (root / "proc/self").exists():
        raise Failed(f"something is still mounted in {root}")
    shutil.rmtree(root, ignore_errors=True)


def command(root, *arguments, read_only=False, first=False, user=None):
    """A command line that runs in the root. first: as process 1."""
    enter = ENTER_READ_ONLY if read_only else ENTER
    pid = ["--pid", "--fork", "--kill-child"] if first else []
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    return ["unshare", "--mount", *pid, "sh", "-c", enter, "sh", str(root),
            "chroot", str(root), *become, *map(str, arguments)]


def start(root, *arguments, log, env=None, **options):
    """Starts it there, with an environment of its own."""
    with open(log, "wb") as file:
        return subprocess.Popen(command(root, *arguments, **options), stdin=subprocess.DEVNULL,
                                stdout=file, stderr=file, env={"PATH": PATH, **(env or {})})


def within(root, *arguments, **options):
    """Runs it there to its end, and returns what it prints."""
    done = subprocess.run(command(root, *arguments), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, env={"PATH": PATH, "HOME": "/root"},
                          **options)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, arguments[:4]))}: {done.stderr[-2000:]}")
    return done.stdout


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
