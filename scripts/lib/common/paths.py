"""Where things lie in a checkout, and which Python is embedded."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "target/modules/ngx_http_wsgi_module.so"
APPS = ROOT / "t/apps"
PYTHON = os.environ.get("PYO3_PYTHON") or "/usr/bin/python3"
