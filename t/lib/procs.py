"""Looking at processes through /proc."""

import contextlib
import os

from common.proc import (  # noqa: F401 the tests' too
    alive,
    children,
    cmdline,
    fds,
    parent,
    pids,
    read,
    rss,
    stat,
    state,
)

TICKS = os.sysconf("SC_CLK_TCK")
# Valgrind hides the title that nginx gives a process; the nginx of scripts/sanitize also names
# the main thread, in 15 characters.
TITLES = {
    "worker process": "nginx: worker process",
    "shutting down": "nginx: worker process is shutting down",
}


def links(targets):
    """How many of what descriptors point to take whole messages: links to other workers."""
    try:
        with open("/proc/net/unix", encoding="latin-1") as table:
            rows = [line.split() for line in list(table)[1:]]
    except OSError:
        return 0
    # proc_net_unix(5): Type 5 is SOCK_SEQPACKET, behind State comes Inode.
    inodes = {f"socket:[{row[6]}]" for row in rows if row[4] == "0005"}
    return sum(target in inodes for target in targets)


def session(pid):
    fields = stat(pid)
    return int(fields[3]) if fields else None


def title(pid):
    """What nginx calls the process."""
    return TITLES.get(read(pid, "comm").decode("latin-1").rstrip("\n")) or cmdline(pid)


def thread_names(pid):
    """What the threads of a process are called."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return sorted(read(pid, f"task/{t}/comm").decode("latin-1").rstrip("\n") for t in threads)


def cpu_seconds(pid):
    """User and system time used so far, or None when the process is gone."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else None


def _turns(pid):
    """For how many nanoseconds each thread of a process has had a processor, and waited for one."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    turns = [(read(pid, f"task/{t}/schedstat") or b"0 0").split() for t in threads]
    return [(int(turn[0]), int(turn[1])) for turn in turns]


def cpu_nanoseconds(pid):
    """Time on a processor of all threads so far, finer than cpu_seconds."""
    return sum(used for used, _ in _turns(pid))


def waited_nanoseconds(pid):
    """Time that all threads so far had something to do and no processor."""
    return sum(waited for _, waited in _turns(pid))


def main_thread_nanoseconds(pid):
    """Time on a processor of the main thread alone: nginx's event loop."""
    return int((read(pid, "schedstat") or b"0").split()[0])


def put_first(pid):
    """Has the threads of a process come before what else runs on the machine, if we are root.

    Where the kernel divides its processors among sessions (autogroup, see sched(7)), the priority
    of a thread counts in its own session alone, and the session has another.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as session:
        session.write("-20")
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), -20)


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
            turns[thread] = (read(pid, f"task/{thread}/schedstat").split() or [0])[-1]
    return turns


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
