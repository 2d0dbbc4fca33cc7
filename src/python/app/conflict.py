"""Finds applications that get each other's modules or settings, since they share an interpreter.

Loaded by conflict.rs when a second application has been imported. Only what is certain counts:
code of one application names a module that its own directory has, and gets another application's.

Runs on: pool threads.
"""

import os
import re
import sys

_SETTINGS = "DJANGO_SETTINGS_MODULE"
_NEVER_RUN = {"__name__", "TYPE_CHECKING"}
_PACKAGES = {"site-packages", "dist-packages"}
_NO_PROJECTS = {"django", *sys.stdlib_module_names}


def conflicts(apps, entries, settings_given):
    """Yield a line for each conflict.

    apps: pairs of wsgi_app's argument and the name of its module; entries: the directories of
    wsgi_chdir and wsgi_python_path; settings_given: the configuration sets Django's variable.
    """
    entries = {os.path.realpath(entry) for entry in entries}
    apps = [_App(target, name, entries) for target, name in apps]
    apps = [app for app in apps if app.file]
    lines = [] if settings_given else list(_settings(apps))
    for line in lines + list(_modules(apps, entries)):
        # A path may hold anything.
        yield "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class _App:
    def __init__(self, target, name, entries):
        module = sys.modules.get(name)
        self.target = target
        self.name = name
        self.file = _file(module)
        # A file outside of all entries has its own directory: what lies there is its own.
        self.home = self.file and (_home(self.file, entries) or os.path.dirname(self.file))
        self.package = _own_attribute(module, "__package__")

    def beside(self):
        """The files of the modules in the package of its module."""
        return dict.fromkeys(
            file for module in list(sys.modules.values())
            if self.package and _own_attribute(module, "__package__") == self.package
            and (file := _file(module))
        )

    def sources(self):
        """Where it may choose its settings: lists of (file, names), the first that does counts.

        Its own file, those its callable is imported from, nearest first, those beside its own. Of
        the functions of a file only those of the names count, or all of them for None.
        """
        yield [(self.file, None)]
        left = {self.name: {re.match(r"\w*", self.target.rpartition(":")[2]).group()}}
        seen = set()
        while left:
            fresh = {}
            for module, names in left.items():
                for found in sorted(set(_imports(module, names)) - seen):
                    seen.add(found)
                    fresh.setdefault(found[0], set()).add(found[1])
            left = fresh
            yield [(file, names) for module, names in left.items()
                   if (file := _file(sys.modules.get(module)))]
        yield [(file, None) for file in self.beside()]

    def wishes(self):
        """The settings it asks Django for: {name: (file, line)}, empty if it cannot be told."""
        for files in self.sources():
            found = {}
            for file, names in files:
                for name, line in _wishes(_read(file), names):
                    if name is None:
                        return {}
                    found.setdefault(name, (file, line))
            if found:
                return found
        return {}


def _settings(apps):
    """Django has one settings object in an interpreter; the first application makes it."""
    settings = _own_attribute(sys.modules.get("django.conf"), "settings")
    if settings is None:
        return
    used = os.environ.get(_SETTINGS)
    if getattr(settings, "configured", False):
        used = getattr(settings, "SETTINGS_MODULE", None)
    wishes = [(app, wish) for app in apps if (wish := app.wishes())]
    owner = next((app for app, wish in wishes if used in wish), None)
    if used is None or not wishes or not owner and set.intersection(*(set(w) for _, w in wishes)):
        return
    # Of wishes that have nothing in common one does not come true, whoever has chosen.
    of = f' of wsgi_app "{owner.target}"' if owner else ""
    for app, wish in wishes:
        if used not in wish:
            name, (file, line) = next(iter(wish.items()))
            yield (
                f'wsgi_app "{app.target}" does not get its settings: {file}:{line} sets {_SETTINGS}'
                f' to "{name}", Django runs with "{used}"{of}'
            )


def _modules(apps, entries):
    """Of two modules of one name only the first in sys.path is ever imported."""
    if len({app.home for app in apps}) < 2:
        return
    files = {name: _file(module) for name, module in list(sys.modules.items())}
    homes = {file: _home(file, entries) for file in files.values() if file}
    for app in apps:
        others = {other.home: other for other in apps if other.home != app.home}
        taken = {
            name: own for name, file in files.items()
            if homes.get(file) in others and (own := _own(app.home, name)) and own != file
        }
        if not taken:
            continue
        mine = [file for file, home in homes.items() if home == app.home]
        for file in dict.fromkeys((app.file, *mine)):
            for name, line in _names(_read(file)):
                if own := taken.pop(name, None):
                    other = others[homes[files[name]]]
                    yield (
                        f'wsgi_app "{app.target}" does not get its module "{name}": {file}:{line}'
                        f' names it for {own} but gets {files[name]} of wsgi_app "{other.target}"'
                    )


