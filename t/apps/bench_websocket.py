"""The applications of scripts/bench for WebSockets: each sends back what it hears.

To a request that asks for none they say hello.
"""

from bench_cases import hello

WEBSOCKET = "HTTP_SEC_WEBSOCKET_KEY"


def sock():
    """Flask-Sock, on the connection itself."""
    from flask import Flask
    from flask_sock import Sock

    app = Flask(__name__)

    @Sock(app).route("/socket")
    def echo(ws):
        while True:
            ws.send(ws.receive())

    @app.get("/")
    def greet():
        return "Hello, World!"

    return app


def frames(environ, start_response):
    """By messages, as gevent-websocket has them."""
    if WEBSOCKET not in environ:
        return hello(environ, start_response)
    websocket = environ["wsgi.websocket"]
    while (message := websocket.receive()) is not None:
        websocket.send(message)
    return []


def uwsgi(environ, start_response):
    """By uWSGI's own API, as its example has it."""
    if WEBSOCKET not in environ:
        return hello(environ, start_response)
    import uwsgi

    uwsgi.websocket_handshake(environ[WEBSOCKET], environ.get("HTTP_ORIGIN", ""))
    while True:
        try:
            uwsgi.websocket_send(uwsgi.websocket_recv())
        except OSError:
            return []
