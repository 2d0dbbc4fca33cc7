"""nginx's configuration as text: blocks, directives, arguments in quotes, comments."""

import os
import re
import textwrap

# nginx reads no argument that is longer than its buffer of 4096 bytes.
LONGEST = 3800
PLAIN = re.compile(r"[\w./:=@+,%*~()^\[\]-]+", re.ASCII)
WIDTH = 96


class Impossible(Exception):
    """A value that nginx cannot be given; says why."""


class Raw(str):
    """An argument that is nginx's already, with its variables."""


def quoted(value, variables=False):
    """The value as one argument. variables: the directive would replace $ in it."""
    if isinstance(value, Raw):
        return value
    value = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if "\0" in value:
        raise Impossible("it has a null byte")
    if variables and "$" in value:
        raise Impossible("nginx would take its $ for a variable and has no way to write one")
    if PLAIN.fullmatch(value) and len(value) <= LONGEST:
        return value
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    text = f'"{text}"'
    if len(text.encode("utf-8", "surrogateescape")) > LONGEST:
        raise Impossible("it is longer than nginx takes for one argument")
    return text


def escaped(char):
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def comment(text, indent="", hanging=""):
    """The text as comment lines; nothing in it can end the comment."""
    safe = "".join(char if char.isprintable() or char == "\n" else escaped(char) for char in text)
    lines = []
    for part in safe.split("\n"):
        lines += textwrap.wrap(
            part, WIDTH - len(indent) - 2, subsequent_indent=hanging, break_on_hyphens=False,
            drop_whitespace=True,
        ) or [""]
    return [f"{indent}# {line}".rstrip() for line in lines]


class Block:
    """A block, or without a head the whole file."""

    def __init__(self, head=""):
        self.head = head
        self.items = []

    def add(self, name, *values, variables=False):
        words = [name] + [quoted(value, variables) for value in values]
        self.items.append(" ".join(words) + ";")

    def note(self, text):
        self.items.append([text])

    def space(self):
        if self.items and self.items[-1] != "":
            self.items.append("")

    def block(self, name, *values):
        inner = Block(" ".join([name] + [quoted(value) for value in values]))
        self.items.append(inner)
        return inner

    def lines(self, indent=""):
        inner = indent + "    " if self.head else indent
        found = [f"{indent}{self.head} {{"] if self.head else []
        items = self.items[:]
        while items and items[-1] == "":
            items.pop()
        for item in items:
            if isinstance(item, Block):
                found += item.lines(inner)
            elif isinstance(item, list):
                found += comment(item[0], inner)
            else:
                found.append(inner + item if item else "")
        if self.head:
            if not items:
                return [f"{indent}{self.head} {{}}"]
            found.append(f"{indent}}}")
        return found
