#!/usr/bin/env python3
"""Prints the manual page nginx-wsgi(1), made of what the command itself prints for -h.

usage: manual.py >nginx-wsgi.1
"""

import contextlib
import io
import re
import sys
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[3] / "python"
COMMANDS = ("serve", "uwsgi2nginx", "gunicorn2nginx")
ABOUT = "serves WSGI applications from inside nginx"
# The end of the page, in which references are links to nothing.
BESIDE = """
.SH SEE ALSO
.BR nginx (8),
.BR python3 (1)
"""
# Its name, what it takes, and the beginning of its text.
OPTION = re.compile(r"(--[a-z-]+)(?: ([A-Z=]+)(?= |$))?(?: +(\S.*))?")


def said(*arguments):
    """What nginx-wsgi prints."""
    from nginx_wsgi.command import main

    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        main(arguments)
    return output.getvalue()


def version():
    return re.search(r'^version = "(.*)"', (PYTHON / "pyproject.toml").read_text(), re.M)[1]


def escaped(text):
    """As roff shows it unchanged; a dot at the beginning of a line would be a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + text if text.startswith(".") else text


def options(lines):
    """A paragraph of options, each with its text behind it, or on indented lines below it."""
    for line in lines:
        if found := OPTION.fullmatch(line):
            name, value, begun = found.groups()
            yield ".TP"
            yield f"\\fB{escaped(name)}\\fR" + (f" \\fI{escaped(value)}\\fR" if value else "")
            if begun:
                yield escaped(begun)
        else:
            yield escaped(line.strip())


def literal(lines):
    """Unfilled, as it stands."""
    return [".nf", *map(escaped, lines), ".fi"]


def paragraphs(text):
    """A help text, paragraph by paragraph."""
    for paragraph in re.split(r"\n{2,}", text.strip("\n")):
        lines = paragraph.splitlines()
        yield ".PP"
        if OPTION.fullmatch(lines[0]):
            yield from options(lines)
        elif lines[0].startswith("usage: "):
            yield from literal(lines)
        else:
            yield from map(escaped, lines)


def page():
    usage, _, rest = said("-h").partition("\n\n")
    lines = [f'.TH NGINX\\-WSGI 1 "" "nginx_wsgi {version()}"', ".SH NAME",
             f"nginx\\-wsgi \\- {escaped(ABOUT)}", ".SH SYNOPSIS",
             *literal(line[len("usage: "):] for line in usage.splitlines()),
             ".SH DESCRIPTION", *paragraphs(rest)]
    for name in COMMANDS:
        lines += [f".SH {name.upper()}", *paragraphs(said(name, "-h"))]
    return "\n".join(lines) + BESIDE


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(PYTHON))
    sys.stdout.write(page())
