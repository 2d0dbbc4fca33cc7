"""A uwsgi.ini is read, understood and written as an nginx.conf."""
