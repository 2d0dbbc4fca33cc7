"""A libpython that the module was not built for: Python is not started, and nginx -t says why."""

import subprocess
import sys

import pytest
from lib.sources import HELLO

BUILT = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHER = "3.99.1 (main, Jan  1 2026, 00:00:00) [GCC]"
FREE = f"{BUILT}.1 experimental free-threading build (main, Jan  1 2026, 00:00:00) [GCC]"


@pytest.mark.parametrize("version, reason", [
    (OTHER, "the libpython that was found is Python 3.99.1, "
            f"this module was built for Python {BUILT}"),
    (FREE, f"a free-threaded Python is not supported, libpython is {FREE}"),
], ids=["another version", "free-threaded"])
def test_another_libpython_is_refused(make_nginx, tmp_path, monkeypatch, version, reason):
    site = make_nginx(server="location /app { wsgi_app app; }")
    site.write("site/app.py", HELLO.format("hello"))
    source = f'const char *Py_GetVersion(void) {{ return "{version}"; }}\n'
    (tmp_path / "other.c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "other.so", tmp_path / "other.c"],
                   check=True)
    # In front of libpython for whoever looks for the function.
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "other.so"))
    _, said = site.test_config()
    assert f"wsgi_check: {reason}\n" in said
