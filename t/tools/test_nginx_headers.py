"""scripts/nginx-headers reads the options of Debian's nginx-dev, which are an array of bash."""

import subprocess

from lib.config import ROOT

# nginx-dev of nginx 1.30 has such.
CONF_FLAGS = """NGX_CONF_FLAGS=( \
--override-system="$(dpkg-architecture --query DEB_HOST_GNU_SYSTEM | sed 's/-.*$//; s/^./\\U&/')" \
--with-cc-opt="$(dpkg-buildflags --get CFLAGS) -fPIC" --prefix=/usr/share/nginx --with-threads )
"""
ARCHITECTURE = "#!/bin/sh\necho linux-gnu\n"
FLAGS = "#!/bin/sh\necho \"-g -O2 -ffile-prefix-map=$PWD=.\"\n"


def options(tmp_path, programs):
    """What the script makes of CONF_FLAGS where these programs are there, and no others of dpkg."""
    (tmp_path / "conf_flags").write_text(CONF_FLAGS)
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("sh", "bash", "grep", "sed"):
        (path / name).symlink_to(f"/bin/{name}")
    for name, text in programs.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    function = f"""
        set -eu
        say() {{ echo "$*" >&2; }}
        root=/ debian={tmp_path}
        eval "$(sed -n '/^debian_options()/,/^}}/p' {ROOT}/scripts/nginx-headers)"
        debian_options
    """
    return subprocess.run(["/bin/sh", "-c", function], capture_output=True, text=True,
                          env={"PATH": str(path)})


def test_options_are_what_bash_makes_of_them(tmp_path):
    done = options(tmp_path, {"dpkg-architecture": ARCHITECTURE, "dpkg-buildflags": FLAGS})
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "--override-system=Linux",
        "--with-cc-opt=-g -O2 -ffile-prefix-map=/=. -fPIC",
        "--prefix=/usr/share/nginx",
        "--with-threads",
    ]


def test_a_program_that_the_options_call_is_asked_for(tmp_path):
    done = options(tmp_path, {"dpkg-buildflags": FLAGS})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "dpkg-architecture: apt-get install dpkg-dev" in done.stderr
