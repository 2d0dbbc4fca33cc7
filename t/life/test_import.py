"""Loading applications: in time, in every form, and when it goes wrong."""

import os
import sys

import pytest
from lib import http
from lib.held import importing
from lib.poll import until
from lib.sources import HELLO

PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
needs_root = pytest.mark.skipif(
    os.getuid() != 0, reason="needs root, which gives the workers another user"
)


def test_static_files_are_served_while_an_application_is_imported(make_nginx):
    site = make_nginx(apps=["gated_import"])
    gate = importing(site)
    with site.ask("/gated_import") as client:
        for _ in range(10):
            site.barrier()
        assert client.silent(0.1)
        gate.open()
        assert client.read_response().body == b"imported at last"
    assert site.events("importing") == ["importing"]


def test_many_requests_wait_for_the_import_and_all_are_answered(make_nginx):
    site = make_nginx(apps=["gated_import"])
    gate = site.gate("import")
    site.start()
    clients = [site.connect() for _ in range(100)]
    for client in clients:
        client.send(http.build("GET", "/gated_import"))
    site.barrier()
    gate.open()
    for client in clients:
        assert client.read_response().body == b"imported at last"
    assert len(site.events("importing")) == 1


def importing_for_two_pools(make_nginx):
    """A site in the middle of an import that /one and /two wait for; the gate."""
    site = make_nginx(
        main="thread_pool one threads=1; thread_pool two threads=1;",
        server="""
            location = /one { wsgi_app gated_import; wsgi_thread_pool one; }
            location = /two { wsgi_app gated_import; wsgi_thread_pool two; }
        """,
    )
    gate = importing(site)
    return site, gate


def test_a_factory_is_called_once_for_all_locations_that_name_it(nginx):
    site = nginx(server="""
        location /one { wsgi_app factory:make(); }
        location /two { wsgi_app factory:make(); }
    """)
    for path in ("/one", "/two"):
        assert site.get(path).body == b"made by a factory"
    assert site.events("made") == ["made"]


def test_a_request_in_another_pool_waits_for_the_import_too(make_nginx):
    site, gate = importing_for_two_pools(make_nginx)
    clients = [site.connect() for _ in range(2)]
    for client, path in zip(clients, ["/one", "/two"], strict=True):
        client.send(http.build("GET", path))
    site.barrier()
    gate.open()
    for client in clients:
        assert client.read_response().body == b"imported at last"


BROKEN = {
    "syntax error": ("def application(:\n", "SyntaxError"),
    "import error": ("import no_such_module_at_all\n", "ModuleNotFoundError.*no_such_module"),
    "exception": ("raise ValueError('at import')\n", "ValueError: at import"),
    "exit": ("import sys\nsys.exit(2)\n", "SystemExit"),
    "exit in silence": ("raise SystemExit\n", "SystemExit"),
    "no application": ("app = 1\n", "application"),
    "not callable": ("application = 5\n", "callable"),
    "base exception": ("class Own(BaseException): pass\nraise Own('odd')\n", "Own: odd"),
}


def broken_site(make_nginx, text, **options):
    site = make_nginx(
        server="location /broken { wsgi_app broken; }", apps=["plain"],
        http="wsgi_chdir @DIR@/site;", **options,
    )
    site.write("site/broken.py", text)
    return site


@pytest.mark.parametrize("what", BROKEN)
def test_an_application_that_cannot_be_imported_is_500_and_the_rest_is_served(make_nginx, what):
    text, logged = BROKEN[what]
    site = broken_site(make_nginx, text).start()
    site.log.wait_for(rf"\[error\].*{logged}")
    for _ in range(3):
        assert site.get("/broken").status == 500
        assert site.get("/static").body == b"static"
        assert site.get("/plain").body == b"plain"


def test_the_traceback_of_an_import_is_logged_line_by_line(make_nginx):
    site = broken_site(make_nginx, "def inner():\n    raise ValueError('deep')\ninner()\n").start()
    site.log.wait_for(r"\[error\] .*: Traceback \(most recent call last\):")
    site.log.wait_for(rf'\[error\] .*File "{site.dir}/site/broken\.py", line 2, in inner')
    site.log.wait_for(r"\[error\] .*ValueError: deep")


