"""What soaks: module, virtualenv, project, nginx."""

import os
import shutil
import signal
import subprocess

from common import nginx, proc
from common.paths import APPS, MODULE, ROOT
from common.processes import environment, worker_user
from soak import THREADS


def config(directory, port, user, options):
    made = nginx.Config(workers=options.workers, connections=1024, threads=THREADS,
                        error_log=("error.log", "notice"),
                        module="modules/ngx_http_wsgi_module.so")
    if user:
        made.main.add("user", user.pw_name)
    made.main.add("worker_rlimit_core", 0)
    for directive in (
        ("access_log", "off"),
        ("client_max_body_size", "64m"),
        ("wsgi_python_home", "venv"),
        ("wsgi_python_path", "apps"),
        ("wsgi_chdir", "project"),
        ("wsgi_env", "MINIPROJECT_DB", directory / "data/db.sqlite3"),
        ("wsgi_env", "MINIPROJECT_SECRET_KEY", " ".join(["soak"] * 10)),
    ):
        made.http.add(*directive)
    if options.balance == "off":
        made.http.add("wsgi_balance", "off")
    if options.deaths:
        made.http.add("wsgi_env", "SOAK_RAN", directory / "data/ran")
        made.http.add("wsgi_queue", 1024, "timeout=12s")
        made.http.add("wsgi_read_timeout", "12s")
    else:
        made.http.add("wsgi_queue", 1024)
    server = made.server(f"127.0.0.1:{port}", "backlog=1024")
    server.block("location", "=", "/static").add("return", 200, "static")
    server.block("location", "=", "/worker").add("return", 200, "$pid")
    project, mix = (("soak_ran:django", "soak_ran:mix") if options.deaths
                    else ("miniproject.wsgi:application", "soak_mix:application"))
    location = server.block("location", "/")
    location.add("wsgi_app", project)
    location.add("wsgi_param", "NGINX_VERSION", "$nginx_version")
    location = server.block("location", "/soak")
    location.add("wsgi_app", mix)
    location.add("wsgi_mount", "/soak")
    return made


def build(directory, port, options):
    """Everything where the user of the workers can reach it."""
    for name in ("modules", "data", "tmp"):
        (directory / name).mkdir()
    shutil.copy(MODULE, directory / "modules")
    skip = shutil.ignore_patterns("__pycache__", "*.sqlite3", "miniproject")
    shutil.copytree(APPS / "miniproject", directory / "project",
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    shutil.copytree(APPS, directory / "apps", ignore=skip)
    venv = directory / "venv"
    subprocess.run([ROOT / "scripts/lib/venv", venv, directory / "project/requirements.txt"],
                   check=True)
    database = directory / "data/db.sqlite3"
    subprocess.run([venv / "bin/python", "manage.py", "migrate", "--verbosity", "0"], check=True,
                   cwd=directory / "project", env=environment({"MINIPROJECT_DB": str(database)}))
    user = worker_user() if os.geteuid() == 0 else None
    if user:
        os.chown(database.parent, user.pw_uid, -1)
        os.chown(database, user.pw_uid, -1)
    config(directory, port, user, options).write(directory)


class Server:
    """nginx in a directory of its own, in the foreground of this script."""

    def __init__(self, directory, environ=()):
        self.directory = directory
        self.environ = environment(environ)
        self.log = directory / "error.log"
        self.process = None

    def start(self):
        # If this script is killed the kernel sends nginx the quit signal.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "QUIT", *nginx.command(self.directory)],
            start_new_session=True, env=self.environ,
        )

    def reload(self):
        subprocess.run(nginx.command(self.directory, "-s", "reload"), check=True,
                       stderr=subprocess.DEVNULL, env=environment())

    def stop(self):
        """Quits gracefully; returns False if that took more than 20 seconds."""
        if self.process.poll() is not None:
            return True
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True

    def workers(self):
        """Process ids of the workers; those that are shutting down have True."""
        return {pid: "shutting down" in proc.cmdline(pid)
                for pid in proc.children(self.process.pid)}
