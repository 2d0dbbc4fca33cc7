#!/usr/bin/env python3
"""Installs a package of the module, serves with it, upgrades, removes, purges; says what it does.

usage: try_deb.py PACKAGE.deb

For a root that is thrown away afterwards (scripts/package deb --check): with nginx and what the
package depends on, without the package. Exit status 1 where something is not as it should be.
"""

import http.client
import os
import re
import shutil
import subprocess
import sys
import threading
import time

NAME = "libnginx-mod-http-wsgi"
COMMAND = "/usr/bin/nginx-wsgi"
MODULE = "/usr/lib/nginx/modules/ngx_http_wsgi_module.so"
ENABLED = "/etc/nginx/modules-enabled/50-mod-http-wsgi.conf"
OTHER_PORT = 8081
SITE = "/etc/nginx/conf.d/try.conf"
CONF = """
server {
    listen 127.0.0.1:8080;
    location / { wsgi_app /srv/try.py; }
}
"""
APP = """
import ssl, sqlite3, sys

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"Python {sys.version.split()[0]}".encode()]
"""
# What others write while the package is there.
OTHERS = r"/(dev|proc|sys|run|tmp|src|var/(lib/(dpkg|apt)|cache|log))(/|$)|__pycache__"
NOT_OURS = re.compile(OTHERS)


def say(text):
    print(f"try: {text}", flush=True)


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"try: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def check(holds, text):
    if not holds:
        sys.exit(f"try: not so: {text}")


def until(condition, text, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        check(time.monotonic() < end, text)
        time.sleep(0.05)
    return value


def files():
    """All paths that could be the package's, with where links lead to."""
    found = set()
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if not NOT_OURS.match(os.path.join(folder, name))]
        for path in (os.path.join(folder, name) for name in folders + names):
            if not NOT_OURS.search(path):
                found.add((path, os.readlink(path) if os.path.islink(path) else ""))
    return found


def get(port=8080):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", "/")
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    finally:
        client.close()


def answers(port=8080):
    try:
        return get(port)[0] == 200
    except OSError:
        return False


def workers():
    master = int(open("/run/nginx.pid").read())
    return [int(pid) for pid in
            open(f"/proc/{master}/task/{master}/children").read().split()]


def images():
    """What the workers have mapped of the module: whether it is the file that is there."""
    found, inode = set(), os.stat(MODULE).st_ino
    for pid in workers():
        with open(f"/proc/{pid}/maps") as maps:
            found |= {"this" if int(line.split()[4]) == inode else "old"
                      for line in maps if MODULE in line}
    return found


class Load:
    """Requests, one after the other on a connection each, by four threads."""

    def __init__(self):
        self.good, self.bad, self.stopped = 0, [], False
        self.threads = [threading.Thread(target=self.ask) for _ in range(4)]

    def ask(self):
        while not self.stopped:
            try:
                status, text = get()
            except OSError as error:
                status, text = 0, repr(error)
            if status == 200:
                self.good += 1
            else:
                self.bad.append((status, text))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stopped = True
        for thread in self.threads:
            thread.join()


def newer(package):
    """The same package with a higher version."""
    shutil.rmtree("/tmp/newer", ignore_errors=True)
    run("dpkg-deb", "-R", package, "/tmp/newer")
    control = "/tmp/newer/DEBIAN/control"
    with open(control) as file:
        text = re.sub(r"^(Version: .*)$", r"\1+next", file.read(), flags=re.M)
    with open(control, "w") as file:
        file.write(text)
    run("dpkg-deb", "-b", "/tmp/newer", "/tmp/newer.deb")
    return "/tmp/newer.deb"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    package = sys.argv[1]
    with open("/srv/try.py", "w") as file:
        file.write(APP)
    run("service", "nginx", "restart")
    before = files()

    say("installing")
    run("dpkg", "-i", package)
    check(os.path.realpath(ENABLED).endswith("/modules-available/mod-http-wsgi.conf"),
          f"{ENABLED} leads to the load file")
    with open(SITE, "w") as file:
        file.write(CONF)
    say(run("nginx", "-t").strip().split("\n")[-1])
    run("service", "nginx", "restart")
    until(answers, "the application answers")
    say(get()[1])
    check(images() == {"this"}, "the workers run the module that is installed")

    say("serving with the command")
    said = run(COMMAND, "check", "/srv/try.py")
    check("test is successful" in said, f"it has nginx test the configuration:\n{said}")
    check(run(COMMAND, "module-path").strip() == MODULE, "it knows the module")
    served = subprocess.Popen([COMMAND, "serve", "/srv/try.py", "--port", str(OTHER_PORT)])
    until(lambda: served.poll() is not None or answers(OTHER_PORT), "the command serves")
    say(get(OTHER_PORT)[1])
    served.terminate()
    check(served.wait(30) == 0, "it ends when it is told")

    say("upgrading under load")
    with Load() as load:
        until(lambda: load.good > 100, "requests are served")
        old = set(workers())
        output = run("dpkg", "-i", newer(package))
        # nginx's trigger has it reloaded, but where no init runs, as in such a root.
        check("triggers for nginx" in output, f"nginx is told:\n{output}")
        run("service", "nginx", "reload")
        until(lambda: not old & set(workers()), "the reload brings new workers")
        seen = load.good
        until(lambda: load.good > seen + 100, "requests are served")
    say(f"{load.good} requests answered, {len(load.bad)} not")
    check(not load.bad, f"no request is lost: {load.bad[:3]}")
    check("restart" in output, f"it says that a restart is needed:\n{output}")
    check(images() == {"old"}, f"a reload keeps the module that ran: {images()}")
    run("service", "nginx", "restart")
    until(answers, "the application answers")
    check(images() == {"this"}, f"a restart takes the new one: {images()}")

    say("removing")
    os.remove(SITE)
    run("dpkg", "-r", NAME)
    check(not os.path.exists(MODULE), "the module is gone")
    say(run("nginx", "-t").strip().split("\n")[-1])
    run("service", "nginx", "restart")
    run("dpkg", "-i", package)
    check(os.path.exists(ENABLED), "it is enabled again after it was removed")

    say("purging")
    run("dpkg", "-P", NAME)
    run("service", "nginx", "restart")
    left = sorted(files() - before)
    gone = sorted(before - files())
    check(not left and not gone, f"all is as before; left: {left}, gone: {gone}")
    run("service", "nginx", "stop")
    say("nothing is left behind")


if __name__ == "__main__":
    main()
