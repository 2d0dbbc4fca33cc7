"""scripts/requirements names what is missing."""

import os
import subprocess

import pytest
from lib.config import ROOT

FREE_THREADED = """#!/bin/sh
shift
exec /usr/bin/python3 -c "import sysconfig
var = sysconfig.get_config_var
sysconfig.get_config_var = lambda name, var=var: name == 'Py_GIL_DISABLED' or var(name)
$1"
"""


@pytest.mark.parametrize("name", ["python3.14t", "python3"])
def test_a_free_threaded_python_is_refused(tmp_path, name):
    python = tmp_path / name
    python.write_text(FREE_THREADED)
    python.chmod(0o755)
    done = subprocess.run([f"{ROOT}/scripts/requirements", "build"], capture_output=True,
                          text=True, env=os.environ | {"PYO3_PYTHON": str(python)})
    assert done.returncode == 1
    assert f"missing: a GIL (a free-threaded Python is not supported) in {python}" in done.stderr
    assert "a Python with a GIL, its path in PYO3_PYTHON" in done.stderr


def test_what_nginx_shows_to_be_needed_once_it_is_there_is_installed_too(tmp_path):
    """curl for HTTP/3. The machine has neither; sudo brings nginx."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if not (programs / name).is_symlink():
                (programs / name).symlink_to(f"{folder}/{name}")
    (programs / "curl").unlink(missing_ok=True)
    for name, text in {
        "id": "echo 1000", "apt-get": "",
        "sudo": f"""[ "$1" != -n ] || exit 0
            echo "$@" >>{tmp_path}/asked
            echo 'echo --with-http_v3_module' >{tmp_path}/nginx
            chmod 755 {tmp_path}/nginx""",
    }.items():
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    subprocess.run([f"{ROOT}/scripts/requirements", "--install", "test"], capture_output=True,
                   env=os.environ | {"PATH": str(programs), "NGINX": f"{tmp_path}/nginx"})
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert [("nginx" in packages, "curl" in packages) for packages in asked] == [
        (True, False), (False, True)]