def _own_attribute(module, name):
    """Does not wake up a module that loads itself when it is touched."""
    try:
        return object.__getattribute__(module, "__dict__").get(name)
    except AttributeError:
        return None


def _file(module):
    file = _own_attribute(module, "__file__")
    return os.path.realpath(file) if isinstance(file, str) else None


def _home(file, entries):
    """The innermost of the entries that the file lies in; none if it is an installed package's."""
    above = os.path.dirname(file)
    while above not in entries:
        # A virtualenv often lies in the directory of a project.
        if os.path.basename(above) in _PACKAGES:
            return None
        below, above = above, os.path.dirname(above)
        if above == below:
            return None
    return above


def _own(home, name):
    """The file in `home` that a module of this name would come from."""
    base = os.path.join(home, *name.split("."))
    for path in (os.path.join(base, "__init__.py"), base + ".py"):
        if os.path.isfile(path):
            return os.path.realpath(path)
    return None


def _read(file):
    if file is None:
        return b""
    try:
        with open(file, "rb") as source:
            return source.read()
    except OSError:
        return b""


def _nodes(source, names=None):
    """The parts of a source that may run when it is imported or later.

    With names only what an import runs, and the functions of these names.
    """
    import ast

    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)

    try:
        left = [ast.parse(source)]
    except (SyntaxError, ValueError):
        return
    while left:
        node = left.pop()
        if isinstance(node, ast.If):
            names = (getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.test))
            if not _NEVER_RUN.isdisjoint(names):
                continue
        if names is not None and isinstance(node, inner):
            if getattr(node, "name", None) not in names or isinstance(node, ast.ClassDef):
                continue
        yield node
        left.extend(reversed(list(ast.iter_child_nodes(node))))


def _imports(module, names):
    """Yield (other module, name) for what the values of these names of a module are made of."""
    import ast

    module = sys.modules.get(module)
    package = str(_own_attribute(module, "__package__")).split(".")
    made, imported = {}, {}

    def consists(name, node):
        parts = (getattr(part, "id", getattr(part, "attr", None)) for part in ast.walk(node))
        made.setdefault(name, set()).update(filter(None, parts))

    for node in _nodes(_read(_file(module)), names):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    consists(target.id, node.value)
        elif isinstance(node, ast.FunctionDef):
            consists(node.name, node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                imported.setdefault(name, []).append((alias.name, None))
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                imported.setdefault(alias.asname or alias.name, []).append((start, alias.name))
    needed, fresh = set(names), set(names)
    while fresh := set().union(*(made.get(name, ()) for name in fresh)) - needed:
        needed |= fresh
    for name in needed:
        for start, original in imported.get(name, ()) or imported.get("*", ()):
            if start.partition(".")[0] in _NO_PROJECTS:
                continue
            whole = start if original is None else f"{start}.{original}"
            if original is None or whole in sys.modules:
                # Which of its names is meant is an attribute somewhere.
                other = sys.modules.get(whole)
                yield from ((whole, each) for each in needed
                            if _own_attribute(other, each) is not None)
            else:
                yield start, name if original == "*" else original


def _wishes(source, names=None):
    """Yield (settings module, line) where a source sets Django's variable; None: not constant."""
    if _SETTINGS.encode() not in source:
        return
    import ast

    def is_it(node):
        return isinstance(node, ast.Constant) and node.value == _SETTINGS

    for node in _nodes(source, names):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setdefault":
            if len(node.args) != 2 or not is_it(node.args[0]):
                continue
            value = node.args[1]
        elif isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Subscript) and is_it(target.slice) for target in node.targets
        ):
            value = node.value
        else:
            continue
        name = value.value if isinstance(value, ast.Constant) else None
        yield (name if isinstance(name, str) else None), node.lineno


def _names(source):
    """Yield (module, line) for each module that a source names absolutely."""
    import ast

    for node in _nodes(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from ((".".join(parts[:n]), node.lineno) for n in range(1, len(parts) + 1))
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
    yield from ((name, line) for name, line in _wishes(source) if name)
