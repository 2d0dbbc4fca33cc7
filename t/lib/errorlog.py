"""Reading nginx's error log: whole lines, from a mark, and what must never be in it."""

import os
import re

from .poll import until

ALARMS = re.compile(
    r"\[alert\]|\[emerg\]|\[crit\]|open socket|zero size buf|panicked at"
    r"|(?:Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:"
    r"|python did not stop|exited with code [1-9]|exited with fatal code|exited on signal"
)


class ErrorLog:
    def __init__(self, path):
        self.path = path
        self.required = []
        self.allowed = []

    def text(self, start=0):
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                return file.read().decode("latin-1")
        except FileNotFoundError:
            return ""

    def mark(self):
        """A position; pass it to lines() or wait_for() to look only at what came later."""
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def lines(self, start=0):
        return self.text(start).split("\n")[:-1]

    def matching(self, pattern, start=0):
        return [line for line in self.lines(start) if re.search(pattern, line)]

    def wait_for(self, pattern, timeout=10.0, start=0, count=1):
        """Wait until count lines match; return them."""

        def enough():
            found = self.matching(pattern, start)
            return found if len(found) >= count else None

        try:
            return until(enough, timeout, f"{count} log line(s) /{pattern}/")
        except AssertionError as error:
            tail = "\n".join(self.lines()[-30:])
            raise AssertionError(f"{error}\nlast lines of the error log:\n{tail}") from None

    def expect(self, pattern):
        """An alarming line that this test causes on purpose: it must come."""
        self.required.append(pattern)

    def allow(self, pattern):
        """An alarming line that this test may cause."""
        self.allowed.append(pattern)

    def alerts(self, start=0):
        """Alarming lines nobody asked for."""
        fine = self.required + self.allowed
        return [
            line
            for line in self.lines(start)
            if ALARMS.search(line) and not any(re.search(pattern, line) for pattern in fine)
        ]

    def missing(self):
        """Expected patterns that never came."""
        return [pattern for pattern in self.required if not self.matching(pattern)]


def message(line):
    """The text of a log record without date, level, pid, connection number and context."""
    text = re.sub(r"^\S+ \S+ \[\w+\] \d+#\d+: (?:\*\d+ )?", "", line)
    return re.sub(r", client: .*$", "", text)


def context(line):
    """The part of a record that nginx adds for a request, '' when there is none."""
    found = re.search(r", client: .*$", line)
    return found.group(0) if found else ""
