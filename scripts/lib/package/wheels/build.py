"""Builds nginx and the modules, and puts the wheel together."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from common.paths import ROOT

from . import licences
from .steps import DIST, VENV, WORK, Failed, output, run, say

NAME = "ngx_http_wsgi_module"
# Linked statically. What these export would come before what Python is linked with, as nginx
# exports its symbols for modules: --exclude-libs hides it.
STATIC = ("ssl", "crypto", "z", "pcre2-8", "crypt")
# An empty prefix is the working directory, and -p is always given.
CONFIGURE = """
--prefix= --conf-path=nginx.conf --error-log-path=stderr --pid-path=nginx.pid
--lock-path=nginx.lock --http-log-path=access.log --modules-path=modules
--http-client-body-temp-path=tmp/client_body --http-proxy-temp-path=tmp/proxy
--http-fastcgi-temp-path=tmp/fastcgi --http-uwsgi-temp-path=tmp/uwsgi
--http-scgi-temp-path=tmp/scgi --with-compat --with-threads --with-file-aio --with-pcre-jit
--with-http_ssl_module --with-http_v2_module --with-http_v3_module --with-http_realip_module
--with-http_stub_status_module --with-http_gzip_static_module --with-http_auth_request_module
--with-http_sub_module
""".split()


CRATE = "nginx-src"
MANIFEST = f"""\
[package]
name = "source"
version = "0.0.0"
edition = "2024"
[lib]
path = "lib.rs"
[dependencies]
{CRATE} = "1"
"""


def run_all(pythons, chosen):
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] += f":{os.environ.get('HOME', '')}/.cargo/bin"
    run(ROOT / "scripts/requirements", "--install", "wheel")
    run(ROOT / "scripts/lib/venv", VENV, ROOT / "scripts/lib/package/requirements.txt",
        env={"PYO3_PYTHON": "/usr/bin/python3"})
    built = nginx(*source(chosen))
    assemble(built, {version: module(built, version) for version in pythons})


# ------- nginx


def source(chosen):
    """An nginx source tree, and its licence: Debian's, the crate's, or the one given."""
    fetched = WORK / "source"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    kind, _, suite = chosen.partition(":")
    if kind == "debian":
        tree = Path(output(ROOT / "scripts/debian-source", "nginx", "newest", fetched,
                           env={**os.environ, "SUITE": suite}).strip())
        return tree, tree / "debian/copyright"
    if chosen == "crate":
        (fetched / "lib.rs").touch()
        (fetched / "Cargo.toml").write_text(MANIFEST)
        run("cargo", "update", "--quiet", cwd=fetched)
        found = json.loads(output("cargo", "metadata", "--format-version", "1", cwd=fetched))
        (path,) = (each["manifest_path"] for each in found["packages"] if each["name"] == CRATE)
        tree = Path(path).parent / "nginx"
        return tree, tree / "LICENSE"
    tree = Path(chosen).absolute()
    if not (tree / "src/core/nginx.h").is_file():
        raise Failed(f"{chosen} is no source tree of nginx")
    return tree, tree / "LICENSE"


def nginx(source, licence):
    """The same configured and built, in a directory of our own."""
    addon = ROOT / "scripts/lib/package/libpython"
    known = (source / "auto/options").read_text()
    options = [each for each in CONFIGURE if each.partition("=")[0] in known]
    # A build lasts as long as what it was made of.
    parts = [*sorted(source.rglob("*.[ch]")), *sorted(addon.iterdir()), *map(static, STATIC)]
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in parts))
    stamp.update(" ".join(options).encode())
    stamp = stamp.hexdigest()
    built = WORK / "nginx"
    if not (built / "stamp").is_file() or (built / "stamp").read_text() != stamp:
        shutil.rmtree(built, ignore_errors=True)
        shutil.copytree(source, built, symlinks=True)
        make(built, addon, options)
        (built / "stamp").write_text(stamp)
    shutil.copy(licence, built / "licence")
    return built


def static(name):
    said = output(os.environ.get("CC", "cc"), f"-print-file-name=lib{name}.a").strip()
    found = Path(os.path.normpath(said))
    if not found.is_absolute():
        raise Failed(f"lib{name}.a is not there")
    return found


def make(source, addon, options):
    version = re.search(r'NGINX_VERSION +"(.*)"', (source / "src/core/nginx.h").read_text())[1]
    say(f"building nginx {version}")
    libraries = source / "static"
    libraries.mkdir()
    for name in STATIC:
        (libraries / f"lib{name}.a").symlink_to(static(name))
    flags = {name: output("dpkg-buildflags", "--get", name,
                          env={**os.environ, "DEB_BUILD_MAINT_OPTIONS": "hardening=+all"}).strip()
             for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS")}
    configure = "configure" if (source / "configure").exists() else "auto/configure"
    run("sh", configure, *options, f"--add-module={addon}",
        f"--with-cc-opt={flags['CFLAGS']} {flags['CPPFLAGS']}",
        f"--with-ld-opt={flags['LDFLAGS']} -L{libraries} -Wl,--exclude-libs,ALL",
        cwd=source, log=WORK / "configure.log")
    run("make", f"-j{os.cpu_count()}", "-f", "objs/Makefile", "binary", cwd=source,
        log=WORK / "make.log")
    check_exports(source / "objs/nginx")


def defined(option, path):
    text = output("nm", option, "--defined-only", path)
    return set(re.findall(r"^[0-9a-f]+ [A-Z] (\w+)", text, re.M)) - {"_init", "_fini"}


def check_exports(binary):
    """Of the libraries nothing may be seen: Python has its own."""
    exported = defined("-D", binary)
    bad = {name for archive in map(static, STATIC) for name in defined("-g", archive)} & exported
    if bad:
        raise Failed(f"nginx exports what is a library's: {' '.join(sorted(bad)[:20])}")
    linked = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", binary))
    if any(each.startswith(tuple(f"lib{name}" for name in STATIC)) for each in linked):
        raise Failed(f"nginx is linked with {' '.join(linked)}")


# ------- the module


def module(source, version):
    """The module for a Python that need not be here, linked with none."""
    say(f"building the module for Python {version}")
    config = WORK / f"python-{version}.conf"
    text = f"implementation=CPython\nversion={version}\nshared=true\npointer_width=64\n"
    if not config.exists() or config.read_text() != text:
        config.write_text(text)
    target = WORK / "cargo"
    run(ROOT / "scripts/nginx-headers", "cargo", "build", "--release", "--locked",
        "--target-dir", target, cwd=ROOT, log=WORK / f"cargo-{version}.log", env={
            "NGINX_SOURCE_DIR": str(source), "NGINX_BUILD_DIR": str(source / "objs"),
            "NGINX": str(source / "objs/nginx"), "PYO3_CONFIG_FILE": str(config),
            "PYO3_BUILD_EXTENSION_MODULE": "1",
        })
    made = WORK / f"{NAME}-{version}.so"
    shutil.copy(target / f"release/lib{NAME}.so", made)
    check_symbols(made, source / "objs/nginx")
    return made


def check_symbols(made, binary):
    """What the module leaves open nginx and Python have to have."""
    exported = defined("-D", binary)
    needed = re.findall(r"^ +U (\w+)$", output("nm", "-D", "--undefined-only", made), re.M)
    bad = [name for name in needed
           if name not in exported and not re.match("_?Py", name)]
    if bad:
        raise Failed(f"{made.name} needs what nobody has: {' '.join(bad)}")


# ------- the wheel


def assemble(source, modules):
    say("putting the wheel together")
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.rmtree(DIST, ignore_errors=True)
    python = VENV / "bin/python"
    copy = WORK / "python"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "python", copy, ignore=shutil.ignore_patterns("__pycache__"))
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", tree, copy, log=WORK / "pip.log")
    (pure,) = tree.glob("*.whl")
    run(python, "-m", "wheel", "unpack", "--dest", tree, pure, log=WORK / "unpack.log")
    (content,) = (path for path in tree.iterdir() if path.is_dir())
    lib = content / "nginx_wsgi/lib"
    lib.mkdir()
    shutil.copy(source / "objs/nginx", lib / "nginx")
    for version, made in modules.items():
        shutil.copy(made, lib / f"{NAME}-{version}.so")
    for each in lib.iterdir():
        each.chmod(0o755)
        run("strip", "--strip-debug" if each.suffix else "--strip-unneeded", each)
    # pip puts it where man looks for what is in the PATH beside it.
    manual = content / f"{content.name}.data/data/share/man/man1"
    manual.mkdir(parents=True)
    (manual / "nginx-wsgi.1").write_text(
        output(python, ROOT / "scripts/lib/package/manual.py"))
    (info,) = content.glob("*.dist-info")
    licences.collect(info / "licenses", source, map(static, STATIC))
    # Of one platform; auditwheel finds out of which.
    meta = info / "WHEEL"
    meta.write_text(re.sub(r"(?m)^(Root-Is-Purelib: ).*$", r"\1false", re.sub(
        r"(?m)^(Tag: ).*$", rf"\1py3-none-linux_{os.uname().machine}", meta.read_text())))
    packed = WORK / "packed"
    shutil.rmtree(packed, ignore_errors=True)
    packed.mkdir()
    run(python, "-m", "wheel", "pack", "--dest-dir", packed, content, log=WORK / "pack.log")
    (plain,) = packed.glob("*.whl")
    run(VENV / "bin/auditwheel", "repair", "--wheel-dir", DIST, plain, log=WORK / "repair.log",
        env={"PATH": f"{VENV}/bin:{os.environ['PATH']}"})
    (made,) = DIST.glob("*.whl")
    say(f"{made} ({made.stat().st_size / 1e6:.1f} MB)")
