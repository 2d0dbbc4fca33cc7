"""wsgi_app paste:/path/file.ini#name: applications that a file of PasteDeploy describes."""

import os
import re
import sys

import pytest
from lib.errorlog import message

INI = """\
[app:main]
paste.app_factory = pasted:main
greeting = of %(here)s, and 100%%

[app:other]
paste.app_factory = pasted:main
greeting = the other one

[app:pyramid]
paste.app_factory = pasted:pyramid

[app:installed]
use = egg:shop

[pipeline:both ways]
pipeline = louder main

[filter:louder]
paste.filter_factory = pasted:louder

[app:asgi]
paste.app_factory = pasted:asgi
"""
LOGGING = """
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = short
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = short
[formatter_short]
format = %(levelname)s as %(here)s has it: %(message)s
"""
PASTED = """\
import logging

logging.getLogger("early")


def main(global_config, greeting):
    def application(environ, start_response):
        logging.getLogger("early").info("asked")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{greeting}; {global_config['__file__']}".encode()]
    return application


def louder(global_config):
    def wrap(application):
        return lambda *args: [chunk.upper() for chunk in application(*args)]
    return wrap


def pyramid(global_config, **settings):
    from pyramid.config import Configurator
    from pyramid.response import Response
    config = Configurator(settings=settings)
    config.add_route("hello", "/{name}")
    config.add_view(lambda request: Response("hello " + request.matchdict["name"]),
                    route_name="hello")
    return config.make_wsgi_app()


def asgi(global_config):
    async def application(scope, receive, send):
        pass
    return application
"""


@pytest.fixture
def site(make_nginx):
    """start(target, ...): each at /0, /1 ...; the file lies at @DIR@/site/a b+/site.ini."""
    def start(*targets, ini=INI, home=sys.prefix, **options):
        places = "".join(f"location /{n} {{ wsgi_app '{target}'; }}"
                         for n, target in enumerate(targets))
        home = f"wsgi_python_home {home};" if home else ""
        # The virtualenv lies where the checkout lies, which may be closed to another user.
        site = make_nginx(server=places, http=f"{home} wsgi_chdir @DIR@/site;",
                          main="user root;" if os.getuid() == 0 else "", **options)
        site.write("site/pasted.py", PASTED)
        site.write("site/a b+/site.ini", ini)
        # As pip leaves it.
        site.write("site/shop-1.0.dist-info/METADATA",
                   "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
        site.write("site/shop-1.0.dist-info/entry_points.txt",
                   "[paste.app_factory]\nmain = pasted:pyramid\n")
        return site
    return start


WHERE = "@DIR@/site/a b+"


def test_applications_of_a_file_are_served(site):
    site = site(f"paste:{WHERE}/site.ini", "paste:site/a b+/site.ini#other",
                f"paste:{WHERE}/site.ini#both ways", f"paste:{WHERE}/site.ini#pyramid",
                f"paste:{WHERE}/site.ini#installed").start()
    folder = site.fill(WHERE)
    main = f"of {folder}, and 100%; {folder}/site.ini".encode()
    assert site.get("/0").body == main
    assert site.get("/1").body == f"the other one; {folder}/site.ini".encode()
    assert site.get("/2").body == main.upper()
    assert site.get("/3").body == b"hello 3"
    assert site.get("/4").body == b"hello 4"


def test_the_logging_of_a_file_is_set_up(site):
    site = site(f"paste:{WHERE}/site.ini", ini=INI + LOGGING.replace("%(here)s", "site")).start()
    site.get("/0")
    (line,) = site.log.wait_for("asked")
    assert message(line) == "INFO as site has it: asked"


def test_a_file_may_log_to_a_file_beside_it(site):
    ini = INI + LOGGING.replace("%(here)s", "").replace(
        "class = StreamHandler\nargs = (sys.stderr,)",
        "class = FileHandler\nargs = ('%(here)s/app.log',)")
    site = site(f"paste:{WHERE}/site.ini", ini=ini)
    os.chmod(f"{site.dir}/site/a b+", 0o777)
    site.start()
    site.get("/0")
    with open(f"{site.dir}/site/a b+/app.log") as file:
        assert file.read() == "INFO as  has it: asked\n"


@pytest.mark.parametrize("target, said", [
    ("paste:@DIR@/site/nowhere.ini", r"nowhere.ini\": No such file"),
    ("paste:@DIR@/site", r"/site\" is not a file"),
    ("paste:site.ini", r"\"site.ini\" is not /path/file.ini or /path/file.ini#name"),
    ("paste:@DIR@/site/x.ini#", "is not /path/file.ini or /path/file.ini#name"),
    ("paste", "a target of PasteDeploy is paste:/path/file.ini"),
])
def test_a_slip_is_found_by_nginx_t(site, target, said):
    site = site(target)
    status, text = site.test_config()
    assert status == 1
    assert re.search(rf'\[emerg\].*{said}.* in {site.conf}:\d+', text), text


@pytest.mark.parametrize("target, said", [
    (f"paste:{WHERE}/site.ini#nobody", "LookupError: No section 'nobody'"),
    (f"paste:{WHERE}/site.ini#asgi", "it is an ASGI application"),
])
def test_what_cannot_be_loaded_is_told(site, target, said):
    site = site(target).start()
    assert site.get("/0").status == 500
    site.log.wait_for(re.escape(said))


def test_a_missing_pastedeploy_is_told(site):
    site = site(f"paste:{WHERE}/site.ini", home="").start()
    assert site.get("/0").status == 500
    (line,) = site.log.wait_for("ImportError: ")
    assert message(line) == (f"ImportError: {site.fill(WHERE)}/site.ini needs PasteDeploy,"
                             " which is not installed")
