"""Two sites in one interpreter: what would be served wrongly is refused, or said in the log.

Refused by nginx -t is what the configuration alone shows; a line at [error] tells what the imports
have brought to light. As important: no word about sites that get on with each other.
"""

import os
import py_compile
import re
import shutil
import sys

import pytest
from lib.held import ONE

# Each module answers with its own file and that of the settings it has got.
PLAIN = """\
{line}
import os, sys
def application(environ, start_response):
    start_response("200 OK", [])
    got = sys.modules.get("settings")
    return [f"{{__file__}} {{got and got.__file__}}".encode()]
"""
DJANGO_WSGI = """\
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
application = get_wsgi_application()
"""
DJANGO_SETTINGS = """\
SECRET_KEY = "key"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "{package}.urls"
GREETING = "this is {name}"
"""
DJANGO_URLS = """\
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("<path:any>", lambda request, any: HttpResponse(settings.GREETING))]
"""


def django(site, folder, package, name=None):
    """A Django project whose pages say who it is."""
    settings = DJANGO_SETTINGS.format(package=package, name=name or package)
    for module, text in {
        "__init__": "", "settings": settings, "urls": DJANGO_URLS,
        "wsgi": DJANGO_WSGI.format(settings=f"{package}.settings"),
    }.items():
        site.write(f"{folder}/{package}/{module}.py", text)


def locations(*targets):
    """/0, /1 ... for the applications, on a pool with one thread: imported in this order."""
    return "\n".join(
        f"location = /{n} {{ wsgi_thread_pool one; wsgi_app {target}; }}"
        for n, target in enumerate(targets)
    )


def make(make_nginx, targets, wsgi="wsgi_python_path @DIR@/a @DIR@/b;"):
    # The virtualenv lies where the checkout lies, which may be closed to another user.
    main = ONE + (" user root;" if os.getuid() == 0 else "")
    site = make_nginx(main=main, wsgi=f"wsgi_python_home {sys.prefix}; {wsgi}",
                      server=locations(*targets))
    return site


def started(site, count):
    """Start it, and see all applications imported; the answers."""
    site.start()
    # The last one answers when all have been imported.
    return [site.get(f"/{n}") for n in reversed(range(count))][::-1]


def told(site):
    site.barrier()
    return site.log.matching("does not get its|conflict")


def is_quiet(site, count=2):
    for answer in started(site, count):
        assert answer.status == 200, site.log.text()
    code, said = site.test_config()
    assert code == 0 and "[warn]" not in said and "[emerg]" not in said, said
    assert told(site) == []
    assert site.log.matching(r"\[(error|warn)\]") == []


# -- what would be served wrongly


def test_the_second_of_two_django_projects_with_settings_of_their_own_is_named(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "blog.wsgi"])
    django(site, "a", "shop")
    django(site, "b", "blog")
    answers = started(site, 2)
    # Why it has to be said: nothing else shows it.
    assert [answer.body for answer in answers] == [b"this is shop"] * 2
    (line,) = told(site)
    assert "[error]" in line
    assert 'wsgi_app "blog.wsgi:application" does not get its settings' in line
    assert f'{site.dir}/b/blog/wsgi.py:3 sets DJANGO_SETTINGS_MODULE to "blog.settings"' in line
    assert 'Django runs with "shop.settings" of wsgi_app "shop.wsgi:application"' in line


def test_applications_in_files_of_any_name_are_looked_at_too(make_nginx):
    site = make(make_nginx, ["@DIR@/a/site.wsgi", "@DIR@/b/site.wsgi"])
    django(site, "a", "shop")
    django(site, "b", "blog")
    for folder, name in ("a", "shop"), ("b", "blog"):
        site.write(f"{folder}/site.wsgi", DJANGO_WSGI.format(settings=f"{name}.settings"))
    answers = started(site, 2)
    assert [answer.body for answer in answers] == [b"this is shop"] * 2
    (line,) = told(site)
    assert f'wsgi_app "{site.dir}/b/site.wsgi:application" does not get its settings' in line


