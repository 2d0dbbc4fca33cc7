"""Flask-SocketIO with threads, as its documentation has it: an echo, and a message to all."""

from flask import Flask
from flask_socketio import SocketIO, emit

app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading")


@socketio.on("shout")
def shout(text):
    emit("heard", text.upper())


@socketio.on("tell")
def tell(text):
    emit("told", text, broadcast=True)


application = app
