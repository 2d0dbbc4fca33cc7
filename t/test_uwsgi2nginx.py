"""scripts/uwsgi2nginx: what it writes is accepted by nginx and serves, whatever the file says."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from lib import config
from lib.tls import make_certificate
from lib.uwsgi import INIS, Converted, convert, directives, known, text_of

FILES = sorted(name for name in os.listdir(INIS) if name != "included.ini")
MINIPROJECT = os.path.join(config.HERE, "apps/miniproject")


@pytest.fixture
def make():
    made = []

    def make_site(ini, *options, **rest):
        site = Converted(ini, *options, **rest)
        made.append(site)
        furnish(site)
        return site

    yield make_site
    faults = [fault for site in made for fault in site.finish()]
    assert faults == []


def furnish(site):
    """What the ini files of t/uwsgi expect in $(SITE)."""
    make_certificate(f"{site.dir}/site")
    site.write("site/static/x.txt", "static")
    site.write("site/static/index.html", "index")
    site.write("site/static/robots.txt", "robots")
    site.write("site/public/page.html", "page")
    site.write("site/public/folder/index.html", "folder")


def project(site):
    os.mkdir(f"{site.dir}/site/uploads")
    shutil.copytree(MINIPROJECT, f"{site.dir}/site/project",
                    ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    settings = {"MINIPROJECT_DB": f"{site.dir}/site/db.sqlite3",
                "MINIPROJECT_SECRET_KEY": "only for this test"}
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True,
                   timeout=50, cwd=f"{site.dir}/site/project", env=os.environ | settings)


def told(response):
    assert response.status == 200, response
    return json.loads(response.body)


# ------- the ini files of t/uwsgi


@pytest.mark.parametrize("name", FILES)
def test_nginx_accepts_what_is_written(make, name):
    site = make(name)
    if name == "classic.ini":
        project(site)
    status, said = site.test_config()
    assert (status, "test is successful" in said) == (0, True), f"{said}\n{site.text}"
    # Who is not root is told that the user is of no use.
    assert "[warn]" not in said or os.getuid() != 0, said


@pytest.mark.parametrize("name", FILES)
def test_the_module_has_every_directive_that_is_written(make, name):
    missing = [each for each in directives(make(name).convert()) if not known(each)]
    if missing:
        pytest.xfail("not in the module yet, left out when it serves: " + ", ".join(missing))


def test_an_unknown_directive_is_seen_as_such():
    assert known("wsgi_app")
    assert not known("wsgi_no_such_directive")


@pytest.mark.parametrize("name", FILES)
def test_each_option_is_a_directive_or_a_comment(make, name):
    """Every line of the file shows: its option in a comment, or its value in a directive."""
    text = make(name).convert()
    with open(f"{INIS}/{name}", encoding="utf-8") as file:
        lines = re.sub(r"%\n", "", file.read()).splitlines()
    comments = " ".join(line.strip("# ") for line in text.splitlines() if "# " in line)
    written = set(re.findall(r"^ *(\w+) ", text, re.M))
    carried = {
        "http-socket": "listen", "http": "listen", "https": "listen", "http-to-https": "return",
        "chdir": "wsgi_chdir", "home": "wsgi_python_home", "virtualenv": "wsgi_python_home",
        "module": "wsgi_app", "wsgi-file": "wsgi_app", "callable": "wsgi_app", "mount": "wsgi_app",
        "pythonpath": "wsgi_python_path", "processes": "worker_processes",
        "workers": "worker_processes", "threads": "thread_pool", "uid": "user", "gid": "user",
        "disable-logging": "access_log", "post-buffering": "client_body_buffer_size",
        "buffer-size": "large_client_header_buffers", "limit-post": "client_max_body_size",
        "listen": "wsgi_queue", "harakiri": "wsgi_request_timeout",
        "max-requests": "wsgi_max_requests", "max-requests-delta": "wsgi_max_requests",
        "reload-on-rss": "wsgi_max_rss", "http-timeout": "wsgi_read_timeout",
        "static-map": "alias", "static-map2": "root", "check-static": "root",
        "static-index": "index", "add-header": "add_header", "del-header": "wsgi_hide_header",
        "logto": "error_log", "pidfile": "pid", "log-format": "log_format", "env": "wsgi_env",
        "py-autoreload": "wsgi_reload", "umask": "wsgi_umask",
    }
    obeyed = ("if-", "for", "end", "ini", "set-placeholder")
    section = checked = 0
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line in ("[uwsgi]", "[common]")
        if not section or not line or line[0] in "[;#":
            continue
        key, _, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if key.startswith(obeyed) or value == "/nowhere/at/all" or "WRONG" in value:
            continue
        checked += 1
        done = carried.get(key) in written or (key == "py-autoreload" and value == "0")
        assert done or re.search(rf"{name}:\d+: {re.escape(key)}\b", comments), f"{line}\n{text}"
    assert checked > 1


def test_the_classic_file_serves_the_django_project(make):
    site = make("classic.ini", workers=2)
    site.options = ("--listen", f"127.0.0.1:{site.port}")
    project(site)
    site.start()
    assert site.get("/").status == 200
    assert site.get("/admin/").status == 302
    assert json.loads(site.get("/miniProj/segment/querySegment").body) is not None
    assert "thread_pool wsgi threads=4;" in site.text
    assert "client_body_buffer_size 65536;" in site.text
    assert "access_log off;" in site.text
    assert "was how nginx reached uWSGI" in site.text


def test_users_are_those_of_the_file(tmp_path):
    (tmp_path / "u.ini").write_text("[uwsgi]\nuid = root\ngid = 0\nsocket = :1\n")
    assert "\nuser root root;\n" in text_of("u.ini", cwd=tmp_path)
    (tmp_path / "u.ini").write_text("[uwsgi]\nuid = no-such-user\ngid = 0\nsocket = :1\n")
    text = text_of("u.ini", cwd=tmp_path)
    assert "there is no such user here" in text
    assert "\nuser" not in text


def test_the_smallest_file_serves(make):
    site = make("smallest.ini").start()
    found = told(site.get("/any/path?query"))
    assert found["cwd"] == INIS
    assert (found["multithread"], found["multiprocess"]) == (False, False)
    assert found["environ"]["QUERY_STRING"] == "query"
    # uWSGI has no limit for bodies.
    assert told(site.post("/", b"x" * 2_000_000))["body"] == 2_000_000


def test_mounts_have_their_script_name(make):
    site = make("mounts.ini").start()
    for path, application, script, info in [
        ("/", "application", "", "/"), ("/apis/x", "application", "", "/apis/x"),
        ("/api", "other", "/api", ""), ("/api/x", "other", "/api", "/x"),
        ("/api/deeper/x", "made", "/api/deeper", "/x"), ("/api/deep", "other", "/api", "/deep"),
    ]:
        found = told(site.get(path))
        assert (found["application"], found["environ"]["SCRIPT_NAME"],
                found["environ"]["PATH_INFO"]) == (application, script, info), path
    assert site.get("/static/x.txt").body == b"static"


def test_flask_with_a_log_format_of_its_own(make):
    site = make("flask.ini").start()
    assert site.get("/hello/you?q=1").body == b"hello you 1"
    assert site.get("/hello/you", headers={"X-Long": "x" * 20000}).status == 200
    assert "nginx has no %(vars)" in site.text
    assert ('log_format uwsgi "$remote_addr \\"$request_method $request_uri $server_protocol\\"'
            ' $status $body_bytes_sent $request_time -";') in site.text


def test_placeholders_are_replaced(make):
    site = make("placeholders.ini")
    for name in ("first", "second"):
        os.mkdir(f"{site.dir}/site/{name}")
    site.start()
    found = told(site.get("/"))
    environ, path = found["os.environ"], f"{INIS}/placeholders.ini"
    assert environ["FILE"] == f"{path}|{INIS}/|placeholders.ini|placeholders|ini|uwsgi|"
    assert environ["PERCENT"] == "100% of it"
    # A % at the end of a line swallows the line feed.
    assert environ["JOINED"] == "oneenv = UNKNOWN=%(nothing) $(NOTHING_SET)"
    assert "UNKNOWN" not in environ
    assert environ["CORES"] == "33"
    places = [found["path"].index(f"{site.dir}/site/{name}") for name in ("second", "first")]
    assert places == sorted(places)
    assert "$(NOTHING_SET) is not set here" in " ".join(site.text.replace("#", "").split())


def test_conditions_loops_and_includes_are_obeyed(make):
    site = make("conditions.ini").start()
    environ = told(site.get("/"))["os.environ"]
    assert environ["SITE_IS"] == f"{site.dir}/site"
    assert environ["INCLUDED"] == "included.ini from conditions.ini"
    assert (environ["LETTER_a"], environ["LETTER_b"]) == ("aa", "bb")
    assert "WRONG" not in environ
    assert "if-env = NOTHING_SET: does not hold here" in site.text


def test_static_files_come_before_the_application(make):
    site = make("static.ini").start()
    assert site.get("/page.html").body == b"page"
    assert site.get("/folder").body == b"folder"
    assert site.get("/files/x.txt").body == b"static"
    assert site.get("/files/").body == b"index"
    assert site.get("/robots.txt").body == b"robots"
    assert site.get("/static/x.txt").body == b"static"
    assert told(site.get("/other"))["environ"]["PATH_INFO"] == "/other"
    assert site.get("/files/../page.html").body == b"page"
    assert site.get("/files../uwsgi.ini").status == 200  # the application, no file


def test_the_production_file_serves(make):
    site = make("production.ini", workers=2).start()
    response = site.get("/")
    assert told(response)["multiprocess"]
    assert response.header("X-Served") == 'yes; "really"'
    assert response.header("X-Powered-By") is None
    assert site.post("/", b"x" * 10_485_761).status == 413
    for line in ("wsgi_max_requests 5000 jitter=20;", "wsgi_max_rss 512m;", "wsgi_queue 100;",
                 "wsgi_request_timeout 90s;", "wsgi_read_timeout 300s;",
                 f"pid {site.dir}/site/uwsgi.pid;", f"error_log {site.dir}/site/uwsgi.log;"):
        assert line in site.text
    assert "wsgi_reload" not in site.text


def test_tls_and_its_redirect(make):
    site = make("tls.ini").start()
    response = site.get("/", tls=True)
    assert told(response)["environ"]["HTTPS"] == "on"
    moved = site.get("/x?y", port=site.ports["PORT2"], headers={"Host": "name"})
    assert (moved.status, moved.header("Location")) == (301, "https://name/x?y")


def test_a_file_from_windows_keeps_its_values(make):
    environ = told(make("windows.ini").start().get("/"))["os.environ"]
    assert environ["QUOTED"] == '"kept as it is"'
    assert environ["COMMENT"] == "value ; no comment"
    assert environ["EQUALS"] == "a=b=c"
    assert environ["BACKSLASH"] == 'C:\\dir\\new "x"'
    assert environ["NAME"] == "Jürgen €"
    assert environ["EMPTY"] == ""


def test_threads_stand_in_for_an_event_loop(make):
    site = make("loop.ini").start()
    assert told(site.get("/"))["multithread"]
    assert "thread_pool wsgi threads=16;" in site.text
    assert "WebSocket is not supported" in site.text


def test_without_an_application_the_answer_is_503(make):
    site = make("paste.ini").start()
    assert site.get("/").status == 503
    assert "loadapp" in site.text


# ------- files that cannot be read


@pytest.mark.parametrize("content, line, why", [
    (b"", 1, "no options in a section [uwsgi]"),
    (b"not an ini file\nat all\n", 1, "no options in a section [uwsgi]"),
    (b"[uwsgi]\n", 1, "no options in a section [uwsgi]"),
    (b"\n[other]\na = 1\n", 2, "line 2: [other]"),
    (b"[uwsgi] ; comment\na = 1\n", 1, "no options in a section [uwsgi]"),
    (b"[uwsgi]\na = \0\n", 2, "null byte"),
    (bytes(range(256)) * 100, 1, "null byte"),
    (b"[uwsgi]\nini = file.ini\n", 2, "includes itself"),
    (b"[uwsgi]\nini = :uwsgi\n", 2, "includes itself"),
    (b"[uwsgi]\na = 1\ninclude = absent.ini\n", 3, "No such file"),
    (b"[uwsgi]\ninclude = /\n", 2, "only ini files are read here"),
    (b"[uwsgi]\nini = /\n", 2, "Is a directory"),
    (b"[uwsgi]\nyaml = site.yaml\n", 2, "only ini files are read here"),
    (b"[uwsgi]\ninclude = site.xml\n", 2, "only ini files are read here"),
    (b"[uwsgi]\nif-env = A\nif-env = B\n", 2, "no end"),
    (b"[uwsgi]\nfor = a\nfor = b\nendfor =\n", 3, "uWSGI refuses that too"),
    (b"[uwsgi]\nfor-times = 99999999\na = 1\n", 2, "too often"),
    (b"[uwsgi]\na = @(absent)\n", 2, "No such file"),
    (b"[uwsgi]\nset-placeholder = x\n", 2, "no NAME=VALUE"),
    (b"[uwsgi]\na = x%(b)\nb = x%(a)\n", 2, "placeholders never end"),
])
def test_what_cannot_be_read_is_an_error_with_its_line(tmp_path, content, line, why):
    (tmp_path / "file.ini").write_bytes(content)
    done = convert("file.ini", cwd=tmp_path)
    if why == "no end":
        # An if inside of another is only its text; the open one is remarked upon.
        assert done.returncode == 0
        assert "has no end" in done.stdout.decode()
        return
    assert done.returncode == 1
    assert done.stdout == b""
    said = done.stderr.decode()
    assert said.startswith(f"uwsgi2nginx: file.ini:{line}: "), said
    assert why in said and said.count("\n") == 1


@pytest.mark.parametrize("name, why", [
    ("absent.ini", "No such file"), (".", "Is a directory"), ("absent.ini:part", "No such file"),
    (":part", "no file is named"), ("x" * 5000, "File name too long"),
])
def test_a_file_that_is_not_there_is_an_error(tmp_path, name, why):
    done = convert(name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert why in done.stderr.decode() and "Traceback" not in done.stderr.decode()


def test_includes_in_a_ring_are_an_error(tmp_path):
    (tmp_path / "a.ini").write_text("[uwsgi]\nini = b.ini\n")
    (tmp_path / "b.ini").write_text("[uwsgi]\nx = 1\nini = a.ini\n")
    done = convert("a.ini", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("uwsgi2nginx: b.ini:3: ini = a.ini: includes itself")


# ------- values that would like to be more than values

EVIL = [
    "x; } } daemon on; http { server { listen 1", 'x"; evil on; "', "x'; evil on; '", "\\", '\\"',
    "a\\nevil on;", "${evil}", "$evil", "# evil", "evil {", "}", "x\tevil\ton;", "é€\u202e\u2028x",
    "x" * 5000, "\x1b[31m", "\x7f", "\udcff\udcfe", "", " ", "-1", "99999999999999999999999",
    "/", "//", "..", "*", "~ ^/", "= /x", "/x=/y=/z", "/x y={}", "/=;", "a:b:c", "0", "on",
    "127.0.0.1:99999", "[::1]:x", "unix:/x;y", "fd://0", "1.5", "a=b; evil on;", "X: y\\",
]
KEYS = """
    chdir module wsgi-file callable home pythonpath env mount static-map static-map2 check-static
    static-index socket http-socket http https http-to-https processes threads listen harakiri
    max-requests max-requests-delta reload-on-rss post-buffering buffer-size limit-post uid gid
    logto pidfile log-format req-logger logger add-header del-header http-timeout max-fd plugins
    manage-script-name evil-reload-on-rss daemonize protocol route cron paste unknown py-autoreload