def test_settings_that_are_assigned_are_no_different(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "blog.wsgi"])
    django(site, "a", "shop")
    django(site, "b", "blog")
    text = DJANGO_WSGI.replace('.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")',
                               '["DJANGO_SETTINGS_MODULE"] = "blog.settings"')
    site.write("b/blog/wsgi.py", text)
    assert started(site, 2)[1].body == b"this is shop"
    assert "does not get its settings" in told(site)[0]


def test_settings_that_a_neighbour_of_the_module_chooses_count_as_its_own(make_nginx):
    site = make(make_nginx, ["shop", "blog"])
    for folder, package in (("a", "shop"), ("b", "blog")):
        django(site, folder, package)
        site.write(f"{folder}/{package}/__init__.py", "from .wsgi import application\n")
    assert started(site, 2)[1].body == b"this is shop"
    (line,) = told(site)
    assert "/b/blog/wsgi.py:3 sets" in line


def test_two_settings_of_one_project_are_no_different(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "shop.admin"])
    django(site, "a", "shop")
    site.write("a/shop/admin.py", DJANGO_WSGI.format(settings="shop.admin_settings"))
    assert started(site, 2)[1].body == b"this is shop"
    (line,) = told(site)
    assert 'admin.py:3 sets DJANGO_SETTINGS_MODULE to "shop.admin_settings"' in line


@pytest.mark.parametrize("text", [
    "from {name}.wsgi import application\n",
    "from {name}.wsgi import application as found\napplication = found\n",
    "import {name}.wsgi\napplication = {name}.wsgi.application\n",
    "import {name}.wsgi as site\napplication = site.application\n",
    "from {name} import wsgi\napplication = wsgi.application\n",
    "from {name}.wsgi import *\n",
    "from {name}.again import application\n",
    "from {name}.made import make\napplication = make()\n",
    "from {name}.wsgi import application\n"
    "def wrapped(app):\n    return lambda *args: app(*args)\napplication = wrapped(application)\n",
])
def test_a_file_that_only_imports_its_application_is_no_different(make_nginx, text):
    site = make(make_nginx, ["@DIR@/www/shop.py", "@DIR@/www/blog.py"])
    for folder, package in (("a", "shop"), ("b", "blog")):
        django(site, folder, package)
        site.write(f"{folder}/{package}/again.py", "from .wsgi import application\n")
        site.write(f"{folder}/{package}/made.py",
                   "def make():\n    from .wsgi import application\n    return application\n")
        site.write(f"www/{package}.py", text.format(name=package))
    # Why it has to be said: nothing else shows it.
    assert [answer.body for answer in started(site, 2)] == [b"this is shop"] * 2
    (line,) = told(site)
    assert f'wsgi_app "{site.dir}/www/blog.py:application" does not get its settings' in line
    assert f'{site.dir}/b/blog/wsgi.py:3 sets DJANGO_SETTINGS_MODULE to "blog.settings"' in line
    assert f'Django runs with "shop.settings" of wsgi_app "{site.dir}/www/shop.py' in line
    code, said = site.test_config()
    assert code == 1 and "does not get its settings" in said


def test_one_that_chooses_and_one_that_only_imports_are_no_different(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "blog_wsgi"])
    django(site, "a", "shop")
    django(site, "b", "blog")
    site.write("b/blog_wsgi.py", "from blog.wsgi import application\n")
    assert [answer.body for answer in started(site, 2)] == [b"this is shop"] * 2
    assert 'wsgi_app "blog_wsgi:application" does not get its settings' in told(site)[0]


def test_two_settings_are_wished_for_and_neither_is_used(make_nginx):
    # Whoever has chosen the third, each project would run with settings that are not its own.
    site = make(make_nginx, ["shop.wsgi", "blog.wsgi"],
                "wsgi_python_path @DIR@/a @DIR@/b @DIR@/c;")
    django(site, "c", "third")
    for folder, name in (("a", "shop"), ("b", "blog")):
        django(site, folder, name)
        text = "import early\n" + DJANGO_WSGI.format(settings=f"{name}.settings")
        site.write(f"{folder}/{name}/wsgi.py", text)
    site.write("c/early.py", "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'third.settings'\n")
    assert [answer.body for answer in started(site, 2)] == [b"this is third"] * 2
    lines = told(site)
    assert len(lines) == 2 and all('Django runs with "third.settings"' in line for line in lines)
    assert not any("of wsgi_app" in line for line in lines)


