"""The applications and their locations: module, wsgi-file, mount; the static files beside them."""

import os
import re
from dataclasses import dataclass

from ..common.block import Impossible, Raw, quoted
from .ini import Option, shown

LOADERS = {
    "paste": "write wsgi_app paste:/path/file.ini#name for {}, or a file wsgi.py with: from"
             " paste.deploy import loadapp; application = loadapp(...)",
    "pecan": "write a file wsgi.py with: from pecan.deploy import deploy;"
             " application = deploy(\"{}\"), and name it in wsgi_app",
    "eval": "put the code into a file wsgi.py and name it in wsgi_app",
    "web3": "is no WSGI", "pump": "is no WSGI", "wsgi-lite": "is no WSGI",
    "python-raw": "is no WSGI",
}
NAME = re.compile(r"(?!\d)\w+(\.(?!\d)\w+)*")


@dataclass
class App:
    option: Option
    target: str
    prefix: str = ""


def dotted(text):
    return NAME.fullmatch(text) is not None


class Applications:

    def __init__(self, settings):
        self.settings = settings
        self.default = None
        self.mounted = []
        self.callable = settings.text("callable")
        self.find()

    # -- finding

    def find(self):
        settings = self.settings
        module = settings.text("module", "wsgi")
        file = settings.text("wsgi-file", "file")
        paste = settings.text("ini-paste", "ini-paste-logged")
        if module:
            self.default = self.app(module, module.value, is_file=False)
        if file and module:
            settings.look(file, f"does not count, {module.key} comes first")
        elif file:
            self.default = self.app(file, file.value, is_file=True)
        if paste and (module or file):
            settings.look(paste, f"does not count, {(module or file).key} comes first")
        elif paste:
            self.default = self.paste(paste)
        for key, why in LOADERS.items():
            for option in settings.take(key):
                settings.look(option, why.format(shown(option.value)))
        scripts = settings.flag("manage-script-name")
        for option in settings.take("mount", "worker-mount"):
            self.mount(option, scripts)
        if self.callable and not self.callable.value.isidentifier():
            settings.look(self.callable, "is no name")
        alone = settings.flag("single-interpreter")
        if alone:
            settings.quiet(alone, "all applications of a worker share one interpreter")
        elif len(self.mounted) + bool(self.default) > 1:
            settings.look(self.mounted[-1].option, "uWSGI gives each application an interpreter"
                          " of its own; here they share one, with its modules and os.environ: two"
                          " Django projects need two nginx")
        if scripts:
            settings.quiet(scripts, "wsgi_mount does it")

    def app(self, option, text, is_file, prefix=""):
        """The application as wsgi_app takes it, None with a remark if it does not."""
        name, _, called = text.partition(":") if not is_file else (text, "", "")
        called = called or (self.callable.value if self.callable else "")
        if is_file:
            name, good, why = self.settings.path(name), True, ""
        else:
            good, why = dotted(name), "is no name of a module"
        if good and called and not dotted(called.removesuffix("()")):
            good, why = False, f"{shown(called)} is no name of a callable"
        if good and "$" in name:
            good, why = False, "wsgi_app takes no $"
        if not good:
            self.settings.look(option, why)
            return None
        return App(option, f"{name}:{called}" if called else name, prefix)

    def paste(self, option):
        """The application main of a file of PasteDeploy."""
        path = self.settings.path(option.value)
        if "$" in path or "#" in path:
            self.settings.look(option, "wsgi_app takes no $ and no # in the name of such a file")
            return None
        self.settings.look(option, "uWSGI takes options from the section [uwsgi] of that file too,"
                           " here none are read: run uwsgi2nginx on it as well")
        return App(option, f"paste:{path}")

    def mount(self, option, scripts):
        settings = self.settings
        prefix, equals, what = option.value.partition("=")
        is_file = what.endswith((".py", ".wsgi"))
        if not equals or not (is_file or ":" in what):
            settings.look(option, "is not PREFIX=FILE.py or PREFIX=MODULE:CALLABLE")
            return
        if prefix in ("", "/"):
            app = self.app(option, what, is_file)
            if self.default:
                settings.look(option, f"does not count, {self.default.option.key} is at / already")
            else:
                self.default = app
            return
        bare = prefix.rstrip("/")
        if not prefix.startswith("/") or "//" in bare or re.search(r"[?$\x00-\x1f]", bare):
            settings.look(option, "its prefix is not one that begins a path: it becomes a server"
                          " block with server_name, or nothing")
            return
        if bare != prefix:
            settings.look(option, "SCRIPT_NAME has no slash at its end here")
        if any(app.prefix == bare for app in self.mounted):
            settings.look(option, f"does not count, {bare} is mounted already")
            return
        app = self.app(option, what, is_file, bare)
        if app:
            if not scripts:
                settings.look(option, "without manage-script-name uWSGI takes it only for requests"
                              " whose SCRIPT_NAME its front sets; wsgi_mount sets it, and takes the"
                              " prefix off PATH_INFO")
            self.mounted.append(app)

    # -- writing

    def write(self, server, statics):
        for app in self.mounted:
            # Two locations, so that /prefixes stays with the application at /.
            for words in (["=", app.prefix], [app.prefix + "/"]):
                try:
                    location = server.block("location", *words)
                except Impossible as reason:
                    self.settings.look(app.option, f"would be a location, but {reason}")
                    break
                self.call(app, location)
                if not self.settings.put(app.option, location, "wsgi_mount", app.prefix):
                    server.items.remove(location)
            server.space()
        self.root(server, statics.checked())

    def root(self, server, checked):
        """location /, through the directories of check-static if there are some."""
        name = "/"
        for number, (option, directory) in enumerate(checked, 1):
            location = server.block("location", name)
            if not self.settings.put(option, location, "root", directory, variables=True):
                server.items.remove(location)
                continue
            name = "@application" if number == len(checked) else f"@static{number}"
            location.add("try_files", Raw("$uri"), *self.index, name)
            server.space()
        location = server.block("location", name)
        if self.default:
            self.call(self.default, location)
        else:
            location.note("No application here." if self.mounted else
                          "There is no application that could be carried over.")
            location.add("return", "404" if self.mounted else "503")

    index = ()

    def call(self, app, location):
        self.settings.put(app.option, location, "wsgi_app", app.target)


