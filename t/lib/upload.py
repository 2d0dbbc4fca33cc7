"""Bodies that are sent piece by piece, and where t/apps/streamed.py reads them."""

import contextlib
import hashlib
import socket

from . import h2client, http

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    client_max_body_size 0;
    lingering_timeout 500ms;
    location /on/ {
        location /on/read { wsgi_app reader:application; }
        location /on/upload { wsgi_app upload:application; }
        location /on/lines { wsgi_app lines:application; }
        location /on/calls { wsgi_app calls:application; }
        wsgi_app streamed:application;
    }
    location /off/ {
        wsgi_request_buffering off;
        location /off/read { wsgi_app reader:application; }
        location /off/upload { wsgi_app upload:application; }
        location /off/lines { wsgi_app lines:application; }
        location /off/calls { wsgi_app calls:application; }
        location /off/small/ { client_max_body_size 100; wsgi_app streamed:application; }
        location /off/quick/ { client_body_timeout 1s; wsgi_app streamed:application; }
        location /off/steady/ { client_body_timeout 2s; wsgi_app streamed:application; }
        location /off/silent/ { wsgi_read_timeout 1s; wsgi_app streamed:application; }
        location /off/mirrored/ { mirror /copy/report; wsgi_app streamed:application; }
        location /off/asked/ { auth_request /off/whole; wsgi_app streamed:application; }
        location /off/excused/ { error_page 413 500 /off/report; client_max_body_size 100;
                                 wsgi_app streamed:application; }
        location /off/including/ { ssi on; client_body_timeout 1s; wsgi_app included:application; }
        location = /off/included { wsgi_app included:part; }
        location /off/one/ { wsgi_thread_pool one; wsgi_app streamed:application; }
        wsgi_app streamed:application;
    }
    location /copy/ { wsgi_request_buffering off; wsgi_app streamed:application; }
    location /page { alias @DIR@/html/page.html; }
    location = /static_page { alias @DIR@/html/page.html; }
"""
MAIN = "thread_pool default threads=8; thread_pool one threads=1;"
APPS = ["plain"]
NEXT = http.build("GET", "/plain", close=False)
KINDS = ["length", "chunked", "h2", "h2 with length"]
H1 = KINDS[:2]


class Upload:
    """A request whose body is sent piece by piece."""

    def __init__(self, site, kind, path, size=None, method="POST", **options):
        self.site, self.kind, self.h2 = site, kind, kind.startswith("h2")
        fields = {}
        if "length" in kind:
            fields["Content-Length"] = str(size)
        if self.h2:
            self.client = h2client.H2Connection(site.ports["PORT2"], **options)
            site.connections.append(self.client)
            self.stream = self.client.send(method, path, fields, end=False)
            return
        self.client = site.connect(**options)
        self.client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind == "chunked":
            fields["Transfer-Encoding"] = "chunked"
        self.client.send(http.build(method, path, fields, close=False))

    def send(self, data):
        if self.h2:
            data = memoryview(data)
            while data and (room := self.client.room(self.stream)):
                self.client.h2.send_data(self.stream, bytes(data[:room]))
                self.client.flush()
                data = data[room:]
        elif self.kind == "chunked":
            self.client.send(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            self.client.send(data)

    def end(self):
        if self.h2:
            self.client.h2.end_stream(self.stream)
            self.client.flush()
        elif self.kind == "chunked":
            self.client.send(b"0\r\n\r\n")

    def fill(self, body):
        """Send as much of a large body as nginx and the sockets take; what is left."""
        sock = self.client.raw.sock if self.h2 else self.client.sock
        data = b"%x\r\n%s\r\n" % (len(body), body) if self.kind == "chunked" else body
        sock.settimeout(0.3)
        sent = 0
        # Held up once, it may be that nginx has not had a processor; again when it rests.
        for last in (False, True):
            with contextlib.suppress(TimeoutError):
                while sent < len(data):
                    if not self.h2:
                        sent += sock.send(data[sent:sent + 65536])
                    elif room := self.client.room(self.stream):
                        part = data[sent:sent + min(room, 16384)]
                        self.send(part)
                        sent += len(part)
                    else:
                        break
            if not last:
                self.site.settle()
        sock.settimeout(20)
        return data[sent:]

    def go_on(self, rest):
        """Send what fill() has left, and the end."""
        if self.h2:
            self.send(rest)
        else:
            self.client.send(rest)
        self.end()

    def answer(self):
        if self.h2:
            return self.client.wait(self.stream)
        return self.client.read_response()

    def vanish(self, how):
        if how == "reset of the stream":
            self.client.reset(self.stream)
        elif how == "reset":
            (self.client.raw if self.h2 else self.client).reset()
        else:
            self.client.close()


def whole(site, kind, path, body):
    upload = Upload(site, kind, path, len(body))
    upload.send(body)
    upload.end()
    return upload.answer()


def told(body):
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def streamed(start, main="", **options):
    """nginx with all of SERVER; start is the fixture that starts one."""
    site = start(server=SERVER, main=MAIN + main, apps=APPS, **options)
    site.write("html/page.html", "page")
    return site
