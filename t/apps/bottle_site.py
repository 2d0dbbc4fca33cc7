"""Bottle: what test_frameworks.py asks of every framework."""

import hashlib
import os
from wsgiref.validate import validator

from bottle import Bottle, redirect, request, response, static_file

SECRET = "only for this test"
app = Bottle()


@app.get("/count")
def count():
    number = int(request.get_cookie("count", "0", secret=SECRET)) + 1
    response.set_cookie("count", str(number), secret=SECRET, path="/", httponly=True)
    return str(number)


@app.get("/hello/<name>")
def hello(name):
    return f"hello {name} {request.query.getunicode('q')}"


@app.post("/double")
def double():
    return {"double": 2 * request.json["number"]}


@app.post("/upload")
def upload():
    file, digest, size = request.files.file, hashlib.sha256(), 0
    while chunk := file.file.read(65536):
        digest.update(chunk)
        size += len(chunk)
    found = {"word": request.forms.getunicode("word"), "name": file.raw_filename, "size": size}
    return found | {"sha256": digest.hexdigest()}


@app.get("/download")
def download():
    root, name = os.path.split(os.environ["DOWNLOAD"])
    return static_file(name, root=root, download=True)


@app.get("/stream")
def stream():
    response.content_type = "text/plain"
    yield from (f"line {n}\n" for n in range(3))


@app.get("/redirect")
def leave():
    redirect("count")


@app.get("/fail")
def fail():
    raise ValueError("on purpose")


application = validator(app)
