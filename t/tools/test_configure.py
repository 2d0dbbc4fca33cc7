"""config, which nginx's own configure reads: what it links, and which Pythons it refuses."""

import os
import subprocess

import pytest
from lib.config import ROOT

# What auto/module is given, a line each.
MODULE = """
echo "$ngx_module_type: $ngx_module_name"
echo "order: $ngx_module_order"
echo "libs:" $ngx_module_libs
"""
# A Python of which sysconfig says something else.
OTHER = """#!/bin/sh
exec /usr/bin/python3 -I -c "
import sys, sysconfig
said = {said}
var = sysconfig.get_config_var
sysconfig.get_config_var = lambda name, var=var: said.get(name, var(name))
exec(sys.stdin.read())"
"""


def configure(tmp_path, link="DYNAMIC", threads="YES", python="/usr/bin/python3"):
    (tmp_path / "auto").mkdir()
    (tmp_path / "auto/module").write_text(MODULE)
    text = f"""
        HTTP=YES USE_THREADS={threads} NGX_OBJS=objs ngx_modext=.so ngx_module_link={link}
        . {ROOT}/config
        echo "linked: $ngx_wsgi_links"
    """
    return subprocess.run(["/bin/sh", "-c", text], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYO3_PYTHON": str(python)}, timeout=30)


def other(tmp_path, said):
    python = tmp_path / "python3"
    python.write_text(OTHER.format(said=said))
    python.chmod(0o755)
    return python


def test_a_dynamic_module_has_the_guard_in_front_of_the_thread_pools(tmp_path):
    done = configure(tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["HTTP: ngx_http_wsgi_module ngx_http_wsgi_guard_module",
                         "order: ngx_http_wsgi_guard_module ngx_thread_pool_module"]
    assert lines[2].startswith("libs: objs/libngx_http_wsgi_module.a ") and "-lpython3" in lines[2]
    assert lines[3:] == ["linked: objs/ngx_http_wsgi_module.so"]


def test_a_static_one_has_it_among_the_core_modules(tmp_path):
    lines = configure(tmp_path, "ADDON").stdout.splitlines()
    assert [lines[0], lines[3]] == ["HTTP: ngx_http_wsgi_module",
                                    "CORE: ngx_http_wsgi_guard_module"]
    assert lines[-2:] == ["libs:", "linked: objs/nginx"]


@pytest.mark.parametrize("said, reason", [
    ({"Py_GIL_DISABLED": 1}, "error: a free-threaded Python is not supported:"),
    ({"Py_ENABLE_SHARED": 0, "LDVERSION": "3.99"}, "error: no shared libpython3.99 belongs to"),
    ({"LDLIBRARY": "libpython3.99.so"}, "error: no shared libpython"),
])
def test_a_python_that_will_not_do_is_refused(tmp_path, said, reason):
    python = other(tmp_path, said)
    done = configure(tmp_path, python=python)
    assert done.returncode == 1
    assert reason in done.stdout and f" {python} (PYO3_PYTHON)" in done.stdout


def test_a_libpython_elsewhere_is_found_when_it_runs(tmp_path):
    (tmp_path / "libpython3.99.so").touch()
    said = {"LIBDIR": str(tmp_path), "LDLIBRARY": "libpython3.99.so", "LDVERSION": "3.99"}
    done = configure(tmp_path, python=other(tmp_path, said))
    assert f"-L{tmp_path} -Wl,-rpath,{tmp_path} -lpython3.99" in done.stdout


def test_no_python_and_no_threads_are_refused(tmp_path):
    done = configure(tmp_path, python="/nowhere/python3")
    assert done.returncode == 1 and "cannot run /nowhere/python3" in done.stdout
    (tmp_path / "more").mkdir()
    done = configure(tmp_path / "more", threads="NO")
    assert done.returncode == 1 and "--with-threads" in done.stdout
