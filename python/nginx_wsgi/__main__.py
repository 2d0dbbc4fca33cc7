"""python -m nginx_wsgi: the command nginx-wsgi."""

import sys

from .command import main

sys.exit(main())
