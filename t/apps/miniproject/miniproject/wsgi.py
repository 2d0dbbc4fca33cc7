"""The WSGI application: what `wsgi_app miniproject.wsgi:application` names."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "miniproject.settings")

application = get_wsgi_application()
