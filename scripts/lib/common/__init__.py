"""What the programs of scripts/ share, with the standard library alone.

Some of it is what the command nginx-wsgi has: block, nginx, ports and processes are in its package.
"""

from pathlib import Path

__path__.append(str(Path(__file__).resolve().parents[3] / "python/nginx_wsgi/common"))
