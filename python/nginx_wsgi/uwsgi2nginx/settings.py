"""The options as the converter asks for them, and what is to be said about each.

Every option ends in one of three ways: as a directive, as a line of `look` (it does something that
this nginx.conf does not), or as a line of `quiet` (nothing has to be done for it).
"""

import os

from ..common.block import Impossible
from . import magic
from .ini import shown

OFF = ("false", "off", "no", "0")
# int and time in seconds of both programs; nginx counts some times in milliseconds.
MOST_INT = (1 << 31) - 1
MOST_SECONDS = MOST_INT // 1000


class Settings:

    def __init__(self, options, variables, cwd):
        self.options = [option for option in options if not option.logic]
        self.variables = variables
        self.cwd = cwd
        self.base = cwd
        self.seen = set()
        self.look_at = []
        self.quiet_about = []

    def look(self, option, why):
        self.mark(option)
        self.look_at.append((option, why))

    def quiet(self, option, why):
        self.mark(option)
        self.quiet_about.append((option, why))

    def mark(self, option):
        self.seen.add(id(option))

    def left(self):
        return [option for option in self.options if id(option) not in self.seen]

    # -- asking

    def take(self, *names):
        """All options of these names, which uWSGI treats alike."""
        found = [option for option in self.options if option.key in names]
        for option in found:
            self.mark(option)
        return found

    def last(self, *names):
        """The option that counts."""
        found = self.take(*names)
        for option in found[:-1]:
            self.look(option, f"does not count, {found[-1].where} has {found[-1].key} ="
                      f" {shown(found[-1].value)}")
        return found[-1] if found else None

    def text(self, *names):
        option = self.last(*names)
        if option and not option.value:
            self.look(option, "has no value")
            return None
        return option

    def on(self, option):
        return option.value.lower() not in OFF

    def flag(self, *names):
        """The last of them if it is switched on."""
        option = self.last(*names)
        return option if option and self.on(option) else None

    def number(self, *names, most=MOST_INT):
        """(option, number) of a number above 0, else None."""
        option = self.last(*names)
        if not option:
            return None
        value = self.read(option, most)
        if value is None:
            return None
        if value == 0:
            self.quiet(option, "0 is as if it were not there")
            return None
        return option, value

    def read(self, option, most=MOST_INT):
        """A whole number as uWSGI reads it: what stands behind it does not count."""
        value = magic.leading_number(option.value)
        if value < 0 or value > most:
            self.look(option, f"is no number from 0 to {most}")
            return None
        if str(value) != option.value.strip():
            self.look(option, f"uWSGI reads it as {value}")
        return value

    # -- paths

    def path(self, value):
        """Absolute; relative to chdir, where uWSGI is when it uses it."""
        return os.path.normpath(os.path.join(self.base, value))

    def start_path(self, value):
        """Absolute; relative to where uWSGI is started."""
        return os.path.normpath(os.path.join(self.cwd, value))

    # -- answering

    def put(self, option, block, name, *values, variables=False):
        """Adds the directive, or says why it cannot be written."""
        try:
            block.add(name, *values, variables=variables)
        except Impossible as reason:
            self.look(option, f"would be {name}, but {reason}")
            return False
        return True

    def writable(self, option, path, block, name, *more):
        """A directive for a file that nginx makes: as a comment if its directory is not there."""
        if os.path.isdir(path):
            why = "that is a directory"
        elif not os.path.isdir(os.path.dirname(path)):
            why = "its directory is not here"
        else:
            return self.put(option, block, name, path, *more, variables=name == "access_log")
        self.look(option, f"would be {name} {shown(path)}, but {why}")
        return False
