"""Flask: what test_frameworks.py asks of every framework."""

import hashlib
import os
from wsgiref.validate import validator

from flask import Flask, Response, redirect, request, send_file, session, url_for

app = Flask(__name__)
app.secret_key = "only for this test"


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@app.get("/hello/<name>")
def hello(name):
    return f"hello {name} {request.args.get('q')}"


@app.post("/double")
def double():
    return {"double": 2 * request.json["number"]}


@app.post("/upload")
def upload():
    file, digest, size = request.files["file"], hashlib.sha256(), 0
    while chunk := file.stream.read(65536):
        digest.update(chunk)
        size += len(chunk)
    found = {"word": request.form["word"], "name": file.filename, "size": size}
    return found | {"sha256": digest.hexdigest()}


@app.get("/download")
def download():
    return send_file(os.environ["DOWNLOAD"], as_attachment=True)


@app.get("/large")
def large():
    return send_file(os.environ["DOWNLOAD"] + ".large")


@app.get("/stream")
def stream():
    return Response((f"line {n}\n" for n in range(3)), mimetype="text/plain")


@app.get("/redirect")
def leave():
    return redirect(url_for("count"))


@app.get("/fail")
def fail():
    raise ValueError("on purpose")


validated = validator(app)


def application(environ, start_response):
    # With wsgi.input_terminated werkzeug reads JSON by read() without a size, as PEP 3333 allows
    # but the validator does not.
    plain = environ["PATH_INFO"] == "/double"
    return (app if plain else validated)(environ, start_response)