def test_a_missing_module_is_500(nginx):
    site = nginx(server="location / { wsgi_app no.such.package:app; }")
    site.log.wait_for(r"\[error\].*ModuleNotFoundError.*'no'")
    assert site.get("/x").status == 500


def test_a_repaired_application_heals_without_a_reload(make_nginx):
    site = broken_site(make_nginx, "raise ValueError('broken')\n").start()
    assert site.get("/broken").status == 500
    site.write("site/broken.py", HELLO.format("healed"))
    until(lambda: site.get("/broken").body == b"healed", 20, "the application heals")
    assert site.get("/broken").body == b"healed"


def test_a_broken_import_is_not_tried_again_by_every_request(make_nginx):
    text = "from record import record\nrecord('tried')\nraise ValueError('broken')\n"
    site = broken_site(make_nginx, text).start()
    site.wait_event("tried")
    for _ in range(100):
        assert site.get("/broken").status == 500
    site.log.wait_for(r'is not loaded, next try in .*, request: "GET /broken ')
    # The first second belongs to the first try; a slow machine may get into the second.
    assert len(site.events("tried")) <= 3


def test_a_broken_import_does_not_burn_cpu_or_fill_the_log(make_nginx):
    site = broken_site(make_nginx, "raise ValueError('broken')\n").start()
    site.log.wait_for("ValueError: broken")
    for _ in range(50):
        site.get("/broken")
    assert len(site.log.matching("ValueError: broken")) <= 3


