"""What nginx-wsgi finds out of the machine: processors, a libpython, the modules of its wheel."""

import importlib
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lib import config
from lib.serve import ROOT, SYSTEM


def part(name):
    sys.path.insert(0, f"{config.ROOT}/python")
    try:
        return importlib.import_module(f"nginx_wsgi.{name}")
    finally:
        sys.path.pop(0)


# ------- --workers auto


def cgroups(folder, lines, **files):
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return part("serve.cpus")


@pytest.mark.parametrize("lines, files, expected", [
    ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
    ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "50000 100000\n",
                   "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 0.5),
    # The path is the host's.
    ("0::/kubepods/x\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    ("4:cpu,cpuacct:/d\n3:memory:/d\n0::/d\n",
     {"sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us": "300000\n",
      "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"}, 3),
    ("4:cpuacct,cpu:/docker/1\n", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                                   "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ("4:cpu:/\n", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                   "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
    ("", {}, math.inf),
])
def test_the_quota_of_the_control_groups(tmp_path, lines, files, expected):
    assert cgroups(tmp_path, lines, **files).quota(tmp_path) == expected


@pytest.mark.parametrize("quota, expected", [("1000", 1), ("100000", 1), ("100001", 2),
                                             ("800000", 3), ("max", 3)])
def test_as_many_workers_as_the_processors_or_the_quota_allow(
        tmp_path, monkeypatch, quota, expected):
    cpus = cgroups(tmp_path, "0::/\n", **{"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert cpus.available(tmp_path) == expected


def test_the_number_of_workers_may_be_that_of_the_processors(site):
    site.write("wsgi.py")
    assert f"worker_processes {part('serve.cpus').available()};" in site.printed(
        ".", "--workers", "auto")


# ------- libpython

SAID = '{"version": "3.12", "free_threaded": %s, "implementation": "%s", "base": "/opt/p",' \
       ' "places": ["/opt/p/lib/libpython3.12.so.1.0"]}'


def stub(folder, text):
    """A program that answers as a Python would."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text, expected", [
    (f"echo '{SAID % ('false', 'cpython')}'",
     ["Python 3.12 in /opt/p has no shared library", "no /opt/p/lib/libpython3.12.so.1.0",
      "package libpython3.12", "--enable-shared"]),
    (f"echo '{SAID % ('true', 'cpython')}'", ["a free-threaded Python 3.12, which is not"]),
    (f"echo '{SAID % ('false', 'pypy')}'", ["is pypy; only CPython is supported"]),
    ("echo no >&2; exit 1", ["does not run: no"]),
])
def test_a_python_that_cannot_be_embedded_is_refused_with_the_way_out(tmp_path, text, expected):
    python = part("serve.python")
    with pytest.raises(part("serve").Problem) as problem:
        python.interpreter(stub(tmp_path, text))
    for each in expected:
        assert each in str(problem.value)


def test_the_libpython_of_the_system_is_found():
    found = part("serve.python").interpreter(SYSTEM)
    assert found.library.name.startswith(f"libpython{found.version}.so")
    assert found.library.is_file()


@pytest.fixture
def moved(tmp_path):
    """A Python in a prefix that its sysconfig does not know, as those of uv and conda are: bin and
    lib, and in lib the library beside the standard library."""
    found = part("serve.python").interpreter(SYSTEM)
    prefix = tmp_path / "moved"
    for folder in ("bin", "lib"):
        (prefix / folder).mkdir(parents=True)
    shutil.copy(os.path.realpath(SYSTEM), prefix / "bin/python3")
    shutil.copy(found.library, prefix / "lib" / found.library.name)
    name = f"python{found.version}"
    (prefix / "lib" / name).symlink_to(found.base / "lib" / name)
    return prefix


def test_the_libpython_beside_the_python_that_runs_is_taken(moved):
    found = part("serve.python").interpreter(str(moved / "bin/python3"))
    assert found.base == moved
    assert found.library.parent == moved / "lib"


def test_the_libpython_of_a_virtualenv_is_that_of_its_home(moved, tmp_path):
    subprocess.run([moved / "bin/python3", "-m", "venv", "--without-pip", tmp_path / "venv"],
                   check=True, timeout=60)
    found = part("serve.python").interpreter(str(tmp_path / "venv/bin/python"))
    assert found.library.parent == moved / "lib"


@pytest.mark.skipif(not ROOT, reason="root may read everything")
@pytest.mark.parametrize("closed", ["library", "standard_library"])
def test_a_python_that_the_workers_cannot_read_is_refused(site, closed):
    """As one of pyenv's is, in the home directory of root."""
    own = part("serve.python").interpreter(SYSTEM)
    places = {name: getattr(own, name) for name in ("library", "standard_library")}
    places[closed] = Path(site.write("home/lib/place", ""))
    os.chmod(f"{site.dir}/home", 0o700)
    site.write("wsgi.py")
    installed = part("serve.installed")

    class Way(installed.Installed):
        def parts(self, options, venv):
            return installed.Parts(config.BINARY, config.MODULE, own.version,
                                   executable=SYSTEM, **places)

    run = part("serve.command").Serve(Way(), [site.dir])
    with pytest.raises(part("serve").Problem) as problem:
        run.prepare(testing=True)
    assert f"cannot read {places[closed]}: {site.dir}/home is closed" in str(problem.value)


def test_the_modules_of_a_wheel_are_named_when_none_fits(tmp_path, monkeypatch):
    installed = part("serve.installed")
    monkeypatch.setattr(installed, "LIB", tmp_path)
    for version in ("3.9", "3.11", "3.10"):
        (tmp_path / f"{installed.NAME}-{version}.so").touch()
    made = installed.Installed()
    assert not made.is_complete()
    (tmp_path / "nginx").touch()
    assert made.is_complete()
    assert made.module("3.10") == tmp_path / "ngx_http_wsgi_module-3.10.so"
    with pytest.raises(part("serve").Problem) as problem:
        made.module("3.12")
    assert "modules for Python 3.9, 3.10, 3.11, and this is Python 3.12" in str(problem.value)


def test_the_package_in_the_modules_image_is_the_one_that_is_installed():
    with open(config.MODULE, "rb") as module, \
            open(f"{config.ROOT}/python/nginx_wsgi/__init__.py", "rb") as text:
        assert text.read() in module.read()
