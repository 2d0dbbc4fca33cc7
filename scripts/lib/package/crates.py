#!/usr/bin/env python3
"""Makes vendored crates part of a Debian source package.

usage: crates.py VENDOR COPYRIGHT    takes what is compiled out of the crates in VENDOR, and adds
                                     what they say of their licenses to a debian/copyright
"""

import json
import re
import sys
import tomllib
from pathlib import Path

# As Debian's format writes them.
NAMES = {"MIT": "Expat", "BSD-3-Clause": "BSD-3-clause"}


def license_of(expression):
    """Of SPDX, in which older crates write "MIT/Apache-2.0". Where there is a choice it is made."""
    terms = []
    for term in expression.replace("/", " OR ").split(" AND "):
        choice = term.strip("() ").split(" OR ")
        chosen = [each for each in choice if each in ("Apache-2.0", "MIT")] or choice
        terms.append(" or ".join(NAMES.get(each, each) for each in chosen))
    return re.sub(r" WITH (\S+)-exception", r" with \1 exception", " and ".join(terms))


def holders(folder, crate):
    """Lines of its licence texts that begin with Copyright, or whom it names as its authors."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and re.match(r"(?i)licen[sc]e|copying|copyright|unlicense", path.name):
            text = path.read_text(errors="replace")
            found += re.findall(r"^\s*Copyright (?:\([cC]\)|©)?\s*(\S.*\d{4}.*)$", text, re.M)
    return list(dict.fromkeys(found)) or crate.get("authors") or [f"the authors of {crate['name']}"]


def stanzas(vendor):
    for folder in sorted(path for path in vendor.iterdir() if path.is_dir()):
        crate = tomllib.loads((folder / "Cargo.toml").read_text())["package"]
        lines = "\n           ".join(holders(folder, crate))
        yield (f"\nFiles: vendor/{folder.name}/*\nCopyright: {lines}\n"
               f"License: {license_of(crate['license'])}\n")


def remove_compiled(vendor):
    """Crates bring libraries of Windows for their tests. Cargo compares files with a list."""
    for folder in vendor.iterdir():
        compiled = [path for path in folder.rglob("*") if path.suffix in (".a", ".dll", ".lib")]
        if compiled:
            path = folder / ".cargo-checksum.json"
            sums = json.loads(path.read_text())
            for each in compiled:
                sums["files"].pop(str(each.relative_to(folder)))
                each.unlink()
            path.write_text(json.dumps(sums))


def main():
    vendor, copyright = map(Path, sys.argv[1:])
    remove_compiled(vendor)
    head, mark, texts = copyright.read_text().partition("\n\nLicense: ")
    # Paragraphs of files stand before those of texts.
    copyright.write_text(head + "\n" + "".join(stanzas(vendor)).rstrip("\n") + mark + texts)


if __name__ == "__main__":
    main()
