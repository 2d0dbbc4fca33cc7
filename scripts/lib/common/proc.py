"""Looking at processes through /proc. A process that is gone has nothing to be seen, no error."""

import os
import re
import time

PAGE = os.sysconf("SC_PAGE_SIZE")


def read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid):
    """The fields of /proc/PID/stat after the command name, or None when it is gone."""
    text = read(pid, "stat").decode("latin-1")
    return text.rpartition(")")[2].split() if text else None


def state(pid):
    fields = stat(pid)
    return fields[0] if fields else None


def alive(pid):
    return state(pid) not in (None, "Z", "X")


def parent(pid):
    fields = stat(pid)
    return int(fields[1]) if fields else None


def started(pid):
    """When it was started, in ticks: tells a process from a later one of the same number."""
    fields = stat(pid)
    return int(fields[19]) if fields else None


def children(pid):
    """Living children of a process."""
    found = []
    for other in pids():
        fields = stat(other)
        if fields and int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(other)
    return found


def descendants(roots):
    """The processes and all their children's children, as {pid: when it was started}."""
    known = {pid: fields for pid in pids() if (fields := stat(pid))}
    family = {pid: int(known[pid][19]) for pid in roots if pid in known}
    grown = True
    while grown:
        added = {pid: int(fields[19]) for pid, fields in known.items()
                 if int(fields[1]) in family and pid not in family}
        family |= added
        grown = bool(added)
    return family


def cmdline(pid):
    return read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()


def cpu_clock(pid):
    """Nanoseconds of CPU, user and system, of all threads of a process, ended ones included.

    The process's CPU clock, as clock_getcpuclockid() names it: the sum of the first fields of
    /proc/PID/task/*/schedstat, and what threads that are gone have left. OSError when it is gone.
    """
    return int(time.clock_gettime_ns((~pid << 3) | 2))


def rss(pid):
    """Resident memory in bytes."""
    fields = read(pid, "statm").split()
    return int(fields[1]) * PAGE if fields else 0


def rollup(pid):
    """Exact sizes in bytes, which take the kernel longer: Rss, Pss (proportional) and others."""
    found = re.findall(r"^(\w+): +(\d+) kB", read(pid, "smaps_rollup").decode("latin-1"), re.M)
    return {name: int(size) * 1024 for name, size in found}


def unix_sockets(pid):
    """How many of its descriptors are unix sockets."""
    lines = read(pid, "net/unix").decode("latin-1").splitlines()[1:]
    known = {f"socket:[{line.split()[6]}]" for line in lines}
    return sum(target in known for target in fds(pid).values())


def threads(pid):
    """How many there are."""
    fields = stat(pid)
    return int(fields[17]) if fields else 0


def voluntary_switches(pid):
    """How often its threads have given up the processor of their own accord, all that are left."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0
    return sum(switches_of_thread(pid, thread) for thread in threads)


def switches_of_thread(pid, thread):
    """The same for one of them."""
    status = read(pid, f"task/{thread}/status")
    return sum(map(int, re.findall(rb"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)))


def cpu_of_thread(pid, thread):
    """Nanoseconds of CPU, user and system."""
    fields = read(pid, f"task/{thread}/schedstat").split()
    return int(fields[0]) if fields else 0


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
