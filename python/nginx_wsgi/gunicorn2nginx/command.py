"""Prints the nginx.conf that serves with this module what gunicorn serves.

usage: nginx-wsgi gunicorn2nginx [gunicorn] OPTION... [module:callable] >nginx.conf

The arguments are those of gunicorn, with or without its name in front: -c FILE is a configuration
file, else ./gunicorn.conf.py if it is there; GUNICORN_CMD_ARGS counts too. A configuration file is
Python, and is run as gunicorn would run it. Nothing is left out silently: a setting that has no
directive is named in a comment. What gunicorn does by default is left at what nginx does.

Exit status 1 with the reason on stderr if the file cannot be run or no application is named.
"""

import sys

from .settings import Failure, parser, read
from .site import render

COMMAND = "nginx-wsgi gunicorn2nginx"


def main(argv):
    parse = parser(COMMAND, __doc__.lstrip()).parse_args
    if argv and argv[0].rpartition("/")[2] == "gunicorn":
        argv = argv[1:]
    try:
        text = render(read(parse(argv), parse))
    except Failure as failure:
        sys.exit(f"gunicorn2nginx: {failure}")
    sys.stdout.write(text)
    return 0
