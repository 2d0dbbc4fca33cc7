"""Falcon: what test_frameworks.py asks of every framework."""

import hashlib
import os
from wsgiref.validate import validator

import falcon


class Count:
    def on_get(self, request, response):
        number = int(request.cookies.get("count", 0)) + 1
        response.set_cookie("count", str(number), secure=False, path="/")
        response.text = str(number)


class Hello:
    def on_get(self, request, response, name):
        response.text = f"hello {name} {request.get_param('q')}"


class Double:
    def on_post(self, request, response):
        response.media = {"double": 2 * request.media["number"]}


class Upload:
    def on_post(self, request, response):
        found = {}
        for part in request.media:
            if part.name == "word":
                found["word"] = part.text
                continue
            digest, size = hashlib.sha256(), 0
            while chunk := part.stream.read(65536):
                digest.update(chunk)
                size += len(chunk)
            found |= {"name": part.filename, "size": size, "sha256": digest.hexdigest()}
        response.media = found


class Download:
    def on_get(self, request, response):
        path = os.environ["DOWNLOAD"]
        response.set_stream(open(path, "rb"), os.path.getsize(path))
        response.content_type = falcon.MEDIA_TEXT
        response.downloadable_as = os.path.basename(path)

    on_head = on_get


class Stream:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_TEXT
        response.stream = (b"line %d\n" % n for n in range(3))


class Redirect:
    def on_get(self, request, response):
        raise falcon.HTTPFound(request.root_path + "/count")


class Fail:
    def on_get(self, request, response):
        raise ValueError("on purpose")


app = falcon.App()
app.add_route("/count", Count())
app.add_route("/hello/{name}", Hello())
app.add_route("/double", Double())
app.add_route("/upload", Upload())
app.add_route("/download", Download())
app.add_route("/stream", Stream())
app.add_route("/redirect", Redirect())
app.add_route("/fail", Fail())
application = validator(app)
