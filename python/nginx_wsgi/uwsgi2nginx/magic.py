"""What uWSGI replaces in an ini file: %x while reading, then $(ENV), @(file), %(option).

As uWSGI 2.0 does it, its oddities included: a % before any other character vanishes together with
that character, the line feed not excepted, so that a % at the end of a line joins it with the next.
"""

import contextlib
import grp
import os
import pwd
import re
import socket
import time

# A value that refers to itself grows for ever in uWSGI.
MOST = 1000
LONGEST = 1 << 20


class Endless(Exception):
    """Placeholders that never come to an end."""


def _hash(path):
    number = 5381
    for byte in os.fsencode(path):
        number = (number * 33 ^ byte) & 0xFFFFFFFF
    return number.to_bytes(4, "little").hex().upper()


def _name(lookup, number):
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


class Magic:
    """The table of %x. Those of `guessed` depend on where and as whom uWSGI is started."""

    guessed = {
        "v": "the directory uwsgi is started in", "h": "the host name", "k": "the processor cores",
        "u": "the user uwsgi is started as", "U": "the user uwsgi is started as",
        "g": "the group uwsgi is started as", "G": "the group uwsgi is started as",
        "t": "the time of the start", "T": "the time of the start",
        "b": "the path of the uwsgi binary", "V": "the version of uWSGI",
    }

    def __init__(self, cwd):
        self.cwd = cwd
        self.table = {
            "%": "%", "(": "%(", "[": "\033", "v": cwd, "h": socket.gethostname(),
            "k": str(os.cpu_count()), "u": str(os.getuid()), "g": str(os.getgid()),
            "U": _name(pwd.getpwuid, os.getuid()), "G": _name(grp.getgrgid, os.getgid()),
            "t": str(int(time.time())), "T": str(time.time_ns() // 1000),
            "b": "uwsgi", "V": "2.0",
        }

    def enter(self, name, path, section, first):
        """The file that is read from now on; an empty path means the last one once more."""
        fresh = {"o": name, "x": section}
        if path:
            full = os.path.join(self.cwd, path)
            if not os.path.islink(full):
                full = os.path.realpath(full)
            directory, base = os.path.split(full)
            stem, dot, extension = base.rpartition(".")
            fresh |= {
                "p": full, "s": base, "d": directory.rstrip("/") + "/",
                "c": os.path.basename(directory), "n": stem if dot else base,
                "e": extension if dot else "", "j": _hash(full),
            }
            with contextlib.suppress(OSError):
                fresh["i"] = str(os.lstat(full).st_ino)
            parts = [part for part in directory.split("/") if part]
            fresh |= {str(number): "" for number in range(10)}
            fresh |= {str(number): part for number, part in enumerate(parts[:10])}
        self.table |= fresh
        if first:
            letters = {letter: self.table.get(letter, "") for letter in "odspcenxij"}
            self.table |= {letter.upper(): value for letter, value in letters.items()}

    def apply(self, text, used):
        """The text with every %x replaced, and for each line the number it had in the file."""
        done, numbers, number = [], [1], 1
        where = 0
        while where < len(text):
            char = text[where]
            where += 1
            if char == "%" and where < len(text):
                letter = text[where]
                where += 1
                if letter in self.guessed:
                    used.add(letter)
                if letter == "\n":
                    number += 1
                # uWSGI takes one byte, of a longer character the rest stays.
                rest = letter.encode("utf-8", "surrogateescape")[1:]
                char = self.table.get(letter, rest.decode("utf-8", "surrogateescape"))
            elif char == "\n":
                number += 1
                numbers.append(number)
            done.append(char)
        return "".join(done), numbers


def replace(option, symbol, lookup):
    """Puts what lookup(name) returns in the place of each symbol(name) of the value, unless None.

    One after the other: an option that refers to itself sees what has been replaced so far.
    """
    state, depth, begin, rounds, where = "text", 0, 0, 0, 0
    while where < len(option.value):
        value = option.value
        char = value[where]
        if char == symbol:
            state = "symbol"
        elif state == "symbol" and char == "(":
            state, depth, begin = "name", 0, where + 1
        elif state == "name":
            if char == "(":
                depth += 1
            elif char == ")" and depth:
                depth -= 1
            elif char == ")":
                state = "text"
                name = value[begin:where]
                found = lookup(name) if name else None
                if found is not None:
                    rounds += 1
                    option.value = value[:begin - 2] + found + value[where + 1:]
                    if rounds > MOST or len(option.value) > LONGEST:
                        raise Endless
                    where = 0
        else:
            state = "text"
        where += 1


def computed(expression, lookup):
    """What %(a b + 2) stands for: options and numbers, joined or computed from left to right."""
    if " " not in expression:
        return lookup(expression)
    value, operator = None, None
    for word in filter(None, expression.split(" ")):
        if word in ("+", "-", "*", "/"):
            operator = word
            continue
        if word in ("++", "--"):
            if value is not None:
                value = str(leading_number(value) + (1 if word == "++" else -1))
            operator = None
            continue
        operand = word if word.isdigit() else lookup(word) or ""
        if operator is None:
            value = (value or "") + operand
        else:
            value = str(_calculate(leading_number(value or ""), operator, leading_number(operand)))
        operator = None
    return value


def _calculate(left, operator, right):
    if operator == "/":
        sign = -1 if (left < 0) != (right < 0) else 1
        return sign * (abs(left) // abs(right)) if right else 0
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def leading_real(text):
    """The number a text begins with, its fraction included, 0 if there is none."""
    found = re.match(r"[ \t\n\v\f\r]*([+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)", text, re.I | re.A)
    return float(found[1]) if found else 0.0


def leading_number(text):
    """The number a text begins with, 0 if there is none."""
    text = text.strip(" \t\n\v\f\r")
    sign = text[:1] if text[:1] in ("+", "-") else ""
    digits = ""
    for char in text[len(sign):]:
        if char not in "0123456789":
            break
        digits += char
    return int(sign + digits[:40]) if digits else 0
