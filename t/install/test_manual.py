"""The manual page nginx-wsgi(1): it has the options that the commands take, and is one to man."""

import re
import subprocess

import pytest
from lib import config
from lib.serve import SYSTEM

PAGE = subprocess.run([SYSTEM, f"{config.ROOT}/scripts/lib/package/manual.py"], text=True,
                      capture_output=True, timeout=30, check=True).stdout
# What the command gives its parser.
PARSED = """
import argparse, sys
taken = []
add = argparse.ArgumentParser.add_argument
def record(self, *names, **kinds):
    taken.extend(name for name in names if name.startswith("--"))
    return add(self, *names, **kinds)
argparse.ArgumentParser.add_argument = record
from nginx_wsgi.command import main
try:
    main([sys.argv[1], "-h"])
finally:
    print(*taken, file=sys.stderr)
"""


def section(name):
    return re.search(rf"^\.SH {name}$(.*?)(?=^\.SH )", PAGE, re.M | re.S)[1]


@pytest.mark.parametrize("command", ["serve", "uwsgi2nginx"])
def test_the_manual_has_the_options_that_the_command_takes(command):
    done = subprocess.run([SYSTEM, "-c", PARSED, command], cwd=f"{config.ROOT}/python", text=True,
                          capture_output=True, timeout=30, check=True)
    taken = set(done.stderr.split()) - {"--help"}
    named = re.findall(r"^\.TP\n\\fB(\S+)\\fR", section(command.upper()), re.M)
    # print-config is the command of that name; the option is what scripts/serve has.
    assert {name.replace("\\", "") for name in named} == taken - {"--print-config"}
    assert len(named) == len(set(named)) > 2


def test_the_manual_names_the_commands():
    said = subprocess.run([SYSTEM, "-m", "nginx_wsgi", "-h"], cwd=f"{config.ROOT}/python",
                          capture_output=True, text=True, timeout=30, check=True).stdout
    usage = said.partition("\n\n")[0].removeprefix("usage: ")
    lines = [line.strip() for line in usage.splitlines()]
    assert len(lines) == 7
    shown = section("SYNOPSIS").replace("\\-", "-").splitlines()
    assert [line.strip() for line in shown if not line.startswith(".")][1:] == lines


def test_no_line_is_taken_for_a_request_of_roff():
    known = (".TH ", ".SH ", ".PP", ".TP", ".nf", ".fi", ".BR ")
    for line in PAGE.splitlines():
        assert not line.startswith("'") and (line[:1] != "." or line.startswith(known)), line
