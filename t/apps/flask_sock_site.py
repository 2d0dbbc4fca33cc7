"""Flask-Sock as its documentation has it: an echo, and what a route may do besides."""

from flask import Flask
from flask_sock import Sock
from record import record

app = Flask(__name__)
sock = Sock(app)


@sock.route("/echo")
def echo(ws):
    while True:
        data = ws.receive()
        ws.send(data)


@sock.route("/answered")
def answered(ws):
    """An echo that stays until the thread of the library has answered the client's close."""
    try:
        while True:
            ws.send(ws.receive())
    finally:
        ws.thread.join()


@sock.route("/count/<int:number>")
def count(ws, number):
    """Ends by itself."""
    for n in range(number):
        ws.send(str(n))


@sock.route("/wait")
def wait(ws):
    try:
        ws.receive()
    finally:
        record("left")


@sock.route("/fail")
def fail(ws):
    ws.receive()
    raise ValueError("on purpose")


@app.get("/plain")
def plain():
    return "plain"


application = app
