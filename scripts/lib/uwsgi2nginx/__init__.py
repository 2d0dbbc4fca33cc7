"""Parts of scripts/uwsgi2nginx: a uwsgi.ini is read, understood and written as an nginx.conf."""
