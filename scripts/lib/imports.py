"""Checks that the files of a room import each other one way.

usage: imports.py ROOM...
       imports.py --table ROOM     what each file and folder of a room imports, a line each

ROOM is a directory of Rust modules with a mod.rs, src/wsgi say. What is checked:

* No file imports one that imports it, itself or by way of others.
* The room's mod.rs lists its files and folders in groups, with an empty line between two. Each
  imports only from the groups above its own.

An import is a path in code: in a `use`, or where something is named by its path. What the other
file exports of a third one is an import of the other file. Comments, tests (`#[cfg(test)] mod`)
and other rooms do not count.
"""

import re
import sys
from pathlib import Path

# A comment on a line of its own, any other, a character, a string.
UNREAD = re.compile(r"""^[ \t]*//[^\n]*\n|//[^\n]*|b?'(?:\\[^']+|[^\\'\n])'|"(?:\\.|[^"\\])*\"""",
                    re.MULTILINE | re.DOTALL)
MOD = re.compile(r"^(?:pub(?:\([^)]*\))? )?mod (\w+);$", re.MULTILINE)
USE = re.compile(r"\buse\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])(?:crate|super|self|[a-z_]\w*)(?:\s*::\s*\w+)+")
TEST = re.compile(r"^#\[cfg\(test\)\]\n(?:pub(?:\([^)]*\))? )?mod \w+(?:;| \{\n.*?^\})\n?",
                     re.MULTILINE | re.DOTALL)


class Module:
    """A file, and the modules that it declares."""

    def __init__(self, file, parent=None):
        self.file = file
        self.parent = parent
        text = TEST.sub("", UNREAD.sub("", file.read_text()))
        self.groups = [MOD.findall(part) for part in re.split(r"\n\s*\n", text)]
        self.code = re.sub(r"\bpub\([^)]*\)", "pub", text)
        folder = file.parent if file.name == "mod.rs" else file.with_suffix("")
        self.children = {}
        for name in (name for group in self.groups for name in group):
            files = [folder / f"{name}.rs", folder / name / "mod.rs"]
            found = [file for file in files if file.exists()]
            if len(found) != 1:
                sys.exit(f"{file}: no file, or two, for the module {name}")
            self.children[name] = Module(found[0], self)

    def all(self):
        yield self
        for child in self.children.values():
            yield from child.all()

    def root(self):
        return self.parent.root() if self.parent else self

    def unit(self):
        """The name of the file or folder of the room that it belongs to."""
        module = self
        while module.parent and module.parent.parent:
            module = module.parent
        return next((name for name, child in self.root().children.items() if child is module), None)

    def find(self, path):
        """The module that a path leads to from here; none if it leads out of the room."""
        first, *rest = path
        if first == "crate":
            room = self.root().file.parent.name
            if rest[:1] != [room]:
                return None
            module, rest = self.root(), rest[1:]
        elif first == "self":
            module = self
        elif first == "super":
            module = self.parent
        else:
            module = self.children.get(first)
        for name in rest:
            if module is None:
                return None
            if name == "super":
                module = module.parent
            elif name in module.children:
                module = module.children[name]
            else:
                break
        return module

    def imports(self):
        """The modules that its code names."""
        paths = [path for tree in USE.findall(self.code) for path in leaves(tree)]
        paths += [re.split(r"\s*::\s*", path) for path in PATH.findall(USE.sub("", self.code))]
        found = {self.find(path) for path in paths}
        return sorted(found - {None, self}, key=lambda module: module.file)


def leaves(tree):
    """The paths of a use tree: `a::{b, c::d}` has two."""
    tree = tree.strip()
    if "{" not in tree:
        return [re.split(r"\s*::\s*", re.sub(r"\s+as\s+\w+$", "", tree))]
    prefix, _, inside = tree.partition("{")
    prefix = [name for name in re.split(r"\s*::\s*", prefix.strip()) if name]
    parts, depth = [""], 0
    for char in inside[:inside.rindex("}")]:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [prefix + path for part in parts if part.strip() for path in leaves(part)]


def circles(modules):
    """Circles, at least one if there is any: lists of modules, which end where they begin."""
    done, way, found = set(), [], []

    def visit(module):
        if module in way:
            found.append(way[way.index(module):] + [module])
        elif module not in done:
            way.append(module)
            for other in module.imports():
                visit(other)
            way.pop()
            done.add(module)

    for module in modules:
        visit(module)
    return found


def check(room):
    """What is wrong with a room, a line each."""
    root = Module(Path(room) / "mod.rs")
    modules = list(root.all())
    if not any(module.imports() for module in modules):
        return [f"{room}: no imports: nothing would be checked"]
    wrong = ["a circle: " + " imports ".join(str(module.file) for module in circle)
             for circle in circles(modules)]
    level = {name: number for number, group in enumerate(root.groups) for name in group}
    for module in modules:
        here = module.unit()
        for other in module.imports():
            there = other.unit()
            if here and there and here != there and level[there] >= level[here]:
                wrong.append(f"{module.file} imports {other.file}: in {root.file} {there} is not "
                             f"in a group above {here}")
    return wrong


def table(room):
    """The files and folders of a room, as its mod.rs lists them, and what each imports of it."""
    root = Module(Path(room) / "mod.rs")
    found = {name: set() for group in root.groups for name in group}
    for module in root.all():
        here = module.unit()
        there = {other.unit() for other in module.imports()}
        if here:
            found[here] |= there - {here, None}
    return found


def main(rooms):
    if rooms[:1] == ["--table"]:
        for room in rooms[1:]:
            print("".join(f"{name}: {' '.join(sorted(all))}".strip() + "\n"
                          for name, all in table(room).items()), end="")
        return 0
    if not rooms or rooms[0].startswith("-"):
        print(__doc__, file=sys.stdout if rooms else sys.stderr)
        return 0 if rooms else 2
    wrong = [line for room in rooms for line in check(room)]
    print("".join(f"{line}\n" for line in wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
