"""wsgi_reload: an edit is served soon, a slip does not end the service, nothing is done at rest."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from lib import config, http, procs
from lib.held import importing
from lib.load import Load
from lib.poll import elapse, until

APP = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"%s"]
"""
PACKAGE = """
from pkg.deep import text
def application(environ, start_response):
    start_response("200 OK", [])
    return [text.TEXT.encode()]
"""
LAZY = """
def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/lazy":
        import lazy
        return [lazy.TEXT.encode()]
    return [b"idle"]
"""
REPLACED = "is to be replaced"


@pytest.fixture
def start(make_nginx):
    """A site with these files, whose application is site/app.py or what target says."""

    def start(files, target="@DIR@/site/app.py", reload="on", server="", **options):
        site = make_nginx(
            http=f"wsgi_reload {reload}; wsgi_python_path @DIR@/site;" + options.pop("http", ""),
            server=server + f"location / {{ wsgi_app {target}; }}",
            main="thread_pool default threads=4;", **options,
        )
        for name, text in files.items():
            site.write(f"site/{name}", text)
        return site.start()

    return start


def overwrite(path, text):
    with open(path, "w") as file:
        file.write(text)


def replace(path, text):
    """As editors that write a new file and rename it."""
    overwrite(f"{path}.new", text)
    os.rename(f"{path}.new", path)


def keep_backup(path, text):
    """As editors that rename the old file and write a new one."""
    os.rename(path, f"{path}~")
    overwrite(path, text)


def shows(site, text, path="/", timeout=10):
    """Wait until path answers with text; how long it took."""
    begun = time.monotonic()
    until(lambda: site.get(path).text == text, timeout, f"{text!r} at {path}")
    return time.monotonic() - begun


def all_show(site, text):
    """Wait until every worker answers with text, as far as many requests tell."""
    begun = time.monotonic()
    until(lambda: {site.get("/").text for _ in range(30)} == {text}, 10, text)
    return time.monotonic() - begun


def has_inotify(pid):
    return any("inotify" in target for target in procs.fds(pid).values())


# ------- what is noticed


@pytest.mark.parametrize("save", [overwrite, replace, keep_backup])
def test_an_edit_of_a_file_is_served(start, save):
    site = start({"app.py": APP % "one"})
    assert site.get("/").text == "one"
    old = site.worker()
    save(f"{site.dir}/site/app.py", APP % "two")
    print(f"new text after {shows(site, 'two'):.3f} s")
    assert site.worker() != old
    (line,) = site.log.matching(REPLACED)
    assert f'"{site.dir}/site/app.py" has changed' in line and "[notice]" in line


def test_an_edit_of_a_file_of_any_name_is_served(start):
    """And of one whose compiled file would be that of app.py beside it."""
    site = start({"app.wsgi": APP % "one", "app.py": APP % "not"}, target="@DIR@/site/app.wsgi")
    assert site.get("/").text == "one"
    overwrite(f"{site.dir}/site/app.wsgi", APP % "two")
    shows(site, "two")
    overwrite(f"{site.dir}/site/app.wsgi", "import import")
    site.log.wait_for(r"app.wsgi\" has changed and is not used: it cannot be compiled")
    assert site.get("/").text == "two"


@pytest.mark.parametrize("touch", [os.utime, lambda path: os.close(os.open(path, os.O_WRONLY))])
def test_touching_a_file_reloads(start, touch):
    site = start({"app.py": APP % "one"})
    assert site.get("/").text == "one"
    old = site.worker()
    touch(f"{site.dir}/site/app.py")
    site.wait_respawn(old)
    assert site.get("/").text == "one"


def test_a_module_in_a_package_is_watched(start):
    site = start({"app.py": PACKAGE, "pkg/__init__.py": "", "pkg/deep/__init__.py": "",
                  "pkg/deep/text.py": "TEXT = 'one'\n"})
    shows(site, "one")
    overwrite(f"{site.dir}/site/pkg/deep/text.py", "TEXT = 'two'\n")
    shows(site, "two")
    overwrite(f"{site.dir}/site/pkg/deep/__init__.py", "from . import text\ntext.TEXT = 'three'\n")
    shows(site, "three")


def test_a_module_imported_inside_of_a_request_is_watched_from_then_on(start):
    site = start({"app.py": LAZY, "lazy.py": "TEXT = 'one'\n"})
    assert site.get("/").text == "idle"
    old = site.worker()
    # Nobody has loaded it yet.
    overwrite(f"{site.dir}/site/lazy.py", "TEXT = 'two'\n")
    assert site.get("/lazy").text == "two"
    elapse(0.5)
    assert site.worker() == old
    overwrite(f"{site.dir}/site/lazy.py", "TEXT = 'three'\n")
    shows(site, "three", "/lazy")
    assert len(site.log.matching(REPLACED)) == 1


