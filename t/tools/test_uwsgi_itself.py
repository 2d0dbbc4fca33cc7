"""uWSGI itself beside scripts/uwsgi2nginx: it reads a file alike, and serves alike."""

import os
import random
import re
import subprocess

import pytest
from lib import config
from lib.uwsgi import UWSGI, Uwsgi, part, told

# ------- reading

# Of these the values and lines of a random file consist.
PIECES = """
    a | b c | %n | %d | %% | % | %q | %é | %(k1) | %(k2) | %(nope) | %(k1 k2) | %(k1 + 2) | %(k1 ++)
    | %(k1 / 2) | %(3 * k2) | %(-3 + 1) | $(SET) | $(UNSET) | $(SET-x) | $( | %( | () | (( | ) | @
    | = | ; | # | " | ' | \\ | é | %0 | %c | %e | %s | %x | %(k1 | %((k1)) | $($(SET)) | [ | ] | 7
""".replace("\n", " ").split("|")
CONDITIONS = """
    if-env = SET | if-env = UNSET | if-not-env = SET | if-not-env = UNSET | if-env = SET=value
    | if-opt = k1 | if-opt = k1=7 | if-not-opt = k9 | if-exists = /etc | if-not-exists = /etc
    | if-file = /etc/passwd | if-dir = /etc | if-not-dir = /etc | if-plugin = nope | ifenv = SET
    | if-reload = x | if-not-reload = x | for = x y  z | for-times = 3 | for-readline = lines.txt
    | for-glob = *.txt | for-glob = nothing*
""".replace("\n", " ").split("|")
ENDS = ["endif", "endif = ", "end-if", "end", "endfor"]
SECTIONS = ["[uwsgi]", " [uwsgi] ", "[other]", "[uwsgi];", "[uwsgi] ; x"]
FILES = ["ini = :second", "ini = included.ini", "include = included.ini", "inherit = included.ini",
         "ini = included.ini:second"]
SHOWN = re.compile(r";uWSGI instance configuration\n\[uwsgi\]\n(.*?)\n?;end of configuration", re.S)


def random_line(chance, includes):
    def value():
        return "".join(chance.choice(PIECES)[1:-1] for _ in range(chance.randint(0, 5)))

    key = chance.choice(["k1", "k2", "k3", "key four", "  k5", "k6 ", "k7\t"])
    kind = chance.choices(
        ["option", "bare", "comment", "section", "condition", "end", "_", "set", "file", ""],
        [55, 5, 4, 3, 7, 6, 5, 4, 5 if includes else 0, 2])[0]
    return {
        "option": lambda: key + chance.choice(["=", " = ", "= "]) + value(),
        "bare": lambda: key,
        "comment": lambda: chance.choice(";#") + value(),
        "section": lambda: chance.choice(SECTIONS),
        "condition": lambda: chance.choice(CONDITIONS).strip(),
        "end": lambda: chance.choice(ENDS),
        "_": lambda: "k8 = %(_)" + value(),
        "set": lambda: chance.choice(["set-placeholder = k9=", "set = k3="]) + value(),
        "file": lambda: chance.choice(FILES),
        "": lambda: "",
    }[kind]()


def random_file(chance, includes):
    end = chance.choice(["\n", "\r\n"])
    lines = ["[uwsgi]", *(random_line(chance, includes) for _ in range(chance.randint(1, 14)))]
    text = end.join(lines) + chance.choice(["", "\n"])
    return text + chance.choice(["", "\n[second]\nk2 = section %x of %n %(k1)\n"])


def theirs(folder, environ):
    """The options as uWSGI shows them, None if it refuses the file or never ends."""
    try:
        done = subprocess.run([UWSGI, "--show-config", "--no-server", "--ini", "main.ini"],
                              cwd=folder, env=environ, capture_output=True, timeout=2)
    except subprocess.TimeoutExpired:
        return None
    found = SHOWN.search(done.stderr.decode("utf-8", "surrogateescape"))
    if not found:
        return None
    lines = [line for line in found.group(1).split("\n") if line]
    for line in ("ini = main.ini", "show-config = true", "no-server = true"):
        lines.remove(line)
    return lines


