"""Installs the wheel where there is neither compiler nor nginx, and serves with it."""

import json
import os
import shutil
import signal
import ssl
import time
import urllib.error
import urllib.request

from common import proc
from common.paths import APPS, ROOT
from common.ports import free_port

from . import roots
from .steps import DIST, VENV, WORK, Failed, output, run, say

HELLO = '''
import json, sqlite3, ssl, zlib
import flask, nginx_wsgi

app = flask.Flask(__name__)

@app.get("/")
def hello():
    return "hello"

@app.get("/versions")
def versions():
    return [ssl.OPENSSL_VERSION, zlib.ZLIB_RUNTIME_VERSION, sqlite3.sqlite_version]

@app.get("/text")
def text():
    with open(nginx_wsgi.__file__) as file:
        return file.read()
'''
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
VERSIONS = ("import json, sqlite3, ssl, zlib; print(json.dumps([ssl.OPENSSL_VERSION,"
            " zlib.ZLIB_RUNTIME_VERSION, sqlite3.sqlite_version]))")


def wheel_of():
    """The one that has been made."""
    found = sorted(DIST.glob("*.whl"))
    if len(found) != 1:
        raise Failed("there is no wheel: scripts/package wheel makes it")
    return found[0]


def run_all(suites, prefix):
    for suite in suites:
        check(wheel_of(), suite, prefix)
        say(f"all is well on Debian {suite}")


