"""What an application says goes to the error log: line by line, with the request's context."""

import os
import re
import threading
from urllib.parse import quote

import pytest
from lib import http
from lib.errorlog import ErrorLog, context, message
from lib.load import at_once
from lib.poll import SLOWDOWN, until_stable
from lib.respond import Expr, respond
from lib.saying import say, texts

LIMIT = 1024


@pytest.fixture
def site(nginx):
    return nginx(apps=["talk", "plain", "tidy"], app_directives="wsgi_read_timeout 20s;")


@pytest.mark.parametrize("level", ["crit", "warn", "info"])
def test_print_and_stderr_have_a_level_of_their_own(nginx, level):
    site = nginx(apps=["talk"], http=f"wsgi_stdio_level {level};")
    if level == "crit":
        site.log.allow(r"\[crit\].*hello")
    for how, end in WAYS:
        own = "error" if how.startswith("write") else level
        lines = say(site, how, repr("hello" + end), level=own)
        assert set(texts(lines)) == {"hello"}, how


WAYS = [("write", "\n"), ("writelines", "\n"), ("printed", ""), ("to_stderr", ""), ("buffered", "")]


@pytest.mark.parametrize("how, end", WAYS)
def test_a_line_is_a_record_with_the_context_of_its_request(site, how, end):
    lines = say(site, how, repr("hello there" + end))
    assert texts(lines) == ["hello there"] * (2 if how == "writelines" else 1)
    for line in lines:
        assert re.search(
            rf', client: 127\.0\.0\.1, server: localhost, request: "GET /talk/{how}\?.*'
            r' HTTP/1\.1", host: "localhost"$', line,
        )


@pytest.mark.parametrize(
    "how, found", [("warned", "UserWarning: hello"), ("logged", "ERROR hello")]
)
def test_warnings_and_logging_arrive(site, how, found):
    lines = say(site, how, "'hello'")
    assert found in texts(lines)[0]
    assert context(lines[0])


def is_one_text(lines):
    """The context once, and the number of the connection with each line."""
    assert context(lines[0]) and not any(context(line) for line in lines[1:])
    assert len({re.search(r" \d+#\d+: \*\d+ ", line).group() for line in lines}) == 1


@pytest.mark.parametrize("how", ["write", "printed", "to_stderr", "logged"])
def test_each_line_of_a_text_is_a_record(site, how):
    lines = say(site, how, repr("one\ntwo\n\nthree\n"))
    found = [text.removeprefix("ERROR ") for text in texts(lines)]
    assert [text for text in found if text] == ["one", "two", "three"]
    # print() and logging write the last line end by itself.
    is_one_text(lines[:4])


@pytest.mark.parametrize("how", ["raised", "chained"])
def test_each_line_of_a_traceback_is_a_record(site, how):
    lines = say(site, how, "'wrong'", status=500)
    is_one_text(lines)
    found = texts(lines)
    assert "Traceback (most recent call last):" in found
    assert any(text.startswith("ValueError: wrong") for text in found)
    assert any(re.search(r'File ".*talk\.py", line \d+, in application', text) for text in found)
    assert ("KeyError: 'first'" in found) == (how == "chained")


def test_all_of_a_traceback_goes_to_the_log_of_its_location(make_nginx):
    site = make_nginx(server="location / { error_log @DIR@/own.log; wsgi_app talk:application; }")
    site.start()
    assert site.get("/talk/raised?'wrong'").status == 500
    own = ErrorLog(f"{site.dir}/own.log")
    own.wait_for("ValueError: wrong")
    lines = own.matching(r"\[error\]")
    is_one_text(lines)
    assert texts(lines)[0] == "Traceback (most recent call last):"
    assert not site.log.matching("Traceback|ValueError")