class Statics:
    """static-map, static-map2, check-static."""

    def __init__(self, settings, apps):
        self.settings = settings
        self.apps = apps
        self.maps = settings.take("static-map")
        self.appending = settings.take("static-map2")
        self.checks = settings.take("check-static", "static-check")
        self.indexes = settings.take("static-index")
        self.expires = settings.take(
            "static-expires", "static-expires-mtime", "static-expires-uri",
            "static-expires-uri-mtime", "static-expires-path-info",
            "static-expires-path-info-mtime", "static-expires-type", "static-expires-type-mtime")
        self.zipped = settings.take(
            "static-gzip", "static-gzip-all", "static-gzip-dir", "static-gzip-prefix",
            "static-gzip-ext", "static-gzip-suffix")
        used = self.maps or self.appending or self.checks
        for option in self.expires:
            settings.look(option, "write `expires TIME;` into the static locations it means"
                          if used else "there are no static files")
        for option in self.zipped:
            settings.look(option, "write `gzip_static on;` into the static locations it means"
                          if used else "there are no static files")
        for option in settings.take("static-skip-ext"):
            settings.look(option, "a regular expression location with wsgi_app would do this")
        for option in settings.take("static-safe"):
            settings.quiet(option, "nginx follows links out of the directory anyway")
        for option in settings.take("mimefile", "mime-file"):
            settings.look(option, "see nginx's types")
        self.used = bool(used)
        apps.index = [Raw(f"$uri/{option.value}") for option in self.indexes
                      if self.checks and re.fullmatch(r"[\w.-]+", option.value, re.ASCII)]

    def checked(self):
        found = []
        for option in self.checks:
            if not option.value:
                self.settings.look(option, "has no value")
                continue
            found.append((option, self.settings.path(option.value)))
        if found and self.apps.mounted:
            self.settings.look(found[0][0], "is looked at for location / only, not below a mount")
        return found

    def write(self, server):
        done = {}
        for option in self.maps + self.appending:
            key, equals, directory = option.value.partition("=")
            if not equals or not directory or not key.startswith("/"):
                self.settings.look(option, "is not /PREFIX=DIRECTORY")
                continue
            words = self.words(key, directory)
            if words[-1] in done:
                self.settings.look(option, f"does not count, {done[words[-1]].where} is for the"
                                   " same prefix; uWSGI looks into both")
                continue
            if words == ["/"]:
                self.settings.look(option, "would hide the application: use check-static, or root"
                                   " and try_files")
                continue
            done[words[-1]] = option
            self.location(server, option, words, directory)

    def words(self, key, directory):
        if os.path.isfile(self.settings.path(directory)):
            return ["=", key]
        return [key.rstrip("/") + "/"]

    def location(self, server, option, words, directory):
        path = self.settings.path(directory)
        if not self.target_fits(option, words):
            return
        location = server.block("location", *words)
        if option.key == "static-map2":
            good = self.settings.put(option, location, "root", path, variables=True)
        else:
            end = "" if words[0] == "=" else "/"
            good = self.settings.put(option, location, "alias", path.rstrip("/") + end,
                                     variables=True)
        if not good:
            server.items.remove(location)
            return
        names = [each.value for each in self.indexes if each.value]
        if names and words[0] != "=":
            self.settings.put(self.indexes[0], location, "index", *names, variables=True)
        if self.apps.mounted:
            self.settings.look(option, "uWSGI looks for it below each mount as well")
        server.space()

    def target_fits(self, option, words):
        if any(app.prefix + "/" == words[-1] for app in self.apps.mounted):
            self.settings.look(option, "has the prefix of a mount")
            return False
        try:
            quoted(words[-1])
        except Impossible as reason:
            self.settings.look(option, f"would be a location, but {reason}")
            return False
        return True
