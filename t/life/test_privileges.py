"""Whom the application runs as, and what the worker leaves where others could find it.

As root the workers change to a user that no other test uses, so that its files are known; without
root nginx's workers stay what the tests are, and the rest holds all the same.
"""

import grp
import json
import os
import pwd
import re
import stat

import pytest
from lib import procs

ROOT = os.getuid() == 0
USER = pwd.getpwnam("games") if ROOT else pwd.getpwuid(os.getuid())
GROUPS = sorted(os.getgrouplist(USER.pw_name, USER.pw_gid)) if ROOT else sorted(os.getgroups())
MAIN = f"user games {grp.getgrgid(USER.pw_gid).gr_name};" if ROOT else ""
SHARED = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", "/dev/mqueue"]
SERVER = """
    client_body_in_file_only clean;
    location / { wsgi_app identity:application; }
"""


@pytest.fixture
def site(nginx):
    return nginx(main=MAIN, server=SERVER)


def test_import_and_requests_run_as_the_user_of_the_workers(site):
    found = json.loads(site.post("/", body=b"x").body)
    wanted = {"uid": [USER.pw_uid] * 3, "gid": [USER.pw_gid] * 3, "groups": GROUPS}
    assert found["import"] == found["request"] == found["thread"] == found["child"] == wanted


@pytest.mark.skipif(not ROOT, reason="only root can have given something up")
def test_no_thread_of_a_worker_has_kept_an_identity_or_a_capability_of_root(site):
    assert site.post("/", body=b"x").status == 200
    worker = site.worker()
    threads = os.listdir(f"/proc/{worker}/task")
    looked_at = 0
    for thread in threads:
        # That of the application may not have left when its end is known.
        lines = procs.read(worker, f"task/{thread}/status").decode().splitlines()
        if not lines:
            continue
        looked_at += 1
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == [str(USER.pw_uid)] * 4
        assert status["Gid"].split() == [str(USER.pw_gid)] * 4
        for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
    assert looked_at > 1


@pytest.mark.skipif(not ROOT, reason="only root can change to another user")
def test_an_application_that_only_root_can_read_is_not_loaded(make_nginx):
    """The import is not made with the rights of the master."""
    site = make_nginx(main=MAIN, server="location / { wsgi_app @DIR@/site/secret.py; }")
    os.chmod(site.write("site/secret.py", "from plain import application\n"), 0o600)
    site.start()
    assert site.get("/").status == 500
    site.log.wait_for(r"\[error\].*PermissionError")


@pytest.mark.skipif(not ROOT, reason="only root can change to another user")
@pytest.mark.parametrize("lost", ["setuid", "setgid"])
def test_a_worker_that_cannot_change_its_user_runs_nothing(make_nginx, lost):
    site = make_nginx(main=MAIN, apps=["leaving"])
    start = site.command
    site.command = lambda *args: ["setpriv", "--bounding-set", f"-{lost}", *start(*args)]
    site.expect_alert(rf"\[emerg\].* {lost}\(\d+\) failed")
    site.expect_alert("exited with (fatal )?code 2")
    site.workers_wanted = 0
    site.start()
    site.log.wait_for("exited with fatal code 2 and cannot be respawned")
    assert site.workers() == [] and site.events() == []


def test_a_body_in_a_file_is_readable_for_the_worker_alone(site):
    found = json.loads(site.post("/", body=b"x" * 100_000).body)["body"]
    assert (found["mode"], found["uid"]) == (0o600, USER.pw_uid)
    folder = os.stat(f"{site.dir}/body")
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert folder.st_uid == USER.pw_uid


def entries(uid):
    """What belongs to the user in the directories that all share."""
    found = set()
    for folder in SHARED:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                if os.lstat(f"{folder}/{name}").st_uid == uid:
                    found.add(f"{folder}/{name}")
            except OSError:
                pass
    return found


@pytest.mark.skipif(not ROOT, reason="the files of the tests' own user may be anybody's")
def test_a_worker_makes_no_file_in_a_shared_directory(nginx):
    before = entries(USER.pw_uid)
    site = nginx(main=MAIN, server=SERVER)
    assert site.post("/", body=b"x" * 100_000).status == 200
    assert entries(USER.pw_uid) == before
    site.quit()
    assert entries(USER.pw_uid) == before


def test_a_worker_has_open_and_mapped_only_what_is_its_own(site):
    assert site.post("/", body=b"x" * 100_000).status == 200
    worker = site.worker()
    targets = set(procs.fds(worker).values())
    own = re.compile(rf"{site.dir}/|/dev/(null|u?random)$|(socket|pipe|anon_inode):|/memfd:|/proc/")
    assert [target for target in targets if not own.match(target)] == []
    with open(f"/proc/{worker}/maps") as file:
        paths = {line.split(None, 5)[5].strip() for line in file if len(line.split()) > 5}
    module = "/ngx_http_wsgi_module.so"
    shared = tuple(f"{folder}/" for folder in SHARED)
    assert [path for path in paths if path.startswith(shared) and not path.endswith(module)] == []


def test_a_worker_has_no_named_socket(site):
    assert site.post("/", body=b"x").status == 200
    inodes = set(re.findall(r"socket:\[(\d+)\]", " ".join(procs.fds(site.worker()).values())))
    with open("/proc/net/unix") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    assert [line[7:] for line in lines if line[6] in inodes and len(line) > 7] == []