""".split()
OURS = re.compile(r"(wsgi|worker|client|large|error|access|log|add|ssl|server|proxy|default)_\w+"
                  r"|load_module|thread_pool|events|http|server|location|listen|user|pid|sendfile"
                  r"|include|alias|root|index|try_files|return")


def words(text):
    """The directives and blocks nginx sees, read as it reads: quotes, escapes, comments."""
    found, token, quote, escaped, comment, started = [], "", "", False, False, False
    first = True
    for char in text:
        if comment:
            comment = char != "\n"
        elif escaped:
            token, escaped = token + char, False
        elif char == "\\":
            escaped, started, token = True, True, token + char
        elif quote:
            if char == quote:
                quote = ""
            token += char
        elif char in "\"'" and not started:
            quote, started, token = char, True, char
        elif char == "#" and not started:
            comment = True
        elif char in " \t\r\n;{}":
            if started:
                if first:
                    found.append(token)
                first, token, started = False, "", False
            if char in ";{}":
                first = True
        else:
            token, started = token + char, True
    assert not quote and not escaped
    return found


@pytest.mark.parametrize("key", KEYS)
def test_no_value_breaks_out_of_its_argument(tmp_path, key):
    for number, value in enumerate(EVIL):
        lines = ["[uwsgi]", "module = told", f"{key} = {value.replace('%', '%%')}"]
        (tmp_path / "e.ini").write_text("\n".join(lines) + "\n", encoding="utf-8",
                                        errors="surrogateescape")
        # In one process each, a start of Python would be the larger part of the time.
        text = converted(tmp_path, "e.ini")
        for name in words(text):
            assert OURS.fullmatch(name), f"{number}: {value!r} became {name!r}\n{text}"
        assert all(len(os.fsencode(line)) < 4096 for line in text.split("\n"))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", re.sub(r'"(\\.|[^"\\])*"', "", text))


def converted(cwd, name):
    sys.path.insert(0, os.path.join(config.ROOT, "scripts/lib"))
    try:
        from uwsgi2nginx.ini import Reader
        from uwsgi2nginx.site import Site
    finally:
        sys.path.pop(0)
    reader = Reader(str(cwd), {})
    reader.read(name)
    return Site(reader, name, module=config.MODULE, listen=[]).text()


@pytest.mark.parametrize("key", ["env", "add-header", "static-map", "mount", "log-format", "chdir"])
def test_nginx_reads_hostile_values_as_values(make, key):
    """All at once: nginx itself accepts the file, and what it accepts it gives on."""
    values = [value for value in EVIL if value.strip()]
    prefix = {"env": "N{}=", "add-header": "X-N{}: ", "static-map": "/n{}=", "mount": "/n{}="}
    lines = ["[uwsgi]", "http-socket = 127.0.0.1:$(PORT)", "wsgi-file = $(APPS)/told.py"]
    lines += [key + " = " + prefix.get(key, "").format(number) + value
              for number, value in enumerate(values)]
    if key == "chdir":
        lines.append("chdir = /")
    site = make("hostile.ini")
    site.cwd = site.dir
    site.write("hostile.ini", ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    site.start()
    response = site.get("/")
    environ = told(response)["os.environ"]
    for number, value in enumerate(values):
        if key == "env" and len(value) < 4000:
            assert environ[f"N{number}"] == value.strip(" \t"), value
        if key == "add-header" and "$" not in value and len(value) < 4000:
            (sent,) = response.all(f"X-N{number}")
            assert sent.encode("latin-1") == value.strip().encode("utf-8", "surrogateescape")
    if key in ("env", "add-header"):
        assert "longer than nginx takes for one argument" in " ".join(site.text.split())


def test_an_application_of_pastedeploy_is_carried_over(tmp_path):
    (tmp_path / "p.ini").write_text(
        "[uwsgi]\nhttp-socket = :81\nchdir = /srv\nini-paste-logged = etc/site.ini\n")
    text = text_of("p.ini", cwd=tmp_path)
    assert "wsgi_app paste:/srv/etc/site.ini;" in text
    assert "run uwsgi2nginx on it as well" in re.sub(r"\n# +", " ", text)


@pytest.mark.parametrize("name", ["site.wsgi", "script"])
def test_a_wsgi_file_may_have_any_name(tmp_path, name):
    (tmp_path / "p.ini").write_text(
        f"[uwsgi]\nhttp-socket = :81\nchdir = /srv\nwsgi-file = {name}\n")
    assert f"wsgi_app /srv/{name};" in text_of("p.ini", cwd=tmp_path)


def test_contradictory_options_are_named(tmp_path):
    (tmp_path / "c.ini").write_text(
        "[uwsgi]\nprocesses = 2\nworkers = 5\nmodule = a\nwsgi-file = b.py\nchdir = /one\n"
        "chdir = /tmp\nenv = A=1\nenv = A=2\nhttp-socket = :81\nhttp-socket = :81\n"
        "mount = /=c:d\nthreads = 2 # two\nharakiri = 0\nlimit-post = many\n")
    text = text_of("c.ini", cwd=tmp_path)
    flat = re.sub(r"\n# +", " ", text)
    assert "worker_processes 5;" in text
    assert "c.ini:2: processes = 2: does not count, c.ini:3 has workers = 5" in flat
    assert "wsgi_app a;" in text
    assert "c.ini:5: wsgi-file = b.py: does not count" in flat
    assert "wsgi_chdir /tmp;" in text and "/one" not in re.sub("#.*", "", text)
    assert text.count("wsgi_env A ") == 1 and "wsgi_env A 2;" in text
    assert text.count("listen 81;") == 1
    assert "mount = /=c:d: does not count" in flat
    assert "threads=2;" in text and "uWSGI reads it as 2" in flat
    assert "wsgi_request_timeout" not in text
    assert "limit-post = many: uWSGI reads it as 0" in flat


@pytest.mark.parametrize("line, directive", [
    ("reload-on-rss = 2048   ; comment", "wsgi_max_rss 2048m;"),
    ("reload-on-rss = 0.5 ; half", "wsgi_max_rss 512k;"),
    ("evil-reload-on-rss = 1e3", "wsgi_max_rss 1m;"),
    ("reload-on-rss = 1.5e2MB", "wsgi_max_rss 150m;"),
    ("reload-on-rss = 0 ; off", ""),
    ("processes = 6 # six", "worker_processes 6;"),
    ("harakiri = +30s", "wsgi_request_timeout 30s;"),
    ("max-requests =\t7\t; seven", "wsgi_max_requests 7;"),
    ("limit-post = 10m", "client_max_body_size 10;"),
    ("py-autoreload = 3 ; seconds", "wsgi_reload on;"),
    ("py-autoreload = 0 ; off", ""),
    ("gevent = 100 ; greenlets", "thread_pool wsgi threads=16;"),
    ("gevent = 0 ; off", "thread_pool wsgi threads=1;"),
])
def test_numbers_are_read_as_uwsgi_reads_them(tmp_path, line, directive):
    (tmp_path / "n.ini").write_text(f"[uwsgi]\nmodule = a\n{line}\n")
    text = text_of("n.ini", cwd=tmp_path)
    flat = " ".join(re.sub(r"#", "", text).split())
    assert "uWSGI reads it as" in flat or "." in line, text
    if directive:
        assert directive in text
    else:
        assert "wsgi_max_rss" not in text and "wsgi_reload" not in text


def test_options_with_one_reason_have_one_note(tmp_path):
    options = ["cheaper = 4", "cheaper-initial = 8", "cheaper-step = 2", "cheaper-algo = busyness",
               "cheaper-overload = 30", "cheaper-busyness-multiplier = 30",
               "cheaper-busyness-min = 20", "cheaper-busyness-max = 70",
               "cheaper-busyness-backlog-alert = 16", "cheaper-busyness-backlog-step = 2"]
    lines = ["[uwsgi]", "module = a", "processes = 64", *options]
    (tmp_path / "c.ini").write_text("\n".join(lines) + "\n")
    text = text_of("c.ini", cwd=tmp_path)
    assert text.count("nginx keeps the same number of workers") == 1
    for number, option in enumerate(options, 4):
        assert text.count(f"c.ini:{number}: {option}") == 1
    # All of them would run.
    flat = " ".join(text.replace("#", "").split())
    assert "c.ini:3: processes = 64: cheaper kept 4 of them" in flat
    assert "worker_processes 64;" in text


def test_cheaper_that_keeps_as_many_as_there_are_is_no_warning(tmp_path):
    (tmp_path / "c.ini").write_text("[uwsgi]\nmodule = a\nprocesses = 4\ncheaper = 4\n")
    assert "cheaper kept" not in text_of("c.ini", cwd=tmp_path)


@pytest.mark.parametrize("lines, line", [
    ("uid = no-such-user\ngid = no-such-group", "# user no-such-user no-such-group;"),
    ("uid = no-such-user", "# user no-such-user;"),
    ("uid = 4294967294", "# user 4294967294;"),
])
def test_a_user_who_is_unknown_here_is_a_comment(tmp_path, lines, line):
    (tmp_path / "u.ini").write_text(f"[uwsgi]\nmodule = a\n{lines}\n")
    text = text_of("u.ini", cwd=tmp_path)
    assert f"\n{line}\n" in text
    assert "there is no such user here" in text


@pytest.mark.parametrize("option, advice", [
    ("hook-as-user = chdir:/srv", "wsgi_chdir is the working directory"),
    ("hook-pre-app = cd:/srv", "wsgi_chdir is the working directory"),
    ("hook-post-fork = unix_signal:10 1", "is about uWSGI's own process"),
    ("hook-asap = putenv:A=b", "wsgi_env NAME VALUE"),
    ("hook-as-root = exec:mkdir /run/x", "ExecStartPre="),
    ("hook-touch = /tmp/file exec:ls", "ExecStartPre="),
    ("hook-as-user = strange:x", "has no counterpart here"),
    ("hook-as-emperor = exec:ls", "processes that nginx does not have"),
    ("exec-pre-app = /bin/echo", "ExecStartPre="),
    ("timer = 17 60", "nginx has no signals of uWSGI"),
    ("touch-signal = /tmp/file 17", "nginx has no signals of uWSGI"),
    ("attach-daemon = redis-server", "run it as a systemd service"),
    ("cron = 0 3 -1 -1 -1 /usr/bin/true", "run it from systemd or cron"),
])
def test_advice_is_what_can_be_done(tmp_path, option, advice):
    (tmp_path / "h.ini").write_text(f"[uwsgi]\nmodule = a\n{option}\n")
    flat = " ".join(text_of("h.ini", cwd=tmp_path).replace("\n#", " ").split())
    assert f"h.ini:3: {option}:" in flat
    said = flat.partition(f"h.ini:3: {option}:")[2].partition(" - ")[0]
    assert advice in said
    assert option.startswith("cron") or "from systemd or cron" not in said


@pytest.mark.parametrize("theirs, ours", [
    ("%(msecs)ms", "${request_time}s"), ("%(msecs) ms", "$request_time s"),
    ("in %(msecs) msecs", "in $request_time s"), ("%(micros)us", "${request_time}s"),
    ("%(secs)s", "${request_time}s"), ("%(msecs)", "$request_time"),
    ("%(msecs)msx", "${request_time}msx"), ("%(tmsecs)ms", "${msec}ms"),
])
def test_times_of_a_log_format_have_their_unit(tmp_path, theirs, ours):
    (tmp_path / "l.ini").write_text(f"[uwsgi]\nmodule = a\nlog-format = %(addr) {theirs}\n")
    assert f'log_format uwsgi "$remote_addr {ours}";' in text_of("l.ini", cwd=tmp_path)


@pytest.mark.parametrize("value", ["022", "0027", "22", "rw", "1000", "029"])
def test_the_umask_is_that_of_the_workers(tmp_path, value):
    (tmp_path / "umask.ini").write_text(f"[uwsgi]\numask = {value}\n")
    text = text_of(tmp_path / "umask.ini")
    good = value in ("022", "0027")
    assert (f"wsgi_umask {value};" in text) is good
    assert ("umask.ini:2: umask = " in text) is not good


def test_variables_that_python_does_not_read_are_named(tmp_path):
    (tmp_path / "python.ini").write_text("[uwsgi]\nenv = PYTHONHASHSEED=1\nenv = PYTHONPATH=/x\n")
    text = text_of(tmp_path / "python.ini")
    assert "python.ini:2: env = PYTHONHASHSEED=1: does nothing" in " ".join(text.split("\n#   "))
    assert "wsgi_env PYTHONHASHSEED 1;" in text and "wsgi_python_path /x;" in text


def test_help_and_wrong_use():
    done = convert("-h")
    assert done.returncode == 0 and done.stdout.startswith(b"Prints the nginx.conf")
    done = convert("--listen=1;evil on", "x.ini")
    assert done.returncode == 2
