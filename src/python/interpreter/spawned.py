"""Lets children of multiprocessing that are started anew import the files that wsgi_app names, and
what comes with the server.

Functions and classes are pickled by the name of their module, and the name of such a module tells
nobody else where its file is. Run by bootstrap.py before the first of them is loaded, and in each
child, which gets this source with the data that multiprocessing prepares it by.

Runs on: the thread that imports applications; the main thread of a child.
"""

import importlib.machinery
import importlib.util
import sys
from multiprocessing import spawn

# Whoever runs this supplies its own text, the files, {name of the module: path}, and the packages
# that come with the server, {name: text}.
source, files, packages = source, files, packages


class _Loader(importlib.machinery.SourceFileLoader):
    """For a source of any name, without a compiled file, as in the worker."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Text:
    """For a package that has no file."""

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__
        exec(compile(packages[name], f"<{name}>", "exec"), module.__dict__)

    @staticmethod
    def get_source(name):
        return packages[name]


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in packages:
            return importlib.machinery.ModuleSpec(name, _Text, origin=f"<{name}>")
        if name not in files:
            return None
        loader = _Loader(name, files[name])
        return importlib.util.spec_from_file_location(name, files[name], loader=loader)


class _Sent:
    """Is unpickled by running this source."""

    def __reduce__(self):
        return exec, (source, {"source": source, "files": files, "packages": packages,
                               "__name__": "_wsgi_spawned"})


_prepare = spawn.get_preparation_data


def get_preparation_data(name):
    return {**_prepare(name), "wsgi_app": _Sent()}


spawn.get_preparation_data = get_preparation_data
sys.meta_path.append(Finder)
