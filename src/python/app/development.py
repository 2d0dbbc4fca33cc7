"""For wsgi_reload and wsgi_debug. Loaded by interpreter.rs if one of them is on.

Runs on: the thread that starts Python (watch), any thread of Python (the rest).
"""

import html
import importlib.machinery
import linecache
import os
import sys
import time
import traceback

_FRESH = 2
_FRAMES = 40
_AROUND = 3
_LONGEST = 10_000


def watch(loads):
    """Have loads(path) called before a source file is read, also one that then fails."""
    stats = importlib.machinery.SourceFileLoader.path_stats

    def path_stats(self, path):
        loads(os.fspath(path))
        found = stats(self, path)
        if time.time() - found["mtime"] < _FRESH:
            # The compiled file names its source by size and second: saved twice in one second, the
            # source would never be read again. This makes Python do without the compiled file.
            raise OSError(f"{path} has just been written")
        return found

    importlib.machinery.SourceFileLoader.path_stats = path_stats
    for module in list(sys.modules.values()):
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str) and path.endswith(".py"):
            loads(path)


def search_path():
    """The directories in which a failed import has looked for modules."""
    found = list(sys.path)
    for module in list(sys.modules.values()):
        try:
            found.extend(vars(module).get("__path__", ()))
        except Exception:
            # Not a module, or a path that is computed and cannot be now.
            continue
    return [path for path in dict.fromkeys(found) if isinstance(path, str) and os.path.isdir(path)]


def first_wrong(paths):
    """Compile the files that are there; the first that is not Python, and why."""
    for path in paths:
        if os.path.isfile(path):
            try:
                with open(path, "rb") as file:
                    compile(file.read(), path, "exec", dont_inherit=True)
            except Exception as exc:
                return path, exc
    return None


def report(what, exc, text):
    """A page about an exception: as HTML and as plain text. `text` is its traceback."""
    linecache.checkcache()
    body = [f"<h1>{_html(what)}</h1>\n"]
    if exc is not None:
        told = traceback.TracebackException(type(exc), exc, exc.__traceback__, compact=True)
        body.extend(_exception(told))
        body.append(f"<h2>As text</h2>\n<pre>{_html(text)}</pre>\n")
    body.append(f"<p>{_html(_NOTE)}</p>\n")
    title = f"<title>{_html(what)}</title>"
    page = (f"<!DOCTYPE html>\n<html>\n<head>\n{_HEAD}{title}\n</head>\n"
            f"<body>\n{''.join(body)}</body>\n</html>\n")
    return _encode(page), _encode("\n\n".join(filter(None, (what, _cut(text), _NOTE))) + "\n")


def _exception(told, depth=0):
    """The exceptions before this one first, as Python does."""
    before = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
    if before is not None and depth < 10:
        yield from _exception(before, depth + 1)
        cause = "caused" if told.__cause__ else "was being handled; during that happened"
        yield f"<p>This {cause}:</p>\n"
    lines = "".join(told.format_exception_only())
    yield f'<pre class="exception">{_html(lines)}</pre>\n'
    frames = [frame for frame in told.stack if not _is_machinery(frame.filename)]
    left_out = len(frames) - _FRAMES
    for number, frame in enumerate(frames):
        if left_out > 0 and number == _FRAMES // 2:
            yield f"<p>{left_out} frames are left out.</p>\n"
        if left_out <= 0 or not 0 <= number - _FRAMES // 2 < left_out:
            yield from _frame(frame.filename, frame.lineno, f", in {frame.name}")
    if told.exc_type is not None and issubclass(told.exc_type, SyntaxError):
        try:
            yield from _frame(told.filename, int(told.lineno), "")
        except (TypeError, ValueError):
            # One that was raised by hand may have no place.
            pass


def _frame(filename, lineno, function):
    place = f"File \"{filename}\", line {lineno}{function}"
    yield f"<h3>{_html(place)}</h3>\n"
    lines = linecache.getlines(filename) if lineno else []
    if not 0 < (lineno or 0) <= len(lines):
        return
    yield "<pre>"
    for number in range(max(1, lineno - _AROUND), min(len(lines), lineno + _AROUND) + 1):
        line = _html(f"{number:5} {lines[number - 1].rstrip()}")
        yield f"<b>{line}</b>\n" if number == lineno else f"{line}\n"
    yield "</pre>\n"


def _is_machinery(filename):
    return filename.startswith(("<frozen importlib", "<wsgi ")) or filename == importlib.__file__


def _html(text):
    return html.escape(_cut(text))


def _cut(text):
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST // 2]}\n...\n{text[-_LONGEST // 2:]}"


def _encode(text):
    return text.encode("utf-8", "backslashreplace")


_NOTE = "Shown because wsgi_debug is on."
_HEAD = """<meta charset="utf-8">
<meta name="robots" content="noindex">
<style>
body { font: 15px/1.4 sans-serif; margin: 2em; }
h1 { font-size: 1.3em; }
h3 { font: bold 13px monospace; margin: 1.2em 0 0.3em; }
pre { background: #f4f4f4; padding: 0.6em; overflow-x: auto; white-space: pre; }
pre b { background: #ffd9d9; }
pre.exception { background: #ffecec; white-space: pre-wrap; }
</style>
"""
