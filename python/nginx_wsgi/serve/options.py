"""The options of `nginx-wsgi serve` and of scripts/serve."""

import argparse
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

from . import cpus

TEXT = """\
--port N            default 8080; 0 picks a free one
--listen ADDRESS    default 127.0.0.1
--bind WHERE        ADDRESS:PORT, :PORT (of all addresses) or unix:/path, in place of both; may be
                    repeated
--certfile FILE     TLS, with this certificate and its chain; HTTP/2 where nginx has it
--keyfile FILE      its private key (default: in the same file)
--static URL=DIR    nginx serves the files below DIR; may be repeated
--status URL        the module's status page, for clients of this machine
--conf-snippet FILE directives for the server block, included; may be repeated
--workers N         processes (default 1); auto: as many as there are processors, or as the cgroup
                    gives processor time
--threads N         threads that run the application, in each process (default 4)
--graceful-timeout N
                    seconds that requests have at the end (default 10)
--access-log WHERE  a file, - for standard output, or off
--reload            loads the application again when its files change (wsgi_reload), and shows
                    its tracebacks in the browser (wsgi_debug) unless others may reach ADDRESS
--venv DIR          the virtualenv
--user NAME         whom the workers run as, for root (default: the owner of the application;
                    www-data if that is root)
"""


@dataclass(frozen=True)
class Bind:
    """A place to listen on: address and port, or the path of a socket."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    port: int = 0
    path: str = ""

    def __str__(self):
        """As nginx's listen has it."""
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @property
    def host(self):
        return f"[{self.address}]" if self.address.version == 6 else str(self.address)

    @property
    def is_open(self):
        """Whether other machines may reach it."""
        return not self.path and not self.address.is_loopback


# ------- what an argument may be


def port(text):
    if not re.fullmatch("[0-9]+", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return int(text)


def positive(text):
    if not re.fullmatch("[0-9]+", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def workers(text):
    return cpus.available() if text == "auto" else positive(text)


def address(text):
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no IP address") from None


def bind(text):
    if text.startswith("unix:"):
        path = os.path.abspath(text[5:])
        if text == "unix:" or len(os.fsencode(path)) > 107:
            raise argparse.ArgumentTypeError(f"{text} is no unix:/path of at most 107 bytes")
        return Bind(path=path)
    host, colon, number = text.rpartition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text} is neither ADDRESS:PORT nor unix:/path")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    host = {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)
    return Bind(address(host), port(number))


def static(text):
    url, equals, directory = text.partition("=")
    # The shell leaves a ~ after the equals sign as it is.
    directory = os.path.expanduser(directory)
    if not equals or not url.startswith("/") or not url.strip("/"):
        raise argparse.ArgumentTypeError(f"{text} is not URL=DIR with a URL such as /static/")
    if not os.path.isdir(directory):
        raise argparse.ArgumentTypeError(f"{directory} is no directory")
    return url.rstrip("/") + "/", Path(os.path.abspath(directory))


def url(text):
    if not text.startswith("/") or text == "/":
        raise argparse.ArgumentTypeError(f"{text} is no URL such as /status")
    return text


def virtualenv(text):
    if not os.path.isfile(os.path.join(text, "pyvenv.cfg")):
        raise argparse.ArgumentTypeError(f"{text} is no virtualenv: it has no pyvenv.cfg")
    return Path(os.path.abspath(text))


def file(text):
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text} is no file")
    return Path(os.path.abspath(text))


def log(text):
    return text if text in ("-", "off") else Path(os.path.abspath(text))


# ------- the command line


def parse(argv, prog, text):
    """The options, with binds: where to listen. text: what -h prints."""
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False)
    parser.format_help = lambda: text
    usage = f"usage: {prog} DIR|FILE|module:callable [options], see -h\n"
    parser.format_usage = lambda: usage
    add = parser.add_argument
    add("what")
    add("--port", type=port)
    add("--listen", type=address)
    add("--bind", type=bind, action="append", default=[])
    add("--certfile", type=file)
    add("--keyfile", type=file)
    add("--static", type=static, action="append", default=[])
    add("--status", type=url)
    add("--conf-snippet", type=file, action="append", default=[])
    add("--workers", type=workers, default=1)
    add("--threads", type=positive, default=4)
    add("--graceful-timeout", type=positive, default=10)
    add("--access-log", type=log)
    add("--reload", action="store_true")
    add("--venv", type=virtualenv)
    add("--user", default="")
    add("--module", type=file)
    add("--print-config", action="store_true")
    options = parser.parse_args(argv)
    given = (options.port, options.listen) != (None, None)
    if options.bind and given:
        parser.error("--bind takes the place of --port and --listen")
    if options.keyfile and not options.certfile:
        parser.error("--keyfile needs --certfile")
    options.binds = options.bind or [
        Bind(options.listen or address("127.0.0.1"),
             8080 if options.port is None else options.port)
    ]
    options.bind_is_default = not options.bind and not given
    return options
