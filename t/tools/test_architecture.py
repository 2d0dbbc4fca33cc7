"""ARCHITECTURE.md draws the rooms as they are."""

import re
import subprocess
import sys

import pytest
from lib import config, papers

ROOMS = ["src/nginx", "src/wsgi", "src/python"]


def drawn(room):
    """The table of a room: what each file and folder imports."""
    page = papers.read("ARCHITECTURE.md")
    rows = page.split(f"| {room} | is | imports |\n|---|---|---|\n")[1].split("\n\n")[0]
    found = {}
    for row in rows.split("\n"):
        names, _, imports = (cell.strip() for cell in row.strip("|").split("|"))
        found |= {name: imports.split() for name in names.split(", ")}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_the_tables_say_what_the_code_imports(room):
    run = subprocess.run([sys.executable, f"{config.ROOT}/scripts/lib/imports.py", "--table", room],
                         cwd=config.ROOT, check=True, capture_output=True, text=True)
    code = dict(re.findall(r"^(\w+):(.*)$", run.stdout, re.M))
    assert len(code) > 3
    assert drawn(room) == {name: imports.split() for name, imports in code.items()}


def test_the_page_can_be_read_at_one_sitting():
    assert papers.read("ARCHITECTURE.md").count("\n") <= 150
