"""Reads an ini file as uWSGI 2.0 does: the list of its options, in order, with file and line.

What this is not: Python's configparser. Only lines of the section that is asked for count, a key
may be repeated, a key without = is an option without value, a comment is a line that begins with ;
or # and nothing else, a value keeps its quotes, and an indented line is a line of its own.
"""

import glob
import os
import re
from dataclasses import dataclass

from ..common.block import escaped
from . import magic

BLANK = " \t\r"
LARGEST = 16 << 20
ENDS = ("end", "endfor", "endif", "end-if", "end-for")
# Options that uWSGI obeys while it reads: their values keep $(ENV), @(file) and %(option).
IMMEDIATE = set("""
    autoload blacklist command-mode config declare-option early-pyimport early-python-import
    early-python-path early-pythonpath end-blacklist end-for end-if end-whitelist endfor endif
    extract fallback-config flock flock-wait for for-glob for-readline for-times if-dir
    if-directory if-env if-exists if-file if-hostname if-hostname-match if-not-dir if-not-env
    if-not-exists if-not-file if-not-hostname if-not-hostname-match if-not-opt if-not-plugin
    if-not-reload if-opt if-plugin if-reload ifdir ifenv ifexists ifplugin immediate-gid
    immediate-uid include ini ini-paste ini-paste-logged inject-after inject-before js json listen
    need-plugin need-plugins pcre-jit plugin plugin-dir plugins plugins-dir resolve set set-ph
    set-placeholder signal strict umask whitelist xml xmlconfig yaml yml
""".split())
SAME = {
    "ifenv": "if-env", "ifdir": "if-dir", "if-directory": "if-dir", "ifexists": "if-exists",
    "ifplugin": "if-plugin",
}
OTHER_FORMATS = ("xml", "xmlconfig", "yaml", "yml", "json", "js")


class Failure(Exception):
    """What cannot be read; says where."""

    def __init__(self, where, text):
        super().__init__(f"{where}: {text}")


@dataclass
class Option:
    key: str
    value: str
    file: str
    line: int
    final: bool = False  # its placeholders are not replaced (any more)
    logic: bool = False  # an if, a for, an include: it has been obeyed

    @property
    def where(self):
        return f"{self.file}:{self.line}"


