"""scripts/matrix and .ci/run: what cannot be had is told from what has failed. No root is made."""

import os
import shutil
import subprocess

import pytest
from lib.config import ROOT

# What .ci/run tries of t/ on Debian 13.
PARTS = "t/config t/request t/response t/protocol"


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def matrix(tmp_path):
    """A copy of scripts/matrix, with nothing missing, and these programs first in PATH."""
    shutil.copytree(f"{ROOT}/scripts", tmp_path / "scripts")
    program(tmp_path / "scripts/requirements", "")

    def start(**programs):
        for name, text in programs.items():
            program(tmp_path / "bin" / name, text)
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        return run(f"{tmp_path}/scripts/matrix", "13", env=os.environ | {"PATH": path})

    return start


def test_who_is_not_root_has_no_root_of_another_debian(matrix):
    done = matrix(id="echo 1000")
    assert (done.returncode, done.stdout) == (3, "")
    assert "only root can make a root" in done.stderr


def test_without_a_mirror_there_is_none(matrix):
    # setpriv, unshare and debootstrap in one, as far as the script is concerned.
    done = matrix(id="echo 0", setpriv="echo 'E: no mirror'; exit 1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "E: no mirror" in done.stderr
    assert "no root of Debian 13" in done.stderr


@pytest.mark.parametrize("matrix, status, says", [
    (0, 0, f"ci: passed: cargo test and {PARTS} on Debian 13"),
    (3, 0, "ci: NOT TESTED: Debian 13, of which there is no root here (see above)"),
    (1, 1, "ci: Debian 13: failed"),
    (137, 137, "ci: Debian 13: failed"),
])
def test_ci_fails_where_debian_13_does_not_pass(tmp_path, matrix, status, says):
    (tmp_path / ".ci").mkdir()
    shutil.copy(f"{ROOT}/.ci/run", tmp_path / ".ci")
    for name in ("requirements", "lint", "test"):
        program(tmp_path / "scripts" / name, "")
    program(tmp_path / "scripts/matrix", f'[ "$*" = "13 --once {PARTS}" ] && exit {matrix}')
    done = run(f"{tmp_path}/.ci/run")
    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == says
