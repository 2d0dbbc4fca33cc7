"""Pyramid: what test_frameworks.py asks of every framework, and a form with a CSRF token."""

import hashlib
import os
from wsgiref.validate import validator

from pyramid.config import Configurator
from pyramid.csrf import get_csrf_token
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response
from pyramid.session import SignedCookieSessionFactory


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return Response(str(request.session["count"]))


def hello(request):
    return Response(f"hello {request.matchdict['name']} {request.params.get('q')}")


def double(request):
    return {"double": 2 * request.json_body["number"]}


def upload(request):
    field, digest, size = request.POST["file"], hashlib.sha256(), 0
    while chunk := field.file.read(65536):
        digest.update(chunk)
        size += len(chunk)
    found = {"word": request.POST["word"], "name": field.filename, "size": size}
    return found | {"sha256": digest.hexdigest()}


def download(request):
    path = os.environ["DOWNLOAD"]
    response = FileResponse(path, request=request)
    response.content_disposition = f'attachment; filename="{os.path.basename(path)}"'
    return response


def stream(request):
    lines = (b"line %d\n" % n for n in range(3))
    return Response(app_iter=lines, content_type="text/plain")


def leave(request):
    return HTTPFound(request.route_url("count"))


def fail(request):
    raise ValueError("on purpose")


def form(request):
    if request.method == "POST":
        return Response("word " + request.POST["word"])
    token = get_csrf_token(request)
    return Response(f'<form><input type="hidden" name="csrf_token" value="{token}"></form>')


def make_app():
    config = Configurator(session_factory=SignedCookieSessionFactory("only for this test"))
    config.set_default_csrf_options(require_csrf=True)
    for view in (count, download, stream, fail, form):
        config.add_route(view.__name__, "/" + view.__name__)
        config.add_view(view, route_name=view.__name__)
    for view in (double, upload):
        config.add_route(view.__name__, "/" + view.__name__)
        config.add_view(view, route_name=view.__name__, renderer="json", require_csrf=False)
    config.add_route("hello", "/hello/{name}")
    config.add_view(hello, route_name="hello")
    config.add_route("redirect", "/redirect")
    config.add_view(leave, route_name="redirect")
    return config.make_wsgi_app()


application = validator(make_app())
