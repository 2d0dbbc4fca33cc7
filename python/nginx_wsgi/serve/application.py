"""Finds the application in a directory or a file, by the syntax tree: nothing is imported."""

import ast
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from . import Problem

# In the order in which they are preferred.
FILES = ("wsgi.py", "app.py", "application.py", "main.py")
FACTORIES = ("create_app", "make_app")
NAMES = ("application", "app", *FACTORIES)
SHOWN = "application, app, create_app(), make_app()"
SETTINGS = "DJANGO_SETTINGS_MODULE"
CALLABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")


@dataclass
class Application:
    """directory is the working directory and the first entry of sys.path.

    path is the file it was found in, if there is one; without a module it is loaded as a file.
    paste: that is a file of PasteDeploy, and callable a name in it.
    django: it is a Django project, whose module and callable are known only when its Python has
    been asked; settings is its settings module, empty if manage.py computes it. not_django: why a
    manage.py was passed over.
    """

    directory: Path
    path: Path = None
    module: str = ""
    callable: str = "application"
    paste: bool = False
    django: bool = False
    settings: str = ""
    not_django: str = ""

    @property
    def target(self):
        return self.target_of(self.module or self.path)

    def target_of(self, place):
        """The argument of wsgi_app, with its module or file at this place."""
        return f"paste:{place}#{self.callable}" if self.paste else f"{place}:{self.callable}"


# ------- what a file defines


def is_main(test):
    """if __name__ == "__main__": what is below is not run by an import."""
    names = [node.id for node in ast.walk(test) if isinstance(node, ast.Name)]
    return names == ["__name__"] and any(
        isinstance(node, ast.Constant) and node.value == "__main__" for node in ast.walk(test)
    )


