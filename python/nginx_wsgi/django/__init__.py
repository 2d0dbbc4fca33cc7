"""A Django app with the command runnginx: manage.py runnginx serves the project."""
