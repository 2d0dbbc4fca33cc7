"""Django: what test_frameworks.py asks of every framework, and a form with a CSRF token."""

import hashlib
import json
import os
from wsgiref.validate import validator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

FORM = "<form method=post>{% csrf_token %}<input name=word></form>"

settings.configure(
    SECRET_KEY="only for this test", ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    LOGGING={
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": "WARNING"},
    },
)


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))


def hello(request, name):
    return HttpResponse(f"hello {name} {request.GET.get('q')}")


@csrf_exempt
def double(request):
    return JsonResponse({"double": 2 * json.loads(request.body)["number"]})


@csrf_exempt
def upload(request):
    file, digest = request.FILES["file"], hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    found = {"word": request.POST["word"], "name": file.name, "size": file.size}
    return JsonResponse(found | {"sha256": digest.hexdigest()})


def download(request):
    return FileResponse(open(os.environ["DOWNLOAD"], "rb"), as_attachment=True)


def stream(request):
    return StreamingHttpResponse((f"line {n}\n" for n in range(3)), content_type="text/plain")


def leave(request):
    return redirect("count")


def fail(request):
    raise ValueError("on purpose")


def form(request):
    if request.method == "POST":
        return HttpResponse("word " + request.POST["word"])
    return HttpResponse(engines["django"].from_string(FORM).render({}, request))


urlpatterns = [
    path("count", count, name="count"), path("hello/<name>", hello), path("double", double),
    path("upload", upload), path("download", download), path("stream", stream),
    path("redirect", leave), path("fail", fail), path("form", form),
]
application = validator(get_wsgi_application())
