"""The home page, the upload form, the streamed page, and the live page with its WebSocket."""

import contextlib
import hashlib
import os
import platform
import threading
import time

import django
from django.http import HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_http_methods, require_safe

# Where the lines go in stream.html. Some browsers show nothing before the first kilobyte of a page.
STREAM_MARK = "<!-- lines -->"
STREAM_PADDING = "<!--" + " " * 1024 + "-->\n"


def served_by(environ):
    """What answers this request: rows of the table on the home page."""
    thread = threading.current_thread()
    return [
        ("Server", environ.get("SERVER_SOFTWARE") or "nginx/" + environ.get("NGINX_VERSION", "?")),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Django", django.get_version()),
        ("Worker process", os.getpid()),
        ("Thread", f"{thread.name} ({threading.get_native_id()})"),
        ("Protocol", environ.get("SERVER_PROTOCOL", "?")),
    ]


@require_safe
def home(request):
    return render(request, "home.html", {"rows": served_by(request.META)})


@require_http_methods(["GET", "HEAD", "POST"])
def upload(request):
    """Reports size and SHA-256 of an uploaded file; reads it in pieces, so its size is free."""
    context = {}
    if request.method == "POST":
        file = request.FILES.get("file")
        if file is None:
            context["error"] = "No file was chosen."
        else:
            digest, size = hashlib.sha256(), 0
            for chunk in file.chunks():
                digest.update(chunk)
                size += len(chunk)
            context.update(name=file.name, size=size, sha256=digest.hexdigest())
    return render(request, "upload.html", context, status=400 if "error" in context else 200)


@require_safe
def stream(request):
    """A page that grows: ?lines=N (at most 1000), ?delay=SECONDS between them (at most 5)."""
    try:
        lines = min(int(request.GET.get("lines", 20)), 1000)
        delay = min(max(0.0, float(request.GET.get("delay", 0.25))), 5.0)
    except ValueError:
        return HttpResponseBadRequest("lines and delay are numbers\n", content_type="text/plain")

    def pieces():
        top, bottom = render_to_string("stream.html", request=request).split(STREAM_MARK)
        yield top + STREAM_PADDING
        for number in range(1, lines + 1):
            yield f"<li>line {number} of {lines}, at {time.strftime('%H:%M:%S')}</li>\n"
            time.sleep(delay)
        yield bottom

    return StreamingHttpResponse(pieces())


@require_safe
def live(request):
    return render(request, "live.html")


@require_safe
def live_socket(request):
    """Tells a WebSocket the time each second, and what it says itself, turned round."""
    websocket = request.environ.get("wsgi.websocket")
    if websocket is None:
        return HttpResponseBadRequest("only for WebSockets\n", content_type="text/plain")
    over = threading.Event()
    clock = threading.Thread(target=tell_the_time, args=(websocket, over), name="clock")
    clock.start()
    try:
        while (text := websocket.receive()) is not None:
            here = f"{threading.current_thread().name} of worker {os.getpid()}"
            websocket.send(f"{here} says: {text[::-1]}")
    finally:
        over.set()
        clock.join()
    return HttpResponse()


def tell_the_time(websocket, over):
    # OSError: the client has gone. The thread in receive() sees that too.
    with contextlib.suppress(OSError):
        while not over.wait(1):
            websocket.send(time.strftime("%H:%M:%S"))
