"""What the servers of a run share: the virtualenv, the applications, a directory for the run."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.load import HELLO
from bench.processes import unprivileged, worker
from common.paths import APPS, MODULE, ROOT
from common.processes import environment

BENCH = ROOT / "target/bench"
VENV = BENCH / "venv"
# The library that scripts/build-python has made.
LIBPYTHON = ROOT / "target/python/lib"
MIB = 1 << 20


class Site:
    """A directory that is removed at the end. The servers' user owns it."""

    def __init__(self, django):
        self.root = Path(tempfile.mkdtemp(prefix="ngx_http_wsgi_bench.", dir="/var/tmp"))
        self.root.chmod(0o755)
        self.venv = VENV
        self.module = self.subdirectory("modules") / MODULE.name
        if MODULE.exists():
            shutil.copy(MODULE, self.module)
        self.libpython = self.subdirectory("lib")
        for library in LIBPYTHON.glob("libpython*.so.*"):
            shutil.copy(library, self.libpython)
        self.files = self.subdirectory("files")
        self.large = bytes(range(256)) * (MIB // 256)
        (self.files / "large").write_bytes(self.large)
        (self.files / "small").write_bytes(HELLO)
        self.scratch = self.subdirectory("scratch")
        apps = self.subdirectory("apps")
        for name in ("bench_bare.py", "bench_cases.py", "bench_django.py", "bench_slow.py",
                     "bench_websocket.py"):
            shutil.copy(APPS / name, apps)
        self.python_path = [apps]
        self.environ = {"BENCH_FILE": str(self.files / "large")}
        self.answers = {}
        if django:
            self.add_django()
        # Else the first to start, and it alone, would compile them.
        subprocess.run([str(self.program("python")), "-m", "compileall", "-q", *self.python_path],
                       env=environment(), check=True, timeout=120)

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def subdirectory(self, name):
        directory = self.root / name
        directory.mkdir(exist_ok=True)
        if user := worker():
            os.chown(directory, *user)
        return directory

    def add_django(self):
        project = self.subdirectory("project")
        shutil.copytree(APPS / "miniproject", project, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
        self.python_path.append(project)
        self.environ |= {
            "MINIPROJECT_DB": str(self.subdirectory("data") / "db.sqlite3"),
            "MINIPROJECT_SECRET_KEY": "bench " * 10,
        }
        subprocess.run(
            unprivileged([str(self.program("python")), "manage.py", "migrate", "--verbosity", "0"]),
            cwd=project, env=environment(self.environ_of_python()), check=True, timeout=120,
        )

    def program(self, name):
        return self.venv / "bin" / name

    def environ_of_python(self):
        """The environment of a Python that is no part of nginx or Apache."""
        path = os.pathsep.join(map(str, self.python_path))
        return self.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def answer(self, case):
        """What the application answers when it is called without a server."""
        if case.name not in self.answers:
            self.answers[case.name] = subprocess.run(
                [str(self.program("python")), str(self.python_path[0] / "bench_cases.py"),
                 case.target, case.path.partition("?")[0]],
                input=case.post, stdout=subprocess.PIPE, check=True, timeout=60,
                env=environment(self.environ_of_python() | {
                    "QUERY_STRING": case.path.partition("?")[2],
                }),
            ).stdout
        return self.answers[case.name]