def test_what_is_not_loaded_does_not_matter(start):
    site = start({"app.py": APP % "one", "other.py": ""})
    assert site.get("/").text == "one"
    for name in ("other.py", "app.py.swp", "note.txt", "new.py"):
        overwrite(f"{site.dir}/site/{name}", "x = 1\n")
    os.mkdir(f"{site.dir}/site/directory")
    elapse(0.5)
    assert site.log.matching(REPLACED) == []


def test_a_link_and_what_it_leads_to_are_watched(start):
    site = start({"app.py": "from linked import application\n", "real/one.py": APP % "one",
                  "real/other.py": APP % "other"})
    assert site.get("/").status == 500
    os.symlink("real/one.py", f"{site.dir}/site/linked.py")
    os.utime(f"{site.dir}/site/app.py")
    shows(site, "one")
    overwrite(f"{site.dir}/site/real/one.py", APP % "two")
    shows(site, "two")
    os.symlink("real/other.py", f"{site.dir}/site/new")
    os.rename(f"{site.dir}/site/new", f"{site.dir}/site/linked.py")
    shows(site, "other")


def test_a_directory_that_is_replaced_is_a_change(start):
    site = start({"app.py": PACKAGE, "pkg/__init__.py": "", "pkg/deep/__init__.py": "",
                  "pkg/deep/text.py": "TEXT = 'one'\n", "next/__init__.py": "",
                  "next/deep/__init__.py": "", "next/deep/text.py": "TEXT = 'two'\n"})
    shows(site, "one")
    shutil.rmtree(f"{site.dir}/site/pkg")
    os.rename(f"{site.dir}/site/next", f"{site.dir}/site/pkg")
    shows(site, "two")
    overwrite(f"{site.dir}/site/pkg/deep/text.py", "TEXT = 'three'\n")
    shows(site, "three")


@pytest.mark.alone
def test_many_files_at_once_are_one_reload(start):
    names = [f"m{number}" for number in range(200)]
    site = start({"app.py": f"import {', '.join(names)}\n" + APP % "one"}
                 | {f"{name}.py": "" for name in names})
    assert site.get("/").text == "one"
    # It sees them all at once, however long it takes to write them.
    site.signal("STOP", site.worker())
    for name in names:
        overwrite(f"{site.dir}/site/{name}.py", "x = 1\n")
    site.signal("CONT", site.worker())
    site.log.wait_for(rf"{REPLACED}.*has changed, and 199 more")
    elapse(0.5)
    assert len(site.log.matching(REPLACED)) == 1


def test_an_edit_while_the_application_is_imported_is_not_missed(make_nginx):
    site = make_nginx(http="wsgi_reload on; wsgi_python_path @DIR@/site;",
                      server="location / { wsgi_app @DIR@/site/app.py; }")
    site.write("site/app.py", "import slow\n" + APP % "one")
    site.write("site/slow.py", "import gate\ngate.wait('import')\n")
    gate = importing(site)
    overwrite(f"{site.dir}/site/app.py", APP % "two")
    gate.open()
    shows(site, "two")


# ------- slips


def test_a_syntax_error_leaves_the_last_good_code_serving(start):
    site = start({"app.py": APP % "one"})
    shows(site, "one")
    old = site.worker()
    overwrite(f"{site.dir}/site/app.py", "def application(:\n")
    site.log.wait_for("SyntaxError: invalid syntax")
    site.log.wait_for(r'app\.py" has changed and is not used')
    assert (site.get("/").text, site.worker()) == ("one", old)
    # Another save of the same is not told again.
    os.utime(f"{site.dir}/site/app.py")
    elapse(0.5)
    assert len(site.log.matching("SyntaxError")) == 1
    overwrite(f"{site.dir}/site/app.py", APP % "two")
    shows(site, "two")


def test_a_good_file_does_not_hide_a_bad_one(start):
    site = start({"app.py": "import a, b\n" + APP % "one", "a.py": "", "b.py": ""})
    shows(site, "one")
    overwrite(f"{site.dir}/site/a.py", "(")
    site.log.wait_for("SyntaxError")
    overwrite(f"{site.dir}/site/b.py", "x = 1\n")
    elapse(0.5)
    assert site.log.matching(REPLACED) == []
    # A file that is gone is wrong no more; that it is missing the import says.
    os.unlink(f"{site.dir}/site/a.py")
    os.utime(f"{site.dir}/site/b.py")
    site.log.wait_for("No module named 'a'")