class Reader:
    """options: all of them; notes: what had to be decided or guessed, with the option."""

    def __init__(self, cwd, environ):
        self.cwd = cwd
        self.environ = environ
        self.magic = magic.Magic(cwd)
        self.options = []
        self.notes = []
        self.guesses = {}
        self.variables = set()
        self.plugins = {"python", "python3", "http", "router_static", "corerouter", "cache"}
        self.last_file = None
        self.open_files = []
        self.condition = None  # the if or for that is open
        self.inside = False

    # -- files

    def read(self, name):
        self.load(name, None)
        if self.condition:
            self.note(self.condition, f"has no end{self.condition.key[:2].rstrip('-')}")
        self.passes(self.options)
        for option in [each for each in self.options if each.key == "inherit"]:
            option.logic = True
            self.load(option.value, option)
        return self.options

    def note(self, option, text):
        self.notes.append((option, text))

    def split(self, name, asker):
        path, colon, section = name.rpartition(":")
        if not colon:
            path, section = name, ""
        if path == "" and self.last_file is None:
            raise Failure(self.place(asker, name), "no file is named")
        return path, section

    @staticmethod
    def place(asker, name):
        return f"{asker.where}: {asker.key} = {shown(asker.value)}" if asker else shown(name)

    def load(self, name, asker):
        path, section = self.split(name, asker)
        again = path == ""
        file = self.last_file if again else path
        full = os.path.join(self.cwd, file)
        key = (os.path.realpath(full), section or "uwsgi")
        if key in self.open_files:
            raise Failure(self.place(asker, name), "includes itself")
        if len(self.open_files) > 50:
            raise Failure(self.place(asker, name), "includes go too deep")
        first = asker is None
        self.magic.enter(name, "" if again else path, section, first)
        self.last_file = file
        text = self.contents(file, asker and self.place(asker, name))
        used = set()
        text, numbers = self.magic.apply(text, used)
        for letter in used:
            self.guesses.setdefault(f"%{letter}", (self.magic.guessed[letter],
                                                   self.magic.table[letter]))
        self.open_files.append(key)
        try:
            self.lines(text, numbers, file, section or "uwsgi", asker)
        finally:
            self.open_files.pop()

    def contents(self, name, place):
        """The text of a file; place is who asks for it, None for the command line."""
        try:
            with open(os.path.join(self.cwd, name), "rb") as file:
                data = file.read(LARGEST + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if place is None:
                raise Failure(shown(name), reason) from None
            raise Failure(place, f"{shown(name)}: {reason}") from None
        if len(data) > LARGEST:
            raise Failure(place or shown(name), "larger than 16 MiB, no ini file")
        if b"\0" in data:
            line = data[:data.index(b"\0")].count(b"\n") + 1
            raise Failure(f"{shown(name)}:{line}", "a null byte, this is no ini file")
        return data.decode("utf-8", "surrogateescape")

    def lines(self, text, numbers, file, asked, asker):
        section, found, sections = "", False, []
        for index, line in enumerate(text.split("\n")):
            line = line.lstrip(BLANK).rstrip(BLANK)
            if not line or line[0] in ";#":
                continue
            if line[0] == "[":
                # The last character goes, whatever it is.
                section = line[1:-1] if len(line) > 1 else ""
                sections.append((numbers[index], line))
                continue
            key, _, value = line.partition("=")
            if section == asked:
                found = True
                self.add(Option(key.rstrip(BLANK), value.strip(BLANK), shown(file),
                                numbers[index]))
        if not found:
            self.no_section(file, asked, sections, asker)

    def no_section(self, file, asked, sections, asker):
        text = f"no options in a section [{shown(asked)}]"
        if sections:
            names = ", ".join(f"line {line}: {shown(name)}" for line, name in sections[:8])
            text += f"; there is {names}"
        if asker is None:
            first = sections[0][0] if sections else 1
            raise Failure(f"{shown(file)}:{first}", text)
        self.note(asker, f"{shown(file)}: {text}")

    # -- options

    def add(self, option):
        if not self.inside:
            if option.key in ENDS:
                self.condition = None
            if self.condition:
                self.inside = True
                try:
                    self.conditional(self.condition, option)
                finally:
                    self.inside = False
                return
        self.options.append(option)
        if len(self.options) > 100_000:
            raise Failure(option.where, "more than 100000 options")
        if option.key in IMMEDIATE:
            option.final = True
            self.obey(option)

    def obey(self, option):
        key = option.key
        if key in ENDS or key.startswith("if") or key.startswith("for"):
            option.logic = True
            if key not in ENDS:
                if self.condition:
                    raise Failure(option.where, f"{key} inside of the {self.condition.key} of"
                                  f" line {self.condition.line}: uWSGI refuses that too")
                self.condition = option
                self.announce(option)
        elif key == "ini" or key == "include":
            option.logic = True
            if key == "include" and not option.value.endswith(".ini"):
                raise Failure(option.where, f"include = {shown(option.value)}: uWSGI includes"
                              " only what ends with .ini (ini = FILE:SECTION takes a section)"
                              if ":" in option.value else
                              f"include = {shown(option.value)}: only ini files are read here")
            self.load(option.value, option)
        elif key in OTHER_FORMATS or key == "config":
            raise Failure(option.where, f"{key} = {shown(option.value)}: only ini files are read"
                          " here")
        elif key in ("set", "set-ph", "set-placeholder"):
            option.logic = True
            name, equals, value = option.value.partition("=")
            if not equals:
                raise Failure(option.where, f"{key} = {shown(option.value)}: no NAME=VALUE")
            fresh = Option(name, value, option.file, option.line)
            if key == "set":
                self.add(fresh)
            else:
                fresh.final = True
                self.variables.add(name)
                self.options.append(fresh)
        elif key in ("plugin", "plugins", "need-plugin", "need-plugins"):
            self.plugins.update(name for name in option.value.split(",") if name)

    # -- if and for

    def announce(self, condition):
        """An if is decided once for all of its lines; says how."""
        kind = SAME.get(condition.key, condition.key)
        if kind.startswith("for"):
            return
        holds, _ = self.holds(condition)
        self.note(condition, f"{'holds' if holds else 'does not hold'} here, so the lines up to"
                  f" its endif are {'kept' if holds else 'left out'}")

    def conditional(self, condition, option):
        kind = SAME.get(condition.key, condition.key)
        if option.key == "else":
            self.note(option, "uWSGI 2.0 knows no else: this and the lines up to endif belong to"
                      " the if")
        if kind.startswith("for"):
            for item in self.items(kind, condition):
                self.add(Option(option.key, option.value.replace("%(_)", item), option.file,
                                option.line))
            return
        holds, text = self.holds(condition)
        if holds:
            if text is not None and not kind.endswith("reload"):
                option.value = option.value.replace("%(_)", text)
            self.add(option)

    def items(self, kind, condition):
        data = condition.value
        if kind == "for":
            return [word for word in data.split(" ") if word]
        if kind == "for-times":
            times = magic.leading_number(data)
            if times > 10_000:
                raise Failure(condition.where, f"for-times = {shown(data)}: that is too often")
            return [str(number) for number in range(1, times + 1)]
        if kind == "for-glob":
            full = os.path.join(self.cwd, data)
            found = sorted(glob.glob(full, include_hidden=False))
            cut = 0 if os.path.isabs(data) else len(os.path.join(self.cwd, ""))
            return [name[cut:] + ("/" if os.path.isdir(name) else "") for name in found] or [data]
        text = self.contents(data, f"{condition.where}: {condition.key} = {shown(data)}")
        return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []

    def holds(self, condition):
        """Whether the condition holds, and what %(_) stands for in its lines."""
        kind = SAME.get(condition.key, condition.key).removeprefix("if-")
        data = condition.value
        negated = kind.startswith("not-")
        kind = kind.removeprefix("not-")
        name, equals, wanted = data.partition("=")
        path = os.path.join(self.cwd, data)
        found = data
        if kind in ("env", "opt"):
            found = self.environ.get(name) if kind == "env" else self.lookup(name)
            holds = found is not None and (not equals or found == wanted)
        elif kind == "exists":
            holds = os.path.exists(path)
        elif kind in ("file", "dir"):
            holds = os.path.isfile(path) if kind == "file" else os.path.isdir(path)
        elif kind == "plugin":
            holds = data in self.plugins
        elif kind == "hostname":
            holds = data == self.magic.table["h"]
        elif kind == "hostname-match":
            try:
                holds = re.search(data, self.magic.table["h"]) is not None
            except re.error as error:
                raise Failure(condition.where,
                              f"{condition.key} = {shown(data)}: {error}") from None
        else:  # reload: this is no reload
            holds = False
        return holds != negated, found

    # -- placeholders

    def lookup(self, name):
        for option in self.options:
            if option.key == name:
                self.variables.add(name)
                return option.value
        return None

    def passes(self, options):
        for symbol, lookup in (("$", self.environment), ("@", self.file),
                               ("%", lambda name: magic.computed(name, self.lookup))):
            for option in options:
                if option.final:
                    continue
                self.current = option
                try:
                    magic.replace(option, symbol, lookup)
                except magic.Endless:
                    raise Failure(option.where, f"{shown(option.key)}: its placeholders never end"
                                  ) from None
        for option in options:
            option.final = True

    def environment(self, name):
        value = self.environ.get(name)
        if value is None:
            self.note(self.current, f"$({shown(name)}) is not set here and stays as it is")
            return None
        self.guesses.setdefault(f"$({shown(name)})", ("the environment of uwsgi", value))
        return value

    def file(self, name):
        if "://" in name:
            self.note(self.current, f"@({shown(name)}) is neither run nor fetched here")
            return None
        place = f"{self.current.where}: @({shown(name)})"
        text = self.contents(name, place)
        return text[:-1] if text.endswith(("\n", "\r")) else text


def shown(text, longest=160):
    """The text for a message or a comment: one line, printable, not too long."""
    safe = "".join(char if char.isprintable() else escaped(char) for char in text[:longest + 1])
    return safe if len(safe) <= longest else safe[:longest] + "..."
