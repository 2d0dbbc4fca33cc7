"""Looking at processes through /proc."""

import os

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
# Valgrind hides the title that nginx gives a process; the nginx of scripts/sanitize also names
# the main thread, in 15 characters.
TITLES = {
    "worker process": "nginx: worker process",
    "shutting down": "nginx: worker process is shutting down",
}


def _read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid):
    """The fields of /proc/PID/stat after the command name, or None when it is gone."""
    text = _read(pid, "stat").decode("latin-1")
    return text.rpartition(")")[2].split() if text else None


def state(pid):
    fields = stat(pid)
    return fields[0] if fields else None


def alive(pid):
    return state(pid) not in (None, "Z", "X")


def session(pid):
    fields = stat(pid)
    return int(fields[3]) if fields else None


def parent(pid):
    fields = stat(pid)
    return int(fields[1]) if fields else None


def children(pid):
    """Living children of a process."""
    found = []
    for other in pids():
        fields = stat(other)
        if fields and int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(other)
    return found


def cmdline(pid):
    return _read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()


def title(pid):
    """What nginx calls the process."""
    return TITLES.get(_read(pid, "comm").decode("latin-1").rstrip("\n")) or cmdline(pid)


def cpu_seconds(pid):
    """User and system time used so far, or None when the process is gone."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else None


def cpu_nanoseconds(pid):
    """Time on a processor of all threads so far, finer than cpu_seconds."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0
    return sum(int((_read(pid, f"task/{t}/schedstat") or b"0").split()[0]) for t in threads)


def main_thread_nanoseconds(pid):
    """Time on a processor of the main thread alone: nginx's event loop."""
    return int((_read(pid, "schedstat") or b"0").split()[0])


def at_rest(pids):
    """How often each thread of these processes has run, if all of them sleep now; else None."""
    turns = {}
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            if state(f"{pid}/task/{thread}") not in (None, "S", "Z", "X"):
                return None
            turns[thread] = (_read(pid, f"task/{thread}/schedstat").split() or [0])[-1]
    return turns


def rss(pid):
    """Resident memory in bytes."""
    fields = _read(pid, "statm").split()
    return int(fields[1]) * PAGE if fields else 0


def fds(pid):
    """What each open descriptor of a process points to."""
    found = {}
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for name in names:
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            pass
    return found


def belonging_to(sessions, directory):
    """Living processes of one of the sessions, or that name or use the directory."""
    found = []
    for pid in pids():
        if pid == os.getpid() or not alive(pid):
            continue
        if session(pid) in sessions or directory in cmdline(pid) or _uses(pid, directory):
            found.append(pid)
    return found


def _uses(pid, directory):
    if pid == os.getppid() or session(pid) == os.getsid(0):
        return False
    try:
        if os.readlink(f"/proc/{pid}/cwd").startswith(directory):
            return True
    except OSError:
        return False
    return any(target.startswith(directory) for target in fds(pid).values())