def bindings(body):
    """The names that a module binds at its top level, with what each is bound to."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and node.value:
            if isinstance(node.target, ast.Name):
                yield node.target.id, node.value
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, (node, alias.name)
        elif isinstance(node, ast.If) and is_main(node.test):
            yield from bindings(node.orelse)
        else:
            for field in ("body", "handlers", "orelse", "finalbody"):
                yield from bindings(getattr(node, field, []))


def usable(name, node, path):
    """How wsgi_app would name this binding, or None if it can be no application."""
    factory = name in FACTORIES
    plain = f"{name}()" if factory else name
    if isinstance(node, tuple):
        node, original = node
        # "from . import app" may be the submodule.
        if node.level and not node.module:
            folder = path.parent / original
            return None if folder.is_dir() or folder.with_suffix(".py").exists() else plain
        return plain
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        required = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
        required += node.args.kw_defaults.count(None)
        if required == 0 and not node.args.vararg:
            return f"{name}()"
        return None if factory or (required != 2 and not node.args.vararg) else name
    no = (ast.AsyncFunctionDef, ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set)
    return None if isinstance(node, no) else plain


def parse(path):
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise Problem(f"cannot parse {path}{line}: {getattr(error, 'msg', error)}") from None


def callable_in(path):
    """The best name in a file, in the form of wsgi_app, or None."""
    found = {}
    for name, node in bindings(parse(path).body):
        if name in NAMES and (text := usable(name, node, path)):
            found[name] = text
    return next((found[name] for name in NAMES if name in found), None)


# ------- how it is imported


def application(path, name):
    """A file, by the module name that it has from the directory above its packages."""
    if path.suffix != ".py":
        return Application(path.parent, path, callable=name)
    folder = path.parent
    parts = [] if path.name == "__init__.py" else [path.stem]
    while (folder / "__init__.py").exists() and folder != folder.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    # Python would find its own module instead.
    own = set(getattr(sys, "stdlib_module_names", sys.builtin_module_names))
    if parts and parts[0] not in own and all(part.isidentifier() for part in parts):
        return Application(folder, path, ".".join(parts), name)
    return Application(path.parent, path, callable=name)


def settings_named_by(manage):
    """The settings module that a manage.py sets: the last one, if several."""
    found = ""
    for node in ast.walk(parse(manage)):
        if isinstance(node, ast.Call) and len(node.args) == 2:
            name, value = node.args
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            name, value = node.targets[0].slice, node.value
        else:
            continue
        if all(isinstance(each, ast.Constant) for each in (name, value)):
            if name.value == SETTINGS and isinstance(value.value, str):
                found = value.value
    return found


class Search:
    """Looks through a directory and remembers where, for the message when nothing is there."""

    def __init__(self, directory):
        self.directory = directory
        self.looked = []
        self.not_django = ""

    def file(self, path):
        shown = path.relative_to(self.directory)
        if not path.exists():
            self.looked.append(f"{shown}: not there")
            return None
        try:
            name = callable_in(path)
        except Problem as problem:
            self.looked.append(f"{shown}: {problem}")
            return None
        if not name:
            self.looked.append(f"{shown}: has none of {SHOWN}")
            return None
        return application(path, name)

    def first(self, folder, names):
        found = (self.file(folder / name) for name in names)
        return next((each for each in found if each), None)

    def django(self):
        manage = self.directory / "manage.py"
        if not manage.exists():
            self.looked.append("manage.py: not there")
            return None
        settings = os.environ.get(SETTINGS) or settings_named_by(manage)
        if not settings and SETTINGS.encode() not in manage.read_bytes():
            self.not_django = f"manage.py: does not say what {SETTINGS} is; the environment may"
            self.looked.append(self.not_django)
            return None
        return Application(self.directory, manage, django=True, settings=settings)

    def packages(self):
        """The application of the one package that has one."""
        found = []
        for folder in sorted(self.directory.iterdir()):
            if (folder / "__init__.py").is_file():
                names = ["__init__.py", *(name for name in FILES if (folder / name).exists())]
                found.append(self.first(folder, names))
        found = [each for each in found if each]
        if len(found) > 1:
            lines = "".join(f"\n    {each.target}" for each in found)
            raise Problem(f"several applications in {self.directory}:{lines}\n"
                          "go there and name the one that is meant, as it stands here")
        if not found:
            self.looked.append("packages: none with an application")
        return found[0] if found else None

    def run(self):
        files = FILES
        if (self.directory / "__init__.py").exists():
            files = ("__init__.py", *FILES)
        found = self.django() or self.first(self.directory, files) or self.packages()
        if found:
            found.not_django = self.not_django
            return found
        lines = "".join(f"\n    {line}" for line in self.looked)
        raise Problem(f"no WSGI application in {self.directory}; looked for{lines}\n"
                      "a file is named as /path/file.py:callable, a module as module:callable")


# ------- the argument


def find(text):
    """The application that DIR, FILE[:callable], FILE.ini[#name] or module:callable names."""
    path = Path(os.path.abspath(text))
    if path.is_dir():
        return Search(path).run()
    ini, mark, name = (text, "", "") if path.is_file() else text.partition(".ini#")
    ini += mark[:-1]
    if ini.endswith(".ini") and os.path.isfile(ini):
        path = Path(os.path.abspath(ini))
        return Application(path.parent, path, callable=name or "main", paste=True)
    name = ""
    if not path.exists() and ":" in text:
        text, _, name = text.rpartition(":")
        path = Path(os.path.abspath(text))
        if not CALLABLE.fullmatch(name):
            raise Problem(f"\"{name}\" is neither a callable nor a factory() without arguments")
    if path.is_file():
        name = name or callable_in(path)
        if not name:
            raise Problem(f"{path} has none of {SHOWN}; name another one: {text}:callable")
        return application(path, name)
    if name and all(map(str.isidentifier, text.split("."))) and path.suffix != ".py":
        return Application(Path.cwd(), module=text, callable=name)
    parts = text.split(".")
    if not name and all(map(str.isidentifier, parts)):
        # A module of the current directory; that of an installed package is named with a callable.
        place = Path.cwd().joinpath(*parts)
        for found in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if found.is_file():
                if name := callable_in(found):
                    return Application(Path.cwd(), found, text, name)
                raise Problem(f"{found} has none of {SHOWN}; name another one: {text}:callable")
    hint = "" if name else "; a module is named as module:callable"
    raise Problem(f"there is no {'file' if name else 'file or directory'} {path}{hint}")
