"""A configuration of gunicorn is read and written as an nginx.conf."""