def test_tracebacks_of_several_threads_do_not_come_into_each_other(site):
    gate = site.gate("raised")
    clients = [site.connect() for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(http.build("GET", f"/talk/deep?'req{number}'"))
    site.wait_event("waiting raised", count=8)
    gate.open()
    for client in clients:
        assert client.read_response().status == 500
    site.log.wait_for("ValueError: req", count=8)
    lines = site.log.matching(r"\[error\]")
    starts = [at for at, line in enumerate(lines) if context(line)]
    assert len(starts) == 8
    for start, end in zip(starts, starts[1:] + [len(lines)], strict=True):
        is_one_text(lines[start:end])
        (number,) = re.findall(r"/talk/deep\?'req(\d)'", lines[start])
        assert texts(lines[start:end])[-1] == f"ValueError: req{number}"


@pytest.mark.parametrize("how, status", [("write", 200), ("logged", 200), ("raised", 500)])
def test_colours_are_left_out(site, how, status):
    lines = say(site, how, ascii("a\x1b[1;31mred\x1b[0m\x1b[Kb"), status)
    assert any(r"ared\x1b[Kb" in text for text in texts(lines)), texts(lines)


@pytest.mark.parametrize("how, status", [("write", 200), ("printed", 200), ("raised", 500)])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_no_line_can_be_forged(site, how, status, newline):
    forged = "2026/01/01 00:00:00 [alert] 1#1: forged"
    say(site, how, repr(f"x{newline}{forged}\n"), status)
    assert site.log.matching(r"forged")
    for line in site.log.lines():
        assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?!alert)\w+\] \d+#\d+: ", line), line
        assert "\r" not in line
    site.allow_alert("forged")


@pytest.mark.parametrize(
    "character, shown",
    [("\x1b", r"\x1b"), ("\0", r"\x00"), ("\x07", r"\x07"), ("\x7f", r"\x7f"), ("\t", "\t"),
     ("\udc80", r"\udc80"), ("\ud800", r"\ud800")],
    ids=ascii,
)
@pytest.mark.parametrize("how, status", [("write", 200), ("printed", 200), ("raised", 500)])
def test_control_characters_and_surrogates_are_escaped(site, how, status, character, shown):
    lines = say(site, how, ascii(f"a{character}b\n"), status)
    assert [text for text in texts(lines) if f"a{shown}b" in text], texts(lines)


def test_other_text_is_utf_8(site):
    (line,) = say(site, "write", ascii("grün €\n"))
    assert message(line).encode("latin-1").decode("utf-8") == "grün €"


@pytest.mark.parametrize("how", ["write", "printed"])
def test_a_line_of_100_kilobytes_arrives_in_pieces(site, how):
    lines = say(site, how, "''.join('%09d,' % n for n in range(10000))")
    found = texts(lines)
    assert "".join(found) == "".join(f"{n:09d}," for n in range(10000))
    assert max(map(len, found)) <= LIMIT
    # Once for 64k, and once for the line end of print().
    assert context(lines[0]) and 2 <= sum(bool(context(line)) for line in lines) <= 3


def test_a_long_line_is_not_cut_within_a_character(site):
    lines = say(site, "write", "'€' * 5000 + chr(10)")
    found = [message(line).encode("latin-1").decode("utf-8") for line in lines]
    assert "".join(found) == "€" * 5000


def test_pieces_of_a_line_become_one_record(site):
    assert texts(say(site, "in_pieces", "'slowly'")) == ["slowly|end"]


def test_a_line_without_an_end_comes_with_the_end_of_the_request(site):
    (line,) = say(site, "write", "'unfinished'")
    assert message(line) == "unfinished"
    assert context(line)


def test_saying_nothing_writes_nothing(site):
    assert say(site, "nothing", "''") == []


