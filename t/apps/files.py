"""Answers wsgi.file_wrapper with all that has a read(); the path names it.

The query may give: seek (position before the answer), length (Content-Length), and header lines
(h=Name:value). close() of what it wraps is recorded with the position then: where Python itself
has read to.
"""

import gzip
import io
import os
import tempfile
from urllib.parse import parse_qsl

from record import record

CONTENT = b"".join(b"%07d\n" % n for n in range(8192))
CONTENT_END = len(CONTENT) - 8
NAMES = ["close", "seek", "seekable", "tell", "name", "fileno", "read"]


def path(name="content"):
    return os.path.join(os.path.dirname(os.environ["EVENTS"]), name)


def plain(environ):
    return open(path(), "rb")


def unbuffered(environ):
    return open(path(), "rb", buffering=0)


def updated(environ):
    """The position is that of the buffer, what was written last is not yet in the file."""
    file = tempfile.TemporaryFile()
    file.write(CONTENT)
    file.seek(0)
    file.write(b"x" * 100)
    return file


def rewritten(environ):
    """What was written lies in the buffer, behind which read() would look for it."""
    with open(path("rewritten"), "wb") as file:
        file.write(CONTENT)
    file = open(path("rewritten"), "r+b")
    file.read(10)
    file.seek(0)
    file.write(b"x" * 300)
    file.seek(0)
    return file


def named(environ):
    file = tempfile.NamedTemporaryFile()
    file.write(CONTENT)
    file.seek(0)
    return file


def spooled(environ):
    file = tempfile.SpooledTemporaryFile(max_size=10)
    file.write(CONTENT)
    file.seek(0)
    return file


def unlinked(environ):
    with open(path("unlinked"), "wb") as file:
        file.write(CONTENT)
    file = open(path("unlinked"), "rb")
    os.unlink(path("unlinked"))
    return file


class Proxy:
    """As Django's File: read is that of a real file."""

    def __init__(self, file):
        self.file = file

    @property
    def read(self):
        return self.file.read

    def tell(self):
        return self.file.tell()

    def close(self):
        self.file.close()


def proxied(environ):
    return Proxy(plain(environ))


def zipped(environ):
    """Has a fileno(), which is not that of its content."""
    with gzip.open(path("zip"), "wb") as file:
        file.write(CONTENT)
    return gzip.open(path("zip"))


class Upper(io.FileIO):
    def read(self, size=-1):
        return super().read(size).replace(b"0", b"o")


def subclass(environ):
    return Upper(path())


def patched(environ):
    file = plain(environ)
    read = file.read
    file.read = lambda size: read(size).replace(b"0", b"o")
    return file


def memory(environ):
    return io.BytesIO(CONTENT)


def pipe(environ):
    ends = os.pipe()
    with open(ends[1], "wb") as write:
        write.write(CONTENT[:4096])
    return open(ends[0], "rb")


class OnlyRead:
    def __init__(self):
        self.file = io.BytesIO(CONTENT)

    def read(self, size):
        return self.file.read(size)


def only_read(environ):
    return OnlyRead()


def system(environ):
    """A regular file that says that it is empty."""
    return open("/proc/self/limits", "rb")


def made(environ):
    """A regular file that says that it has 4096 bytes, and has three or four."""
    return open("/sys/devices/system/cpu/online", "rb")


def empty(environ):
    return tempfile.TemporaryFile()


def closed(environ):
    file = plain(environ)
    file.close()
    return file


def write_only(environ):
    return open(path("write_only"), "wb")


def text(environ):
    return open(path(), encoding="ascii")


def large(environ):
    return open(path("large"), "rb")


class Middleware:
    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __iter__(self):
        return iter(self.wrapped)

    def close(self):
        self.wrapped.close()


def application(environ, start_response):
    query = parse_qsl(environ["QUERY_STRING"])
    options = dict(query)
    name = environ["PATH_INFO"].rsplit("/", 1)[1]
    file = globals()[name](environ)
    if "seek" in options:
        file.seek(int(options["seek"]))
    headers = [tuple(value.split(":", 1)) for key, value in query if key == "h"]
    headers.append(("Content-Type", "text/plain"))
    if "length" in options:
        headers.append(("Content-Length", options["length"]))
    close = getattr(file, "close", None)
    if close and hasattr(file, "__dict__") and not getattr(file, "closed", False):
        def recorded():
            record("close", name, file.tell())
            close()
        file.close = recorded
    wrapper = environ["wsgi.file_wrapper"](file, int(options.get("block", 8192)))
    write = start_response(options.get("status", "200 OK"), headers)
    if options.get("how") == "written":
        write(b"before ")
    if options.get("how") == "asked":
        # As Werkzeug does to answer a range; the rest is read, since it is not the wrapper itself.
        assert wrapper.seekable() and wrapper.seek(CONTENT_END) == wrapper.tell() == CONTENT_END
        return Middleware(wrapper)
    if options.get("how") == "attributes":
        return [" ".join(name for name in NAMES if hasattr(wrapper, name)).encode()]
    if options.get("how") == "middleware":
        return Middleware(wrapper)
    if options.get("how") == "iterated":
        return list(wrapper)
    if options.get("how") == "advanced":
        assert next(iter(wrapper)) == CONTENT[:1000]
    if options.get("how") == "twice":
        return environ["wsgi.file_wrapper"](file)
    if options.get("how") == "dropped":
        return [b"no file"]
    return wrapper
