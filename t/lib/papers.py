"""The documents: links, anchors, and the directives of docs/directives.md."""

import glob
import os
import re

from .config import ROOT

# The documents of the project, by their names from its root.
PAPERS = sorted(
    os.path.relpath(path, ROOT)
    for pattern in ("*.md", "docs/*.md")
    for path in glob.glob(os.path.join(ROOT, pattern))
)


def read(paper):
    with open(os.path.join(ROOT, paper)) as file:
        return file.read()


def prose(paper):
    """Without blocks of code, which are indented by four columns and come after an empty line."""
    kept, code, empty = [], False, True
    for line in read(paper).split("\n"):
        if line.strip():
            code = line.startswith("    ") and (code or empty)
        empty = not line.strip()
        if not code:
            kept.append(line)
    return "\n".join(kept)


def headings(paper):
    return re.findall(r"^#+ +(.*)$", prose(paper), re.M)


def anchors(paper):
    """As GitHub makes them of headings; one that comes again is numbered."""
    found = []
    for heading in headings(paper):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        text = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = sum(re.fullmatch(re.escape(text) + r"(-\d+)?", each) is not None for each in found)
        found.append(f"{text}-{again}" if again else text)
    return found


def links(paper):
    """Targets of links and pictures; what is in code marks is none."""
    text = re.sub(r"`[^`]*`", "", prose(paper))
    return re.findall(r"\[[^\]]*\]\(([^)\s]*)\)", text)


class Described:
    """A directive as docs/directives.md has it."""

    def __init__(self, name, syntax, default, context):
        self.name, self.syntax, self.default = name, syntax, default
        self.contexts = set(context.split(", "))

    def takes(self):
        """Numbers of arguments: those that are possible, "flag", or "any" for one or more."""
        if self.syntax == "on | off":
            return "flag"
        if self.syntax.endswith("..."):
            return "any"
        needed = len(re.sub(r"\[.*\]", "", self.syntax).split())
        return set(range(needed, needed + self.syntax.count("[") + 1))


def directives():
    """In their order on the page."""
    block = r"^### (\w+)\n\n    Syntax:  (\w+) (.+);\n    Default: (.+)\n    Context: (.+)\n\n"
    found = []
    for heading, name, *rest in re.findall(block, read("docs/directives.md"), re.M):
        assert heading == name
        found.append(Described(name, *rest))
    return found