def test_two_django_projects_with_one_name_of_settings_are_named(make_nginx):
    site = make(make_nginx, ["@DIR@/a/config/wsgi.py", "@DIR@/b/config/wsgi.py"])
    django(site, "a", "config", "the shop")
    django(site, "b", "config", "the blog")
    assert [answer.body for answer in started(site, 2)] == [b"this is the shop"] * 2
    (line,) = told(site)
    assert 'config/wsgi.py:application" does not get its module "config.settings"' in line
    assert f"/b/config/wsgi.py:3 names it for {site.dir}/b/config/settings.py" in line
    assert f"but gets {site.dir}/a/config/settings.py of wsgi_app" in line


@pytest.mark.parametrize("wsgi, targets", [
    ("wsgi_python_path @DIR@/a @DIR@/b;", ["a_app", "b_app"]),
    ("wsgi_python_path @DIR@/a @DIR@/b;", ["b_app", "a_app"]),
    ("wsgi_chdir @DIR@/a; wsgi_python_path @DIR@/b;", ["a_app", "b_app"]),
    ("wsgi_python_path @DIR@/a @DIR@/b;", ["@DIR@/a/a_app.py", "@DIR@/b/b_app.py"]),
    ("wsgi_python_path @DIR@/a;", ["a_app", "@DIR@/b/b_app.py"]),
])
@pytest.mark.parametrize("line", [
    "import settings", "from settings import NAME", "def later(): import settings",
])
def test_a_module_of_another_application_s_directory_is_named(make_nginx, wsgi, targets, line):
    site = make(make_nginx, targets, wsgi)
    for name in "ab":
        site.write(f"{name}/settings.py", f"NAME = '{name}'\n")
    site.write("a/a_app.py", PLAIN.format(line="import settings"))
    site.write("b/b_app.py", PLAIN.format(line=line))
    for answer in started(site, 2):
        assert answer.body.endswith(f" {site.dir}/a/settings.py".encode())
    (found,) = told(site)
    assert 'does not get its module "settings"' in found
    assert f"{site.dir}/b/b_app.py:1 names it for {site.dir}/b/settings.py" in found


def test_one_module_name_in_two_directories_is_refused(make_nginx):
    site = make(make_nginx, ["config.wsgi", "config.wsgi:application"])
    django(site, "a", "config", "the shop")
    django(site, "b", "config", "the blog")
    code, said = site.test_config()
    assert code == 1
    (line,) = [line for line in said.split("\n") if "[emerg]" in line]
    assert (f'"wsgi_app" "config.wsgi:application" is in both "{site.dir}/a/config/wsgi.py" and '
            f'"{site.dir}/b/config/wsgi.py"') in line
    number = int(line.rsplit(":", 1)[1])
    with open(site.conf) as file:
        assert file.read().split("\n")[number - 1].startswith("location = /1 ")


@pytest.mark.parametrize("module", ["app.py", "app/__init__.py"])
def test_it_is_refused_for_packages_and_with_wsgi_chdir(make_nginx, module):
    site = make(make_nginx, ["app", "app"], "wsgi_chdir @DIR@/a; wsgi_python_path @DIR@/b;")
    site.write("a/app.py", PLAIN.format(line=""))
    site.write(f"b/{module}", PLAIN.format(line=""))
    code, said = site.test_config()
    assert code == 1 and "is in both" in said


def test_a_reload_to_a_second_project_is_refused_and_a_test_says_so(make_nginx):
    site = make(make_nginx, ["shop.wsgi"])
    django(site, "a", "shop")
    django(site, "b", "blog")
    site.start()
    worker = site.worker()
    site.write_config(server=locations("shop.wsgi", "blog.wsgi"))
    code, said = site.test_config(write=False)
    (line,) = [line for line in said.split("\n") if "[emerg]" in line]
    assert code == 1 and 'wsgi_app "blog.wsgi:application" does not get its settings' in line
    assert re.search(rf", in {site.conf}:\d+$", line)
    site.expect_alert(r"\[emerg\].*does not get its settings")
    site.signal("HUP")
    site.log.wait_for(r"\[emerg\].*does not get its settings")
    assert site.worker() == worker
    assert site.get("/0").body == b"this is shop"
    # No server runs, and none should start with this.
    site.stop()
    code, said = site.test_config(write=False)
    assert code == 1 and "does not get its settings" in said