@pytest.mark.parametrize("slip", ["import nowhere_to_be_found\n", "undefined_name\n",
                                  "import bad\n"])
def test_an_import_error_is_told_and_its_repair_is_noticed(start, slip):
    site = start({"app.py": APP % "one", "bad.py": "def (\n"})
    shows(site, "one")
    overwrite(f"{site.dir}/site/app.py", slip + APP % "two")
    until(lambda: site.get("/").status == 500, what="the error")
    # The back-off has become longer.
    until(lambda: len(site.log.matching("could not be loaded")) >= 1, what="the failure")
    name = "bad.py" if "bad" in slip else "app.py"
    overwrite(f"{site.dir}/site/{name}", APP % "three")
    print(f"mended after {shows(site, 'two' if name == 'bad.py' else 'three', timeout=5):.3f} s")


def test_a_module_that_was_missing_is_noticed(start):
    site = start({"app.py": "from new.sub import TEXT\n" + APP % "one"})
    site.log.wait_for("No module named 'new'")
    os.mkdir(f"{site.dir}/site/new")
    site.log.wait_for("No module named 'new.sub'")
    overwrite(f"{site.dir}/site/new/sub.py", "TEXT = 1\n")
    shows(site, "one", timeout=5)


def test_a_module_that_fails_inside_of_a_request_is_noticed_when_mended(start):
    site = start({"app.py": LAZY, "lazy.py": "undefined_name\n"})
    assert site.get("/lazy").status == 500
    overwrite(f"{site.dir}/site/lazy.py", "TEXT = undefined\n")
    site.log.wait_for(REPLACED)
    until(lambda: site.get("/lazy").status == 500)
    overwrite(f"{site.dir}/site/lazy.py", "TEXT = 'mended'\n")
    shows(site, "mended", "/lazy")


def test_a_request_that_hangs_does_not_keep_an_edit_from_being_compiled(start):
    site = start({"app.py": "from gate import wait\n" + LAZY.replace("import lazy", "wait('hung')")
                  .replace("[lazy.TEXT.encode()]", "[b'old code']")})
    gate = site.gate("hung")
    clients = [site.connect() for _ in range(4)]
    for client in clients:
        client.send(http.build("GET", "/lazy"))
    site.wait_event("waiting hung", count=4)
    overwrite(f"{site.dir}/site/app.py", APP % "two")
    site.log.wait_for(REPLACED)
    gate.open()
    assert {client.read_response().text for client in clients} == {"old code"}
    shows(site, "two")


# ------- several workers, load


def test_all_workers_have_the_new_code_soon(start):
    site = start({"app.py": APP % "one"}, workers=3)
    shows(site, "one")
    for number in range(3):
        overwrite(f"{site.dir}/site/app.py", APP % number)
        print(f"new text of three workers after {all_show(site, str(number)):.3f} s")


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_fails_while_code_is_edited(start, workers):
    site = start({"app.py": APP % "one"}, workers=workers)
    shows(site, "one")
    with Load(site.port, "/", 3) as load:
        for number in range(10):
            # A worker may start at any moment: it must not find the file empty.
            replace(f"{site.dir}/site/app.py", APP % number)
            all_show(site, str(number))
    assert load.failures() == []
    print(f"{len(load.answers)} requests, 10 edits, slowest {load.slowest:.3f} s")


def test_a_silent_connection_does_not_hold_up_the_new_worker(start):
    site = start({"app.py": APP % "one"})
    shows(site, "one")
    with site.connect() as client:
        site.barrier()
        overwrite(f"{site.dir}/site/app.py", APP % "two")
        assert shows(site, "two") < 5
        client.read_to_end()


# ------- at rest


def switches(pid):
    with open(f"/proc/{pid}/status") as file:
        text = file.read()
    return [int(line.split()[1]) for line in text.split("\n") if "ctxt_switches" in line]


def test_nothing_is_done_at_rest(start):
    site = start({"app.py": APP % "one"})
    shows(site, "one")
    worker = site.worker()
    assert has_inotify(worker)
    elapse(0.3)
    site.settle()
    before = switches(worker)
    elapse(2)
    assert switches(worker)[0] == before[0]


def test_nothing_is_watched_without_the_directive(start):
    site = start({"app.py": APP % "one"}, reload="off")
    shows(site, "one")
    assert not has_inotify(site.worker())
    overwrite(f"{site.dir}/site/app.py", APP % "two")
    elapse(0.5)
    assert site.log.matching(REPLACED) == []


