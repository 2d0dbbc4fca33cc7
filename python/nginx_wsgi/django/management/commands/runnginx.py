"""manage.py runnginx: nginx-wsgi serve for the project of this manage.py."""

import os
import sys

from django.core.management.base import BaseCommand

from nginx_wsgi.command import main


class Command(BaseCommand):
    help = "Serves this project from inside nginx; the options are those of nginx-wsgi serve."

    def print_help(self, prog_name, subcommand):
        print(self.help)
        main(["serve", "-h"])

    def run_from_argv(self, argv):
        """Django's own options (--settings, --pythonpath) are for manage.py: before runnginx."""
        sys.exit(main(["serve", os.path.dirname(os.path.abspath(argv[0])), *argv[2:]]))

    def handle(self, *args, **options):
        sys.exit(main(["serve", os.getcwd(), *args]))
