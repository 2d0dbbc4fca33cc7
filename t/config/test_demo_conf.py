"""The files of nginx-conf/ and the configuration in README.md as they are shipped.

They are started with only ports and places changed.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from lib import config, papers
from lib.nginx import Nginx
from lib.poll import until
from lib.websocket import TEXT, WebSocket

SHIPPED = os.path.join(config.ROOT, "nginx-conf")
MINIPROJECT = os.path.join(config.HERE, "apps/miniproject")
PLACES = config.PLACES + "    access_log access.log;\n    wsgi_temp_path wsgi;\n"


def shipped(name):
    with open(os.path.join(SHIPPED, name)) as file:
        return file.read()


class Shipped(Nginx):
    """An nginx whose configuration is given as a whole."""

    text = ""

    def render(self):
        return self.fill(self.text)


@pytest.fixture
def make_shipped(make_nginx):
    def make(text, workers=1):
        site = make_nginx(kind=Shipped, workers=workers)
        os.mkdir(f"{site.dir}/modules")
        os.symlink(config.MODULE, f"{site.dir}/modules/ngx_http_wsgi_module.so")
        assert text.count("127.0.0.1:8080") == 1
        text = text.replace("127.0.0.1:8080", "127.0.0.1:@PORT@")
        text = re.sub(r"^(error_log|pid) .*;$", "", text, flags=re.M)
        site.text = "daemon off; pid nginx.pid; error_log error.log info;\n" + text
        return site

    return make


def test_every_shipped_file_is_known_to_these_tests():
    # several-sites is test_several_sites'.
    assert sorted(os.listdir(SHIPPED)) == [
        "50-mod-http-wsgi.conf", "demo.conf", "minimal.conf", "several-sites", "wsgi_params",
    ]


def test_the_minimal_configuration_serves(make_shipped):
    # What it leaves to nginx's defaults lies where only the system's nginx should write.
    site = make_shipped(shipped("minimal.conf").replace("http {", "http {" + PLACES))
    site.start()
    response = site.get("/any?thing")
    assert response.status == 200
    assert response.body.startswith(b"Hello world!")
    assert b"QUERY_STRING = 'thing'" in response.body


def test_the_configuration_of_the_readme_serves(make_shipped):
    text = re.search(r"^    load_module (?:.|\n)*?\n    }\n", papers.read("README.md"), re.M)[0]
    assert text.count("\n") == 12
    site = make_shipped(text.replace("listen 9000;", "listen 127.0.0.1:8080;"))
    site.text = (site.text.replace("http {", "http {" + PLACES)
                 .replace("/srv/venv", sys.base_prefix).replace("/srv/src", f"{site.dir}/src"))
    site.write("src/miniproject/wsgi.py",
               "def application(environ, start_response):\n    start_response('200 OK', [])\n"
               "    return [b'of the project']\n")
    site.start()
    assert site.get("/").body == b"of the project"


def test_the_snippet_for_debian_loads_the_module(make_shipped):
    text = shipped("minimal.conf").replace("http {", "http {" + PLACES)
    load = "load_module modules/ngx_http_wsgi_module.so;"
    assert load in text
    site = make_shipped(text.replace(load, "include modules-enabled/*.conf;"))
    site.write("modules-enabled/50-mod-http-wsgi.conf", shipped("50-mod-http-wsgi.conf"))
    site.start()
    assert site.get("/").status == 200


def test_wsgi_params_can_be_included_and_its_examples_are_valid(make_nginx):
    site = make_nginx(
        server="""
            location /auth { return 204; }
            location /params {
                wsgi_app environ:bare;
                include wsgi_params;
                include examples;
            }
            location /plain { wsgi_app environ:bare; include wsgi_params; }
        """
    )
    text = shipped("wsgi_params")
    site.write("wsgi_params", text)
    examples = re.findall(r"^#\s+((?:wsgi_param|auth_request_set) (?!NAME)\S.*;)$", text, re.M)
    assert len(examples) > 3
    site.write("examples", "\n".join(examples))
    site.start()
    found = json.loads(site.get("/params").body)["values"]
    assert found["wsgi.url_scheme"] == "https"
    # As it is shipped it changes nothing: each var it lists is there without it.
    found = json.loads(site.post("/plain", b"x", headers={"Content-Type": "a/b"}).body)["values"]
    listed = re.findall(r"^#   ([A-Z_]+) {2,}", text, re.M)
    assert len(listed) > 12
    assert [name for name in listed if name not in found] == ["HTTPS"]


@pytest.fixture
def demo(make_shipped):
    text = shipped("demo.conf").replace("logs/access.log", "access.log")
    # The virtualenv lies where the checkout lies, which may be closed to another user.
    user = "user root;\n" if os.getuid() == 0 else ""
    site = make_shipped(user + text, workers=2)
    os.symlink(sys.prefix, f"{site.dir}/venv")
    shutil.copytree(MINIPROJECT, f"{site.dir}/project",
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    for name in ("tmp", "uploads"):
        os.mkdir(f"{site.dir}/{name}")
    settings = {
        "MINIPROJECT_DB": f"{site.dir}/db.sqlite3",
        "MINIPROJECT_SECRET_KEY": "only for this test",
        "MINIPROJECT_UPLOAD_DIR": f"{site.dir}/uploads",
    }
    site.write("settings/env.conf", "".join(f'wsgi_env {k} "{v}";\n' for k, v in settings.items()))
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True, timeout=50,
        cwd=f"{site.dir}/project", env=os.environ | settings,
    )
    found = subprocess.run(
        [sys.executable, "-c", "import django; print(django.__path__[0])"],
        check=True, capture_output=True, text=True, timeout=20,
    )
    os.symlink(f"{found.stdout.strip()}/contrib/admin/static", f"{site.dir}/static")
    return site.start()


def test_the_configuration_of_the_demo_serves_its_pages(demo):
    home = demo.get("/")
    assert home.status == 200
    assert str(demo.workers()[0]).encode() in home.body or str(demo.workers()[1]).encode() in (
        home.body
    )
    answer = demo.get("/miniProj/segment/querySegment")
    assert answer.status == 200
    json.loads(answer.body)
    assert demo.get("/admin/").status == 302
    assert demo.get("/admin/login/").status == 200
    style = demo.get("/static/admin/css/base.css")
    assert (style.status, style.header("Content-Type")) == (200, "text/css")
    assert demo.get("/stream/?lines=3&delay=0").end == "chunked"
    assert demo.get("/live/").status == 200


def test_the_configuration_of_the_demo_has_a_websocket(demo):
    assert demo.get("/live/socket").status == 400
    with WebSocket(demo.port) as client:
        client.open("/live/socket")
        client.say(TEXT, b"abc")
        heard = [client.hear()[1]]
        # The time comes each second, and the answer at some time.
        while len(heard) < 2 or b"says" not in b"".join(heard):
            heard.append(client.hear()[1])
        assert re.fullmatch(rb"\d\d:\d\d:\d\d", min(heard))
        assert re.fullmatch(rb"websocket-1 of worker \d+ says: cba", max(heard))


def test_the_configuration_of_the_demo_has_the_usual_extras(demo):
    assert demo.get("/project/.git/config").status == 404
    assert demo.get("/x/.svn/entries").status == 404
    demo.get("/favicon.ico")
    form = demo.get("/upload/")
    cookie = re.match(r"csrftoken=\w+", form.header("Set-Cookie")).group(0)
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', form.body).group(1)
    part = b'--line\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"csrfmiddlewaretoken", b"", token)
    body += part % (b"file", b'; filename="f"', b"x" * 5_000_000) + b"--line--\r\n"
    headers = {"Cookie": cookie, "Content-Type": "multipart/form-data; boundary=line"}
    response = demo.post("/upload/", body, headers=headers)
    assert response.status == 200
    assert re.search(rb"5[ ,.]?000[ ,.]?000", response.body)

    def logged():
        with open(f"{demo.dir}/access.log") as file:
            return file.read()

    until(lambda: "POST /upload/" in logged(), what="the upload in the access log")
    assert "favicon" not in logged()