def test_a_forked_child_has_no_descriptor_of_the_watch(start):
    site = start({"app.py": """
import os
def application(environ, start_response):
    read, write = os.pipe()
    if os.fork() == 0:
        # It may import, which tells nobody.
        import wave
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{fd}")]
        os.write(write, repr([link for link in links if "inotify" in link]).encode())
        os._exit(0)
    os.close(write)
    os.wait()
    start_response("200 OK", [])
    return [os.read(read, 1000)]
"""})
    assert has_inotify(site.worker())
    assert site.get("/").text == "[]"


def test_without_a_master_it_does_nothing_and_says_so(make_nginx):
    site = make_nginx(apps=["plain"], http="wsgi_reload on;", master=False)
    code, said = site.test_config()
    assert code == 0
    assert re.search(r'\[warn\] .*"wsgi_reload" does nothing with "master_process off"', said)
    site.start()
    assert site.get("/plain").status == 200
    assert not has_inotify(site.worker())


# ------- limits


@pytest.mark.parametrize("limit, most, said", [
    ("instances", 0, r"changes are not noticed: .*fs\.inotify\.max_user_instances"),
    ("watches", 5,
     r"no watch is left \(fs\.inotify\.max_user_watches\): changes in \S+ and in more"),
])
def test_a_limit_of_inotify_is_told_and_all_is_served(make_nginx, limit, most, said):
    """nginx in a user namespace of its own, whose limits are nobody else's."""
    within = ["unshare", "-Ur", "sh", "-c",
              f'echo {most} > /proc/sys/user/max_inotify_{limit} && exec "$@"', "sh"]
    if subprocess.run([*within, "true"], capture_output=True).returncode != 0:
        pytest.skip("no user namespaces here")
    site = make_nginx(http="wsgi_reload on;", main="user root;",
                      server="location / { wsgi_app @DIR@/site/app.py; }")
    site.write("site/app.py", APP % "one")
    command = site.command
    site.command = lambda *args: [*within, *command(*args)]
    site.allow_alert("initgroups")  # There is but one group.
    site.start()
    assert site.get("/").text == "one"
    (line,) = site.log.wait_for(f"wsgi_reload: {said}")
    assert "[error]" in line


def test_a_directory_that_cannot_be_watched_is_named(start):
    if os.getuid() != 0:
        pytest.skip("needs root, which gives the workers another user")
    site = start({"app.py": "import hidden\n" + APP % "one", "dir/hidden.py": ""},
                 http="wsgi_python_path @DIR@/site/dir;")
    os.chmod(f"{site.dir}/site/dir", 0o711)
    # Found by its name only with this.
    overwrite(f"{site.dir}/site/app.py",
              f"exec(open('{site.dir}/site/dir/hidden.py').read())\n"
              "import importlib.util as u\n"
              f"s = u.spec_from_file_location('h', '{site.dir}/site/dir/hidden.py')\n"
              "s.loader.exec_module(u.module_from_spec(s))\n" + APP % "two")
    shows(site, "two")
    site.log.wait_for(rf'wsgi_reload: changes in "{site.dir}/site/dir" are not noticed: Permission')


# ------- Django


def test_a_view_of_the_demo_is_served_within_a_second_of_its_save(make_nginx):
    site = make_nginx(
        http=f"wsgi_reload on; wsgi_chdir @DIR@/site/miniproject; wsgi_python_home {sys.prefix};",
        server="location / { wsgi_app miniproject.wsgi:application; }",
        # The virtualenv lies where the checkout lies, which may be closed to another user.
        main="thread_pool default threads=4;" + ("user root;" if os.getuid() == 0 else ""),
    )
    shutil.copytree(f"{config.HERE}/apps/miniproject", f"{site.dir}/site/miniproject")
    path = f"{site.dir}/site/miniproject/miniproject/views.py"
    site.start()
    assert site.get("/").status == 200
    with open(path) as file:
        text = file.read()
    times = []
    for number in range(3):
        overwrite(path, text + f"\ndef home(request):\n"
                  f"    from django.http import HttpResponse\n"
                  f"    return HttpResponse('edit {number}')\n")
        times.append(shows(site, f"edit {number}"))
    print("Django, save to first response:", ", ".join(f"{each:.3f} s" for each in times))
    # An error that Django answers by itself, while it looks for the view.
    overwrite(path, "undefined_name\n" + text)
    until(lambda: site.get("/").status == 500, what="the error")
    overwrite(path, text)
    until(lambda: site.get("/").status == 200, 5, "the repair")
