"""scripts/uwsgi2nginx: what it writes, and remarks upon, of each option."""

import re

import pytest
from lib.uwsgi import convert, text_of


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
    ("websocket-max-size = 64 ; kilobytes", "wsgi_websocket_max_message 64k;"),
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


@pytest.mark.parametrize("line, directive", [
    ("websockets-max-size = 1048576", "wsgi_websocket_max_message 1048576k;"),
    ("websockets-ping-freq = 20", "wsgi_websocket_ping 20s timeout=3s;"),
    ("websocket-pong-tolerance = 5", "wsgi_websocket_ping 30s timeout=5s;"),
    ("http-websockets = true", "wsgi_websocket on;"),
])
def test_websockets_are_asked_for_where_the_options_of_uwsgi_are(tmp_path, line, directive):
    (tmp_path / "w.ini").write_text(f"[uwsgi]\nmodule = a\n{line}\n")
    text = text_of("w.ini", cwd=tmp_path)
    assert "wsgi_websocket on;" in text and directive in text


def test_without_such_options_there_is_no_websocket(tmp_path):
    (tmp_path / "w.ini").write_text("[uwsgi]\nmodule = a\nhttp-websockets = false\n")
    assert "wsgi_websocket" not in text_of("w.ini", cwd=tmp_path)


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
    text = text_of("umask.ini", cwd=tmp_path)
    good = value in ("022", "0027")
    assert (f"wsgi_umask {value};" in text) is good
    assert ("umask.ini:2: umask = " in text) is not good


def test_variables_that_python_does_not_read_are_named(tmp_path):
    (tmp_path / "python.ini").write_text("[uwsgi]\nenv = PYTHONHASHSEED=1\nenv = PYTHONPATH=/x\n")
    text = text_of("python.ini", cwd=tmp_path)
    assert "python.ini:2: env = PYTHONHASHSEED=1: does nothing" in " ".join(text.split("\n#   "))
    assert "wsgi_env PYTHONHASHSEED 1;" in text and "wsgi_python_path /x;" in text


def test_help_and_wrong_use():
    done = convert("-h")
    assert done.returncode == 0 and done.stdout.startswith(b"Prints the nginx.conf")
    done = convert("--listen=1;evil on", "x.ini")
    assert done.returncode == 2
