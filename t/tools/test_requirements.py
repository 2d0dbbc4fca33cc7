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