FORMS = {
    "factory": b"an object",
    "factory:application": b"an object",
    "factory:inner": b"a method",
    "factory:make()": b"made by a factory",
    "@DIR@/site/app.py": b"file",
    "@DIR@/site/app.py:application": b"file",
    "@DIR@/site/app.py:other": b"other",
    "@DIR@/site/app.py:make()": b"made",
    "site/app.py": b"file",
    "package.module": b"in a package",
    "package.module:application": b"in a package",
    "@DIR@/site/my-app.v1.py": b"odd name",
}
APP = HELLO.format("file") + HELLO.format("other").replace("application", "other") + (
    HELLO.format("made").replace("application", "inner") + "def make():\n    return inner\n"
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_wsgi_app(make_nginx, form):
    site = make_nginx(server=f"location / {{ wsgi_app {form}; }}",
                      http="wsgi_python_path @DIR@/lib;")
    site.write("site/app.py", APP)
    site.write("site/my-app.v1.py", HELLO.format("odd name"))
    site.write("lib/package/__init__.py", "")
    site.write("lib/package/module.py", HELLO.format("in a package"))
    site.start()
    assert site.get("/x").body == FORMS[form]
    assert len(site.events("made")) == (form == "factory:make()")


@pytest.mark.parametrize(
    "form, logged",
    [("factory:number", "callable"), ("factory:fails()", "ValueError: the factory fails"),
     ("factory:gives_nothing()", "callable"), ("factory:absent", "absent"),
     ("factory:number()", "callable")],
)
def test_a_target_that_is_no_application_is_500_and_says_why(nginx, form, logged):
    site = nginx(server=f"location / {{ wsgi_app {form}; }}")
    site.log.wait_for(rf"\[error\].*{logged}")
    assert site.get("/x").status == 500


def test_files_of_the_same_name_are_different_applications(make_nginx):
    site = make_nginx(server="""
        location /one { wsgi_app @DIR@/one/wsgi.py; }
        location /two { wsgi_app @DIR@/two/wsgi.py; }
    """)
    for name in ("one", "two"):
        site.write(f"{name}/wsgi.py", HELLO.format(name))
    site.start()
    assert site.get("/one").body == b"one"
    assert site.get("/two").body == b"two"


def test_the_directory_of_a_file_is_not_put_on_sys_path(make_nginx):
    site = make_nginx(server="location / { wsgi_app @DIR@/site/app.py; }")
    site.write("site/app.py", "import neighbour\n")
    site.write("site/neighbour.py", "")
    site.start()
    site.log.wait_for("ModuleNotFoundError.*neighbour")
    assert site.get("/x").status == 500


def test_applications_of_several_servers_share_one_interpreter(nginx):
    site = nginx(
        apps=["place", "local"],
        http="server { listen 127.0.0.1:@PORT2@; location / { wsgi_app place:application; } }",
    )
    one, two = site.get("/place"), site.get("/", port=site.ports["PORT2"])
    assert one.status == two.status == 200
    assert site.get("/local").status == 200


def test_requests_for_an_application_behind_a_slow_import_wait_for_it(make_nginx):
    site = make_nginx(apps=["gated_import", "plain"])
    gate = importing(site)
    with site.ask("/plain") as client:
        for _ in range(10):
            site.barrier()
        assert client.silent(0.1)
        gate.open()
        assert client.read_response().body == b"plain"
    assert site.get("/gated_import").body == b"imported at last"


def test_large_extension_modules_load(make_nginx):
    site = make_nginx(server="location / { wsgi_app @DIR@/site/app.py; }")
    imports = "import ctypes, decimal, hashlib, json, sqlite3, ssl, zlib, asyncio, lzma\n"
    site.write("site/app.py", imports + HELLO.format("loaded"))
    assert site.start().get("/x").body == b"loaded"


@needs_root
def test_a_home_that_the_workers_user_cannot_read_is_500_and_says_so(make_nginx):
    site = make_nginx(apps=["plain"], http="wsgi_python_home @DIR@/venv;")
    os.makedirs(f"{site.dir}/venv/lib/{PYTHON}/site-packages")
    os.makedirs(f"{site.dir}/venv/bin")
    site.write("venv/pyvenv.cfg", "home = /usr/bin\n")
    os.chmod(f"{site.dir}/venv", 0o700)
    site.start()
    assert site.get("/plain").status == 500
    site.log.wait_for(rf"\[error\].*{site.dir}/venv.*([Pp]ermission|read)")
    assert site.get("/static").body == b"static"


@needs_root
def test_a_file_that_the_workers_user_cannot_read_is_500_and_says_so(make_nginx):
    site = make_nginx(server="location / { wsgi_app @DIR@/site/secret.py; }")
    site.write("site/secret.py", HELLO.format("secret"))
    os.chmod(f"{site.dir}/site/secret.py", 0o600)
    site.start()
    assert site.get("/x").status == 500
    site.log.wait_for(r"\[error\].*Permission denied.*secret\.py")


ASGI = """
from pages import application as wsgi
class Asgi:
    async def __call__(self, scope, receive, send):
        pass
asgi = Asgi()
def make(*args, **options):
    return asgi
class Adapter:
    def __init__(self, app):
        self.app = app
    def __call__(self, environ, start_response):
        start_response("200 OK", [])
        return [b"adapted"]
adapted = Adapter(asgi)
"""


@pytest.mark.parametrize("target", ["asgi", "make()", "make('x', debug=True)"])
def test_an_asgi_application_is_refused_when_it_is_loaded(make_nginx, target):
    site = make_nginx(server=f"location / {{ wsgi_app \"@DIR@/site/both.wsgi:{target}\"; }}"
                             " location /good { wsgi_app @DIR@/site/both.wsgi:adapted; }")
    site.write("site/both.wsgi", ASGI)
    site.start()
    # Not at a request, and not as an application that takes the wrong arguments.
    (line,) = site.log.wait_for("is an ASGI application")
    assert "TypeError: " in line and "a2wsgi.ASGIMiddleware" in line and "proxy_pass" in line
    assert site.get("/good").body == b"adapted"
    assert site.get("/").status == 500
    assert not site.log.matching("missing 1 required positional argument")
    status, said = site.test_config()
    assert status == 1 and "is an ASGI application" in said


def test_django_s_asgi_application_is_refused(make_nginx):
    site = make_nginx(
        http=f"wsgi_python_home {sys.prefix}; wsgi_env DJANGO_SETTINGS_MODULE settings;"
             " wsgi_chdir @DIR@/site;",
        server="location / { wsgi_app django.core.asgi:get_asgi_application(); }",
        main="user root;" if os.getuid() == 0 else "",
    )
    site.write("site/settings.py", "SECRET_KEY = 'x'\n")
    site.start()
    site.log.wait_for(r"TypeError: what it returns is an ASGI application.*wsgi.py, not asgi.py")


def test_a_factory_gets_its_arguments(make_nginx):
    site = make_nginx(server="""location / {
        wsgi_app '@DIR@/site/made.py:make("prod; {}", [1, None], debug=False)';
    }""")
    site.write("site/made.py", """
def make(*args, **options):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [repr((args, options)).encode()]
    return application
""")
    site.start()
    assert site.get("/").text == "(('prod; {}', [1, None]), {'debug': False})"
