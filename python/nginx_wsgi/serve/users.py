"""Whom the workers run as when root starts nginx, and what that user may read."""

import grp
import os
import pwd
import stat

from ..common.processes import WORKER_USERS, worker_user
from . import Problem


def choose(name, directory):
    """The user of the workers, None for the present one.

    For root: the one asked for, else the owner of the application unless that is root.
    """
    if os.geteuid() != 0:
        if name:
            raise Problem("--user: only root can run the workers as another user")
        return None
    try:
        if name:
            return pwd.getpwnam(name)
        if owner := os.stat(directory).st_uid:
            return pwd.getpwuid(owner)
    except KeyError:
        if name:
            raise Problem(f"--user: there is no user {name}") from None
    if user := worker_user():
        return user
    raise Problem(f"none of the users {', '.join(WORKER_USERS)} is there: choose one with --user")


def group(user):
    return grp.getgrgid(user.pw_gid).gr_name


def identity(user):
    """Arguments for subprocess: the user with all groups, as nginx's workers have them."""
    if not user:
        return {}
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def first_closed(paths):
    """(path, what closes it): the first that this process may not read."""
    for path in paths:
        for way in dict.fromkeys((path, os.path.realpath(path))):
            parts = way.split("/")
            for above in ("/".join(parts[:n]) or "/" for n in range(1, len(parts))):
                if not os.access(above, os.X_OK):
                    return path, above
            if not os.access(way, os.R_OK | (os.X_OK if os.path.isdir(way) else 0)):
                return path, way
    return None


def first_readonly(paths):
    """(database, what closes it): the first SQLite database this process may not write.

    SQLite makes files of its own beside it.
    """
    for path in paths:
        for each in (path, os.path.dirname(path)):
            if os.path.exists(each) and not os.access(each, os.W_OK):
                return path, each
    return None


def asked_as(user, question, *args):
    """question(*args), two paths or None, as the user would answer it: in a child process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.write(write, "\0".join(question(*args) or ()).encode(errors="surrogateescape"))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with open(read, "rb") as file:
        answer = file.read().decode(errors="surrogateescape")
    if os.waitpid(child, 0)[1] != 0:
        raise Problem(f"cannot become the user {user.pw_name}")
    return answer.split("\0") if answer else None


def reach(user, paths):
    """The first of the paths that the user may not read, with what closes it, or None."""
    paths = [os.fspath(path) for path in paths]
    return asked_as(user, first_closed, paths) if user else first_closed(paths)


def writable(user, paths):
    """The first of the databases that the user may not write, with what closes it, or None."""
    return asked_as(user, first_readonly, paths) if user else first_readonly(paths)


def require(user, paths):
    """Refuses what the workers could not read: nginx and Python would say so only later."""
    found = reach(user, paths)
    if not found:
        return
    path, closed = found
    about = os.stat(closed)
    try:
        owner = pwd.getpwuid(about.st_uid).pw_name
    except KeyError:
        owner = about.st_uid
    who = f"the workers run as {user.pw_name}, who" if user else "this user"
    way = f"; choose another user with --user, or open it (chmod o+rx {closed})" if user else ""
    raise Problem(f"{who} cannot read {path}: {closed} is closed"
                  f" ({stat.filemode(about.st_mode)}, owner {owner}){way}")