# -- what is fine


def test_a_django_project_served_by_two_locations_is_fine(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "shop.wsgi", "@DIR@/a/shop/wsgi.py", "shop.again"])
    django(site, "a", "shop")
    shutil.copy(f"{site.dir}/a/shop/wsgi.py", f"{site.dir}/a/shop/again.py")
    is_quiet(site, 4)


@pytest.mark.parametrize("text", [
    "from shop.wsgi import application\n", "from shop.again import application\n",
    "import shop.wsgi\napplication = shop.wsgi.application\n",
])
def test_two_files_that_import_one_django_project_are_fine(make_nginx, text):
    site = make(make_nginx, ["@DIR@/www/one.py", "@DIR@/www/two.py", "shop.wsgi"])
    django(site, "a", "shop")
    site.write("a/shop/again.py", "from .wsgi import application\n")
    for name in ("one", "two"):
        site.write(f"www/{name}.py", text)
    is_quiet(site, 3)


def test_a_tool_that_imports_code_which_could_choose_settings_is_fine(make_nginx):
    # Nobody calls the function, and the class is no application's.
    site = make(make_nginx, ["shop.wsgi", "tool"])
    django(site, "a", "shop")
    choice = "import os\n{indent}os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'x.settings')\n"
    site.write("b/library.py", "class Application:\n"
               "    def __call__(self, environ, start_response):\n"
               "        start_response('200 OK', [])\n        return [b'tool']\n"
               "    def django(self):\n        " + choice.format(indent=" " * 8)
               + "def by_hand():\n    " + choice.format(indent=" " * 4))
    site.write("b/tool.py", "from library import Application\napplication = Application()\n")
    is_quiet(site)


def test_a_directory_given_twice_or_by_a_link_is_fine(make_nginx):
    wsgi = "wsgi_chdir @DIR@/a; wsgi_python_path @DIR@/a @DIR@/current;"
    site = make(make_nginx, ["shop.wsgi", "shop.wsgi", "@DIR@/current/shop/wsgi.py"], wsgi)
    django(site, "a", "shop")
    os.symlink(f"{site.dir}/a", f"{site.dir}/current")
    is_quiet(site, 3)


def test_django_and_flask_side_by_side_are_fine(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "tool"])
    django(site, "a", "shop")
    site.write("b/tool.py", "import flask\napplication = flask.Flask(__name__)\n"
                            "application.route('/1')(lambda: 'flask')\n")
    is_quiet(site)


def test_two_modules_of_a_project_with_a_celery_module_are_fine(make_nginx):
    # celery.py comes first and has another default; it would also without the second location.
    site = make(make_nginx, ["shop.wsgi", "shop.admin"])
    django(site, "a", "shop")
    site.write("a/shop/__init__.py", "from . import celery\n")
    site.write("a/shop/celery.py", "import os\n"
               "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n")
    for name in ("wsgi", "admin"):
        site.write(f"a/shop/{name}.py", DJANGO_WSGI.format(settings="shop.production"))
    is_quiet(site)


def test_settings_that_wsgi_env_has_chosen_for_all_are_fine(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "blog.wsgi"],
                "wsgi_python_path @DIR@/a @DIR@/b; wsgi_env DJANGO_SETTINGS_MODULE shop.settings;")
    django(site, "a", "shop")
    django(site, "b", "blog")
    is_quiet(site)


def test_settings_that_only_a_start_by_hand_would_choose_are_fine(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "tool"])
    django(site, "a", "shop")
    line = ("if __name__ == '__main__':\n    import os\n"
            "    os.environ['DJANGO_SETTINGS_MODULE'] = 'tool.settings'")
    site.write("b/tool.py", PLAIN.format(line=line))
    is_quiet(site)


