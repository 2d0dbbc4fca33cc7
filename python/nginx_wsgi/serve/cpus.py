"""How many processors this process may use, its control groups included."""

import math
import os
import re


def read(path):
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []


def quota_v2(directory):
    """cpu.max: "max 100000", or microseconds of processor time in so many of time."""
    quota, _, period = " ".join(read(f"{directory}/cpu.max")).partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else math.inf


def quota_v1(directory):
    """cpu.cfs_quota_us is -1 where there is no limit."""
    quota = "".join(read(f"{directory}/cpu.cfs_quota_us"))
    period = "".join(read(f"{directory}/cpu.cfs_period_us"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else math.inf


def quota(root="/"):
    """Processors' worth of time: the least of the control group and those above it.

    In a container the path of the group may be one of the host, which is not to be seen here: what
    is at the mount is the container's then.
    """
    found = math.inf
    for line in read(f"{root}/proc/self/cgroup"):
        match = re.fullmatch(r"\d+:([^:]*):(/.*)", line)
        controllers, path = match.groups() if match else ("none", "/")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = f"{root}/sys/fs/cgroup" + (f"/{controllers}" if controllers else "")
        if controllers and not os.path.isdir(mount):
            mount = f"{root}/sys/fs/cgroup/cpu"
        parts = path.strip("/").split("/")
        for count in range(len(parts) + 1):
            directory = "/".join([mount, *parts[:count]])
            found = min(found, quota_v1(directory) if controllers else quota_v2(directory))
    return found


def available(root="/"):
    """At least one; part of a processor counts as one."""
    return max(1, min(len(os.sched_getaffinity(0)), math.ceil(min(quota(root), 1 << 16))))
