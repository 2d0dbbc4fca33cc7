"""Applications as they are written for uWSGI's own API: an echo, and a chat between its clients."""

import os
import threading

import uwsgi
import uwsgidecorators
from record import record

ready = []


@uwsgidecorators.postfork
def forked():
    ready.append(os.getpid())


uwsgi.atexit = lambda: record("atexit")

clients, change = {}, threading.Lock()


def echo():
    while True:
        message = uwsgi.websocket_recv()
        uwsgi.websocket_send(b"[%d] %s" % (uwsgi.worker_id(), message))


def chat():
    """Waits for its client and for the others, as with uWSGI's async API."""
    reader, writer = os.pipe()
    with change:
        clients[writer] = []
    own = uwsgi.connection_fd()
    record("joined")
    try:
        while True:
            uwsgi.wait_fd_read(own, 3)
            uwsgi.wait_fd_read(reader)
            uwsgi.suspend()
            if uwsgi.ready_fd() == own:
                said = uwsgi.websocket_recv_nb()
                with change:
                    for other, waiting in clients.items():
                        waiting.append(said)
                        os.write(other, b"!")
            elif uwsgi.ready_fd() == reader:
                os.read(reader, 1)
                with change:
                    said = clients[writer].pop(0)
                uwsgi.websocket_send_binary(said)
    finally:
        with change:
            del clients[writer]
        os.close(reader)
        os.close(writer)


def leaves():
    uwsgi.websocket_send("bye")
    uwsgi.disconnect()
    record("left")


def forks():
    if not (pid := os.fork()):
        try:
            uwsgi.connection_fd()
        except OSError:
            os._exit(7)
        os._exit(0)
    record("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def application(environ, start_response):
    path = environ["PATH_INFO"].removeprefix("/uwsgi_chat")
    if path == "/facts":
        facts = (uwsgi.worker_id(), uwsgi.numproc, uwsgi.masterpid() == os.getppid(),
                 uwsgi.opt["threads"], ready == [os.getpid()])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr(facts).encode()]
    if path == "/count":
        # Not atomic without the lock.
        for _ in range(50):
            with open(environ["QUERY_STRING"], "r+") as file:
                uwsgi.lock()
                number = int(file.read() or 0)
                file.seek(0)
                file.write(str(number + 1))
                file.flush()
                uwsgi.unlock()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []
    uwsgi.websocket_handshake(environ["HTTP_SEC_WEBSOCKET_KEY"], environ.get("HTTP_ORIGIN", ""))
    try:
        {"/echo": echo, "/chat": chat, "/leaves": leaves, "/forks": forks}[path]()
    finally:
        record("over", path)
    return ""
