"""docs/several-sites.md as it is shipped: a front nginx, and two Django projects behind it.

Each has an nginx, a virtualenv, settings and an environment of its own. The files of
nginx-conf/several-sites are used as they are, with only places and ports changed; the sites' nginx
is started and reloaded by the commands of the systemd unit, as a user without privileges.
"""

import importlib.util
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import venv

import pytest
from lib import config, http, tls
from lib.nginx import Nginx
from lib.poll import until

SHIPPED = os.path.join(config.ROOT, "nginx-conf/several-sites")
PACKAGES = ["django", "asgiref", "sqlparse"]
URLS = """\
import os, sys
import color
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

def show(request):
    return JsonResponse({
        "greeting": settings.GREETING, "color": color.NAME, "prefix": sys.prefix,
        "settings": os.environ["DJANGO_SETTINGS_MODULE"], "cwd": os.getcwd(),
        "url": request.build_absolute_uri(), "address": request.META["REMOTE_ADDR"],
        "port": request.META["SERVER_PORT"], "length": len(request.body),
        "user": os.getuid(), "pid": os.getpid(),
    })

urlpatterns = [path("show", show)]
"""
SETTINGS = """\
SECRET_KEY = "key"
ALLOWED_HOSTS = ["{name}.example.com"]
ROOT_URLCONF = "{name}.urls"
GREETING = "this is {name}"
"""
WSGI = """\
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{name}.settings")
application = get_wsgi_application()
"""


def shipped(name):
    with open(os.path.join(SHIPPED, name)) as file:
        return file.read()


class Site(Nginx):
    """The nginx of one site: site.conf with another name, run by the commands of the unit."""

    def __init__(self, name, color):
        super().__init__(workers=2)
        self.name = name
        shutil.copy(config.MODULE, f"{self.dir}/module.so")
        for module, text in {"__init__": "", "settings": SETTINGS, "wsgi": WSGI}.items():
            self.write(f"srv/src/{name}/{module}.py", text.format(name=name))
        self.write(f"srv/src/{name}/urls.py", URLS)
        venv.create(f"{self.dir}/srv/venv")
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = f"{self.dir}/srv/venv/lib/{version}/site-packages"
        for package in PACKAGES:
            source = os.path.dirname(importlib.util.find_spec(package).origin)
            shutil.copytree(source, f"{packages}/{package}",
                            ignore=shutil.ignore_patterns("LC_MESSAGES", "__pycache__"))
        self.write(f"{packages}/color.py", f"NAME = '{color}'\n")

    def render(self):
        text = shipped("site.conf").replace("blog", self.name)
        for place, ours in {
            "modules/ngx_http_wsgi_module.so": "module.so", f"/run/nginx-site-{self.name}": "",
            f"/var/log/nginx-site-{self.name}": "", f"/var/cache/nginx-site-{self.name}": "",
            f"/srv/{self.name}": "srv",
        }.items():
            assert place in text
            text = text.replace(place, f"{self.dir}/{ours}".rstrip("/"))
        return text

    def unit(self, key):
        """The commands of the unit under this key, with our paths."""
        for line in re.findall(f"^{key}=(.*)$", shipped("nginx-site@.service"), re.M):
            line = line.replace("%i", self.name).replace("$MAINPID", str(self.pid))
            line = line.replace(f"/etc/nginx/wsgi-sites/{self.name}.conf", self.conf)
            command = shlex.split(line.replace("/usr/sbin/nginx", config.BINARY))
            if os.getuid() == 0:
                nobody = pwd.getpwnam("nobody")
                command = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}",
                           "--clear-groups", *command]
            yield command

    def command(self, *args):
        for command in self.unit("ExecStartPre"):
            subprocess.run(command, check=True, timeout=30)
        (command,) = self.unit("ExecStart")
        return command

    def reload_by_unit(self):
        old = set(self.workers())
        for command in self.unit("ExecReload"):
            subprocess.run(command, check=True, timeout=30)
        until(lambda: len(set(self.workers()) - old) == 2 and not old & set(self.workers()), 15,
              "new workers after the reload")


@pytest.fixture(scope="module")
def sites():
    made = [Site("shop", "red"), Site("blog", "blue")]
    for site in made:
        site.start()
    yield made
    faults = [fault for site in made for fault in site.finish()]
    assert faults == []


@pytest.fixture(scope="module")
def front(sites, shared_nginx):
    text = shipped("front.conf")
    for site in sites:
        text = text.replace(f"/run/nginx-site-{site.name}", site.dir)
    listen = f"listen 127.0.0.1:@PORT2@; listen 127.0.0.1:@PORT3@ ssl; {tls.SERVER}"
    assert text.count("listen 80;") == 2
    return shared_nginx(http=text.replace("listen 80;", listen), wsgi=False,
                        prepare=lambda nginx: tls.make_certificate(nginx.dir))


def show(front, name, port="PORT2", path="/show", method="GET", headers=(), **options):
    headers = {"Host": f"{name}.example.com", **dict(headers)}
    answer = http.request(front.ports[port], method, path, headers=headers, **options)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_each_site_has_its_own_settings_virtualenv_and_environment(front, sites):
    user = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid()
    for site, color in zip(sites, ("red", "blue"), strict=True):
        found = show(front, site.name)
        assert found["greeting"] == f"this is {site.name}"
        assert found["settings"] == f"{site.name}.settings"
        assert found["color"] == color
        assert found["prefix"] == f"{site.dir}/srv/venv"
        assert found["cwd"] == f"{site.dir}/srv/src"
        assert found["pid"] in site.workers()
        assert found["user"] == user


@pytest.mark.parametrize("port, scheme", [("PORT2", "http"), ("PORT3", "https")])
def test_address_scheme_and_port_are_those_of_the_client(front, port, scheme):
    number = front.ports[port]
    headers = {
        "Host": f"shop.example.com:{number}", "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "gopher", "X-Forwarded-Port": "1",
    }
    found = show(front, "shop", port, headers=headers, tls=scheme == "https")
    assert found["url"] == f"{scheme}://shop.example.com:{number}/show"
    assert found["address"] == "127.0.0.1"
    assert found["port"] == str(number)


def test_a_body_passes_both(front):
    body = b"x" * 300_000
    found = show(front, "blog", method="POST", body=body, headers={"Content-Type": "text/plain"})
    assert found["length"] == len(body)


def test_a_reload_of_one_site_leaves_the_other_alone(front, sites):
    shop, blog = sites
    before = {site: site.workers() for site in sites}
    path = f"srv/src/{shop.name}/settings.py"
    shop.write(path, SETTINGS.format(name=shop.name).replace("this is", "this was"))
    shop.reload_by_unit()
    assert show(front, "shop")["greeting"] == "this was shop"
    assert show(front, "blog")["greeting"] == "this is blog"
    assert blog.workers() == before[blog] and not set(shop.workers()) & set(before[shop])
    shop.write(path, SETTINGS.format(name=shop.name))
    shop.reload_by_unit()
    assert show(front, "shop")["greeting"] == "this is shop"


def test_one_site_that_stops_does_not_stop_the_other(front, sites):
    shop, blog = sites
    blog.quit()
    headers = {"Host": "blog.example.com"}
    assert http.request(front.ports["PORT2"], "GET", "/show", headers=headers).status == 502
    assert show(front, "shop")["greeting"] == "this is shop"
    front.allow_alert(r"\[crit\].* connect\(\) to unix:.* failed")
    blog.spawn()
    assert show(front, "blog")["greeting"] == "this is blog"


def test_the_unit_is_one_that_systemd_understands():
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    unit = os.path.join(SHIPPED, "nginx-site@.service")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
