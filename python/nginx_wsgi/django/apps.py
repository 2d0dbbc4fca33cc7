from django.apps import AppConfig


class NginxConfig(AppConfig):
    name = "nginx_wsgi.django"
    label = "nginx_wsgi"