def ours(folder, environ):
    ini = part("ini")
    reader = ini.Reader(str(folder), environ)
    try:
        reader.read("main.ini")
    except ini.Failure as failure:
        # uWSGI goes on without any option.
        return [] if "no options in a section" in str(failure) else None
    return [f"{option.key} = {option.value}" for option in reader.options]


def test_a_file_is_read_as_uwsgi_reads_it(tmp_path):
    environ = {"PATH": os.environ["PATH"], "SET": "value"}
    (tmp_path / "lines.txt").write_text("one\ntwo words\n")
    (tmp_path / "other.txt").write_text("")
    chance = random.Random(int(os.environ.get("TEST_NGINX_SEED") or 1))
    read = 0
    for _ in range(120):
        (tmp_path / "included.ini").write_text(random_file(chance, False), newline="")
        text = random_file(chance, True)
        (tmp_path / "main.ini").write_text(text, newline="")
        mine = ours(tmp_path, environ)
        # A value that grows for ever is refused here: there, uWSGI would have to be waited for.
        assert mine is None or mine == (theirs(tmp_path, environ) or []), text
        read += mine is not None
    assert read > 60


# ------- serving


@pytest.fixture
def both(request, make_site):
    """nginx and uWSGI with the same ini file, as (nginx, uwsgi)."""

    def start(name, *folders):
        site = make_site(name)
        for folder in folders:
            os.mkdir(f"{site.dir}/site/{folder}")
        uwsgi = Uwsgi(name, config.free_port(), site.dir, site.environ)
        request.addfinalizer(uwsgi.stop)
        return site.start(), uwsgi.up()

    return start


# The address of the peer, the port and the name of the server differ: uWSGI's is the host's.
DIFFERENT = {"SERVER_NAME", "SERVER_PORT", "REMOTE_PORT", "HTTP_HOST"}
# nginx's own, which uwsgi_params has as well and an http-socket has not.
NGINX_ONLY = {"DOCUMENT_ROOT", "REQUEST_SCHEME"}
VARIABLES = re.compile(r"(FILE|PERCENT|JOINED|UNKNOWN|CORES|SITE_IS|INCLUDED|LETTER_.|WRONG|QUOTED"
                       r"|COMMENT|EQUALS|BACKSLASH|NAME|EMPTY)")


def compared(response):
    """What an application was told, without what has to differ."""
    found = told(response)
    environ = {key: value for key, value in found["environ"].items()
               if key not in DIFFERENT | NGINX_ONLY and not key.startswith("uwsgi.")}
    # For the root uWSGI leaves it out, if it manages it.
    environ.setdefault("SCRIPT_NAME", "")
    variables = {key: value for key, value in found["os.environ"].items()
                 if VARIABLES.fullmatch(key)}
    return {"environ": environ, "os.environ": variables} | {
        key: found[key] for key in ("application", "cwd", "body", "multithread", "multiprocess")}


PATHS = ("/", "/a/b?c=d&e", "/a%20b/%C3%A9?x=%20", "/api", "/api/x", "/apis", "/api/deeper",
         "/api/deeper/x?y")


@pytest.mark.parametrize("name, folders", [
    ("smallest.ini", ()), ("mounts.ini", ()), ("placeholders.ini", ("first", "second")),
    ("conditions.ini", ()), ("windows.ini", ()),
])
def test_an_application_is_told_the_same(both, name, folders):
    nginx, uwsgi = both(name, *folders)
    for path in PATHS:
        options = {"headers": {"X-One": "1", "Cookie": "a=b", "Content-Type": "a/b"}}
        mine, its = compared(nginx.get(path, **options)), compared(uwsgi.get(path, **options))
        for what in ("environ", "os.environ"):
            assert sorted(mine[what].items()) == sorted(its[what].items()), path
        assert mine == its, path


def test_static_files_are_the_same(both):
    nginx, uwsgi = both("static.ini")
    for path in ("/page.html", "/folder", "/files/x.txt", "/files/", "/robots.txt",
                 "/static/x.txt"):
        mine, its = nginx.get(path), uwsgi.get(path)
        if mine.status == 301:
            # nginx redirects to a directory, whose name ends with a slash.
            mine = nginx.get(path + "/")
        assert (mine.status, mine.body) == (its.status, its.body), path
