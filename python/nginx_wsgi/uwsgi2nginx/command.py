"""Prints the nginx.conf that serves with this module what a uwsgi.ini serves with uWSGI.

usage: nginx-wsgi uwsgi2nginx [options] uwsgi.ini[:SECTION] >nginx.conf

--cwd DIR       the directory uwsgi is started in, to which the file, its includes, chdir, sockets
                and logs are relative (default: this one)
--listen ADDR   where nginx listens instead, as its listen takes it; may be repeated
--module PATH   the module for load_module (default: modules/ngx_http_wsgi_module.so)

The file is read as uWSGI 2.0 reads it, with its placeholders, conditions and includes; $(NAME) is
taken from the environment of this command. Nothing is left out silently: an option that has no
directive is named in a comment, at the top if something is to be decided or done for it, at the end
otherwise. Nothing is run, and nothing is written but the output.

Exit status 1 with file and line on stderr if the file cannot be read as an ini file with a section
[uwsgi].
"""

import argparse
import io
import os
import sys

from .ini import Failure, Reader, shown
from .site import Site

COMMAND = "nginx-wsgi uwsgi2nginx"


def address(text):
    if not text or any(char.isspace() or char in "\0;{}\"'\\#$" for char in text):
        raise argparse.ArgumentTypeError("is no address")
    return text


def path(text):
    if not text or any(ord(char) < 32 for char in text):
        raise argparse.ArgumentTypeError("is no path")
    return text


def arguments(argv, prog):
    parser = argparse.ArgumentParser(prog=prog)
    parser.format_help = lambda: __doc__.replace(COMMAND, prog).lstrip()
    parser.format_usage = lambda: f"usage: {prog} [options] uwsgi.ini, see -h\n"
    parser.add_argument("--cwd", type=path, default=os.getcwd())
    parser.add_argument("--listen", type=address, action="append", default=[])
    parser.add_argument("--module", type=path, default="modules/ngx_http_wsgi_module.so")
    parser.add_argument("ini")
    return parser.parse_args(argv)


def main(argv, prog=COMMAND):
    options = arguments(argv, prog)
    reader = Reader(os.path.abspath(options.cwd), os.environ)
    try:
        reader.read(options.ini)
    except Failure as failure:
        sys.exit(f"uwsgi2nginx: {failure}")
    site = Site(reader, options.ini, module=options.module, listen=options.listen)
    output = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="surrogateescape")
    try:
        output.write(site.text())
        output.flush()
    except BrokenPipeError:
        sys.exit(f"uwsgi2nginx: {shown('the output is closed')}")
    output.detach()
    return 0