def bring(root, prefix):
    """A Python of this machine at its place in the root, where everybody may read it."""
    target = root / prefix.relative_to("/")
    shutil.copytree(prefix, target, symlinks=True,
                    ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__"))
    while target != root:
        target.chmod(0o755)
        target = target.parent
    python = prefix / "bin/python3"
    return python, roots.within(root, python, "-c", VERSION).strip()


def check(wheel, suite, prefix):
    root = roots.make(suite)
    python, version = bring(root, prefix) if prefix else ("python3", roots.PYTHONS[suite])
    packages = WORK / f"packages-{suite}-{version}"
    packages.mkdir(exist_ok=True)
    run(VENV / "bin/python", "-m", "pip", "download", "--quiet", "--dest", packages,
        "--only-binary=:all:", f"--python-version={version}",
        *(f"--platform=manylinux{n}_x86_64" for n in ("2014", "_2_17", "_2_28")),
        "-r", ROOT / "t/apps/miniproject/requirements.txt", "Flask")
    shutil.copytree(packages, root / "opt/packages")
    shutil.copy(wheel, root / "opt/packages")
    shutil.copytree(APPS / "miniproject", root / "srv/miniproject",
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    (root / "srv/hello.py").write_text(HELLO)

    begun = time.monotonic()
    roots.within(root, python, "-m", "venv", "/venv")
    made = time.monotonic()
    roots.within(root, "/venv/bin/pip", "install", "--no-index", "--find-links=/opt/packages",
                 "nginx_wsgi")
    say(f"virtualenv in {made - begun:.1f} s, the wheel installed in"
        f" {time.monotonic() - made:.1f} s")
    roots.within(root, "/venv/bin/pip", "install", "--no-index", "--find-links=/opt/packages",
                 "-r", "/srv/miniproject/requirements.txt", "Flask")
    installed = next(root.glob("venv/lib/python*/site-packages/nginx_wsgi"))
    text = (installed / "__init__.py").read_bytes()
    if text not in (installed / f"lib/ngx_http_wsgi_module-{version}.so").read_bytes():
        raise Failed("the package in the module's image is another one than that of the wheel")
    if ".TH NGINX" not in (root / "venv/share/man/man1/nginx-wsgi.1").read_text():
        raise Failed("the manual is not there")

    roots.within(root, "/venv/bin/python", "/srv/miniproject/manage.py", "migrate",
                 "--verbosity=0")
    with Served(root, "/srv/miniproject") as site:
        site.get("/")
        site.get("/miniProj/segment/querySegment")
        site.get("/static/admin/css/base.css")
    # As a container's only process, as nobody, with a file system that is not to be written to.
    with Served(root, "/srv/hello.py", "--workers", "auto", first=True, user=65534,
                read_only=True) as site:
        if site.get("/") != b"hello":
            raise Failed("the answer of Flask is another one")
        inside = json.loads(site.get("/versions"))
        outside = json.loads(roots.within(root, "/venv/bin/python", "-c", VERSIONS))
        if inside != outside:
            raise Failed(f"libraries inside nginx are {inside}, outside {outside}")
        if site.get("/text") != text:
            raise Failed("the application has another nginx_wsgi")
        say("the same inside nginx and outside: " + ", ".join(outside))
    make_certificate(root / "srv")
    with Served(root, "/srv/hello.py", "--certfile", "/srv/cert.pem", tls=True) as site:
        site.get("/versions")
    roots.within(root, "/venv/bin/nginx-wsgi", "check", "/srv/miniproject")
    refusals(root, f"/{installed.relative_to(root)}/lib/nginx")
    if not prefix:
        refusal_without_library(root)
    roots.remove(root)


def refusals(root, nginx):
    """What load_libpython says of what is none."""
    for path, expected in (("/nowhere", "cannot load"),
                           ("/lib/x86_64-linux-gnu/libc.so.6", "is no libpython")):
        (root / "srv/nginx.conf").write_text(f"load_libpython {path};\nevents {{}}\n")
        try:
            roots.within(root, nginx, "-t", "-e", "stderr", "-p", "/srv/", "-c", "nginx.conf")
        except Failed as said:
            if expected in str(said) and "nginx.conf:1" in str(said):
                continue
            raise
        raise Failed(f"load_libpython {path} is not refused")


def refusal_without_library(root):
    """What the command says where libpython is not; Debian's python3 runs without."""
    for path in root.glob("usr/lib/*/libpython*.so*"):
        path.unlink()
    try:
        roots.within(root, "/venv/bin/nginx-wsgi", "check", "/srv/hello.py")
    except Failed as said:
        if "has no shared library" in str(said) and "package libpython3" in str(said):
            return
        raise
    raise Failed("a Python without a shared library is not refused")


def make_certificate(folder):
    key, cert = folder / "key.pem", folder / "cert.pem"
    output("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
           "-days", "1", "-keyout", key, "-out", cert)
    cert.write_bytes(cert.read_bytes() + key.read_bytes())


class Served:
    """nginx-wsgi serve in the root, until the end of the with block."""

    def __init__(self, root, *arguments, tls=False, **options):
        self.port = free_port()
        self.scheme = "https" if tls else "http"
        self.log = WORK / "served.log"
        self.begun = time.monotonic()
        self.process = roots.start(
            root, "/venv/bin/nginx-wsgi", "serve", *arguments, "--bind", f"127.0.0.1:{self.port}",
            log=self.log, **options)
        self.what = arguments[0]
        # Then the process that was started is its parent.
        self.first = options.get("first")

    def __enter__(self):
        while not self.is_open():
            if self.process.poll() is not None or time.monotonic() > self.begun + 60:
                self.stop()
                raise Failed(f"{self.what} is not served:\n{self.log.read_text()}")
            time.sleep(0.02)
        say(f"{self.what} has answered after {time.monotonic() - self.begun:.1f} s")
        return self

    def is_open(self):
        try:
            self.get("/")
        except (OSError, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError):
                raise Failed(f"{self.what}: {error}\n{self.log.read_text()}") from None
            return False
        return True

    def get(self, path):
        handlers = [urllib.request.ProxyHandler({}),
                    urllib.request.HTTPSHandler(context=ssl._create_unverified_context())]
        opener = urllib.request.build_opener(*handlers)
        return opener.open(f"{self.scheme}://127.0.0.1:{self.port}{path}", timeout=30).read()

    def stop(self):
        """SIGTERM for nginx-wsgi itself, as `docker stop` sends it to process 1."""
        pids = proc.children(self.process.pid) if self.first else [self.process.pid]
        if self.process.poll() is None:
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
        return self.process.wait(30)

    def __exit__(self, kind, *_):
        status = self.stop()
        said = self.log.read_text(errors="replace")
        wrong = [line for line in said.splitlines()
                 if any(f"[{level}]" in line for level in ("alert", "emerg", "crit", "error"))]
        if kind is None and (status or wrong):
            raise Failed(f"{self.what}: exit status {status}\n{said}")