@pytest.mark.parametrize("line", [
    "", "try:\n    from . import settings\nexcept ImportError:\n    pass",
    "if __name__ == '__main__':\n    import settings",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import settings",
    "import os.path as settings",
])
def test_a_module_of_a_taken_name_that_nobody_asks_for_is_fine(make_nginx, line):
    site = make(make_nginx, ["a_app", "b_app"])
    for name in "ab":
        site.write(f"{name}/settings.py", "")
    site.write("a/a_app.py", PLAIN.format(line="import settings"))
    site.write("b/b_app.py", PLAIN.format(line=line))
    is_quiet(site)


def test_files_of_one_name_are_fine_and_so_is_a_module_of_that_name(make_nginx):
    targets = ["@DIR@/a/wsgi.py", "@DIR@/b/wsgi.py", "wsgi"]
    site = make(make_nginx, targets)
    for name in "ab":
        site.write(f"{name}/wsgi.py", PLAIN.format(line=""))
    is_quiet(site, 3)
    bodies = [site.get(f"/{n}").body.split()[0].decode() for n in range(3)]
    assert bodies == [f"{site.dir}/{name}/wsgi.py" for name in "aba"]


def test_a_directory_in_front_that_replaces_a_module_is_fine(make_nginx):
    site = make(make_nginx, ["shop.wsgi", "tool"],
                "wsgi_python_path @DIR@/over @DIR@/a @DIR@/b;")
    django(site, "a", "shop")
    for folder in ("over", "b"):
        site.write(f"{folder}/settings.py", "")
    site.write("b/tool.py", PLAIN.format(line="import settings"))
    is_quiet(site)


def test_a_library_of_one_name_with_the_application_is_fine(make_nginx):
    # Not an application: it does not even have the callable.
    site = make(make_nginx, ["app", "app"])
    site.write("a/app.py", PLAIN.format(line=""))
    site.write("b/app/__init__.py", "VERSION = 1\n")
    is_quiet(site)


def test_one_location_may_take_the_first_of_two_modules(make_nginx):
    site = make(make_nginx, ["app"])
    site.values["SERVER"] = "location = /0 { wsgi_app app; limit_except GET { deny all; }" \
                            " if ($arg_x) { wsgi_param A b; } }"
    for folder in "ab":
        site.write(f"{folder}/app.py", PLAIN.format(line=""))
    is_quiet(site, 1)


def test_an_application_without_its_source_is_no_conflict(make_nginx):
    site = make(make_nginx, ["a_app", "b_app"])
    for name in "ab":
        site.write(f"{name}/settings.py", "")
        source = site.write(f"{name}/{name}_app.py", PLAIN.format(line="import settings"))
    py_compile.compile(source, f"{site.dir}/b/b_app.pyc")
    os.unlink(source)
    is_quiet(site)


def test_a_module_that_loads_itself_when_it_is_touched_is_left_alone(make_nginx):
    site = make(make_nginx, ["a_app", "b_app"])
    line = """\
import importlib.util, sys
spec = importlib.util.find_spec("never")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["never"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["never"])
"""
    site.write("a/never.py", "raise RuntimeError('touched')\n")
    site.write("a/a_app.py", PLAIN.format(line=line))
    site.write("b/b_app.py", PLAIN.format(line="import collections.abc"))
    is_quiet(site)


def test_packages_of_a_virtualenv_in_a_project_s_directory_are_for_all(make_nginx):
    site = make(make_nginx, ["a_app", "@DIR@/b/b_app.py"], "wsgi_chdir @DIR@/a;")
    packages = f"{site.dir}/a/venv/lib/site-packages"
    site.write(f"{packages}/helper.py", "")
    site.write("b/helper.py", "")
    line = f"import sys; sys.path.append('{packages}'); import helper"
    site.write("a/a_app.py", PLAIN.format(line=line))
    site.write("b/b_app.py", PLAIN.format(line="import helper"))
    is_quiet(site)


def test_a_module_that_both_have_by_a_link_is_fine(make_nginx):
    site = make(make_nginx, ["a_app", "b_app"])
    for name in "ab":
        site.write(f"{name}/{name}_app.py", PLAIN.format(line="import settings"))
    os.symlink(site.write("a/settings.py", ""), f"{site.dir}/b/settings.py")
    is_quiet(site)
