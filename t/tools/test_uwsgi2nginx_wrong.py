"""scripts/uwsgi2nginx: files that cannot be read, values that would like to be more than values."""

import os
import re

import pytest
from lib import config
from lib.uwsgi import convert, part, told

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
    reader = part("ini").Reader(str(cwd), {})
    reader.read(name)
    return part("site").Site(reader, name, module=config.MODULE, listen=[]).text()


@pytest.mark.parametrize("key", ["env", "add-header", "static-map", "mount", "log-format", "chdir"])
def test_nginx_reads_hostile_values_as_values(make_site, key):
    """All at once: nginx itself accepts the file, and what it accepts it gives on."""
    values = [value for value in EVIL if value.strip()]
    prefix = {"env": "N{}=", "add-header": "X-N{}: ", "static-map": "/n{}=", "mount": "/n{}="}
    lines = ["[uwsgi]", "http-socket = 127.0.0.1:$(PORT)", "wsgi-file = $(APPS)/told.py"]
    lines += [key + " = " + prefix.get(key, "").format(number) + value
              for number, value in enumerate(values)]
    if key == "chdir":
        lines.append("chdir = /")
    site = make_site("hostile.ini")
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