def test_requests_at_once_keep_their_lines_and_context_apart(site):
    gate = site.gate("many")
    clients = [site.connect() for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(http.build("GET", f"/talk/many?'req{number}'"))
    site.wait_event("waiting many", count=8)
    gate.open()
    for client in clients:
        assert client.read_response().body == b"said"
    lines = site.log.wait_for(r"req\d line \d+ \.{100}", count=400)
    assert len(lines) == 400
    for line in lines:
        number = re.search(r": (?:\*\d+ )?req(\d) line \d+ \.{100},", line).group(1)
        assert f"/talk/many?'req{number}'" in context(line)


def test_the_lines_of_an_end_come_before_the_end(nginx):
    """With the mail of a chunk the event loop may find the end behind it too."""
    site = nginx(apps=["respond"], main="thread_pool default threads=4;")
    target = respond(kind="generator", body=[b"first"], fail=Expr("ValueError('after')"))
    at_once(lambda _: site.get(target), range(600), threads=8)
    lines = site.log.wait_for("Traceback", count=600)
    assert [line for line in lines if not context(line)] == []


def test_a_thread_of_the_application_writes_without_a_context(site):
    say(site, "threads", "'own'")
    lines = site.log.wait_for(r"own \d", count=10)
    assert sorted(texts(lines)) == [f"own {n}" for n in range(10)]
    assert not any(context(line) for line in lines)


def test_errors_of_an_ended_request_can_still_be_written_to(site):
    say(site, "keep", "''")
    say(site, "late", "'late words'")
    (line,) = site.log.wait_for("late words")
    assert "/talk/keep" not in line


def test_words_at_import_have_no_context(make_nginx):
    site = make_nginx(server="location / { wsgi_app @DIR@/site/noisy.py; }")
    site.write("site/noisy.py", "print('importing')\ndef application(e, s): pass\n")
    site.start()
    (line,) = site.log.wait_for("importing$")
    assert "[error]" in line


def test_much_output_blocks_neither_application_nor_nginx(site):
    done = []
    path = "/talk/write?" + quote("'line of text\\n' * 10000")
    thread = threading.Thread(target=lambda: done.append(site.get(path).status))
    thread.start()
    assert site.get("/static").body == b"static"
    thread.join(30 * SLOWDOWN)
    assert done == [200]
    site.log.wait_for("line of text", count=10_000, timeout=30)


def test_an_application_waits_when_its_log_takes_no_more(make_nginx):
    """Else all it says would pile up in the memory of the worker."""
    site = make_nginx(
        server="location /talk/ { error_log @DIR@/pipe info; wsgi_app talk:application; }"
    )
    os.mkfifo(f"{site.dir}/pipe")
    pipe = os.open(f"{site.dir}/pipe", os.O_RDONLY | os.O_NONBLOCK)
    site.start()
    try:
        client = site.ask("/talk/much")
        site.wait_event("wrote")
        # A pipe that nobody reads stops nginx too: 1 MiB is let wait for it, beside as much that
        # it may have taken before it stopped. A write is 100 kB.
        assert until_stable(lambda: len(site.events("wrote"))) <= 21
        os.set_blocking(pipe, True)
        reader = threading.Thread(target=lambda: all(iter(lambda: os.read(pipe, 65536), b"")))
        reader.start()
        assert client.read_response().body == b"said"
        assert len(site.events("wrote")) == 40
        site.quit()
        reader.join()
    finally:
        os.close(pipe)


def test_what_a_thread_leaves_without_a_line_end_is_not_lost(site):
    say(site, "left", "'by a thread that ended'")
    (line,) = site.log.wait_for("by a thread that ended")
    assert message(line) == "by a thread that ended" and not context(line)


def test_what_a_thread_has_begun_comes_when_the_worker_leaves(site):
    site.get("/talk/begun?" + quote("'by a thread that goes on'"))
    site.wait_event("begun")
    site.quit()
    (line,) = site.log.wait_for("by a thread that goes on")
    assert message(line) == "by a thread that goes on"


def test_threads_have_the_names_of_their_pools(nginx):
    """Those of logging and of the kernel, and one name only once."""
    pools = ["wsgi", "a_very_long_name_1", "a_very_long_name_2"]
    site = nginx(
        main="".join(f"thread_pool {pool} threads=2;" for pool in pools),
        server="".join(f"location /{n}/ {{ wsgi_thread_pool {pool}; wsgi_app talk:application; }}"
                       for n, pool in enumerate(pools)),
    )
    for n, name in enumerate(["wsgi", "a_very_long~1", "a_very_long~2"]):
        mark = site.log.mark()
        assert site.get(f"/{n}/named").status == 200
        (line,) = site.log.wait_for("named ", start=mark)
        assert re.fullmatch(rf"named ({name}-[12]) \1", message(line)), line
