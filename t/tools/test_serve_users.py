"""Whom the workers of scripts/serve run as, and what that user must be able to read."""

import os
import pwd
import re
import shutil
import sys

import pytest
from lib import config, http
from lib.serve import APP, ROOT, SYSTEM, checkout

IDENTITY = APP.replace("repr((", "repr((os.getuid(), os.environ['HOME'], ")


@pytest.mark.skipif(not ROOT, reason="only root can change to another user")
def test_as_an_unprivileged_user(site):
    """All of it, in a copy that belongs to the user."""
    folder = checkout(site)
    nobody = pwd.getpwnam("nobody")
    module = shutil.copy(config.MODULE, folder)
    site.write("checkout/site/wsgi.py", APP.replace("repr((", "repr((os.getuid(), "))
    for path, _, files in os.walk(folder):
        for name in (".", *files):
            os.chown(os.path.join(path, name), nobody.pw_uid, nobody.pw_gid)
    python = shutil.which(SYSTEM)
    site.start("site", cwd=folder, script=f"{folder}/scripts/serve", module=module,
               python=[python], env={"HOME": "/nonexistent"},
               prefix=["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}",
                       "--clear-groups"])
    for pid in (site.process.pid, *site.pids):
        assert os.stat(f"/proc/{pid}").st_uid == nobody.pw_uid
    assert eval(site.get().body)[0] == nobody.pw_uid
    # A body in a temporary file.
    assert http.request(site.port, "POST", "/", body=b"x" * 100_000).status == 200
    assert "[warn]" not in site.said()


@pytest.mark.skipif(not ROOT, reason="only root can change to another user")
@pytest.mark.parametrize("owner, option, expected", [
    ("daemon", None, "daemon"), ("root", None, "www-data"), ("daemon", "nobody", "nobody"),
])
def test_root_runs_the_workers_as_the_owner_of_the_application(site, owner, option, expected):
    site.write("wsgi.py", IDENTITY)
    os.chown(site.dir, pwd.getpwnam(owner).pw_uid, -1)
    site.start(site.dir, *(["--user", option] if option else []))
    assert f"workers run as {expected}\n" in site.said()
    user = pwd.getpwnam(expected)
    assert eval(site.get().body)[:2] == (user.pw_uid, user.pw_dir)
    assert http.request(site.port, "POST", "/", body=b"x" * 100_000).status == 200


@pytest.mark.skipif(not ROOT, reason="root may read everything")
@pytest.mark.parametrize("closed", ["", "wsgi.py", ".venv/lib", "files"])
def test_what_the_workers_cannot_read_is_named(site, closed):
    site.write("wsgi.py")
    site.write("files/x", "")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    site.write(".venv/pyvenv.cfg", "")
    site.write(f".venv/lib/python{version}/x", "")
    path = os.path.join(site.dir, closed).rstrip("/")
    os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)
    said = site.refused(site.dir, "--static", "/f=files")
    assert "the workers run as www-data, who cannot read " in said
    assert f": {path} is closed ({'d' if os.path.isdir(path) else '-'}rw" in said
    assert "choose another user with --user" in said


@pytest.mark.skipif(not ROOT, reason="root may read everything")
def test_nothing_is_built_for_a_project_that_the_workers_cannot_read(site):
    site.write("wsgi.py")
    os.chmod(site.dir, 0o700)
    said = site.refused(site.dir, module=None)
    assert "who cannot read " in said and "building" not in said


@pytest.mark.skipif(not ROOT, reason="only root can change to another user")
def test_a_checkout_that_the_workers_cannot_reach_is_left_for_a_moment(site):
    folder = checkout(site)
    os.chmod(folder, 0o700)
    site.write("site/wsgi.py")
    site.start(f"{site.dir}/site", script=f"{folder}/scripts/serve")
    scratch = re.search(r"using (/var/tmp/\S+)", site.said())[1]
    assert http.request(site.port, "POST", "/", body=b"x" * 100_000).status == 200
    assert site.stop() == 0
    assert not os.path.exists(scratch)


def test_an_unknown_user_is_refused(site):
    site.write("wsgi.py")
    said = site.refused(site.dir, "--user", "no-such-user")
    assert "--user: " + ("there is no user" if ROOT else "only root can") in said
