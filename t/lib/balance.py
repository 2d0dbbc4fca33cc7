"""Sites with a worker that has no free thread: what comes to it is run by another one."""

from . import h2client, http
from .poll import until

THREADS = 2
MAIN = f"thread_pool few threads={THREADS};"
HTTP = "wsgi_thread_pool few; wsgi_queue 100 timeout=4s; "
LOG = """
    log_format ran '$request_uri|$status|$wsgi_worker|$wsgi_thread|$wsgi_queue_time';
    access_log @DIR@/ran.log ran;
"""
# A socket for each worker: which of them has a connection is chance and no habit.
SERVER = """
    listen 127.0.0.1:@PORT2@ reuseport;
    listen 127.0.0.1:@PORT3@ http2 reuseport;
    location = /pid { return 200 $pid; }
    location /hold/ { wsgi_read_timeout 10m; wsgi_app ran:hold; }
    location /plain { wsgi_app ran:plain; }
    location /pause { wsgi_app ran:pause; }
    location /fork/ { wsgi_app ran:fork; }
    location /hog { wsgi_app ran:hog; }
    location /chatter { wsgi_app ran:chatter; }
    location /late/ { wsgi_buffer_size 2m; wsgi_app ran:late; }
    location /compute { wsgi_app ran:compute; }
    location /respond { wsgi_app ran:respond; }
    location /files { wsgi_app ran:files; }
    location /talk { wsgi_app ran:talk; }
    location /upload { client_max_body_size 0; wsgi_app ran:upload; }
    location /buffered { wsgi_app ran:buffered; }
    location /whereabouts { wsgi_app ran:whereabouts; }
    location /closing { wsgi_app ran:closing; }
    location /midway { wsgi_app ran:midway; }
    location /before { wsgi_app ran:before_head; }
    location /private/ { internal; alias @DIR@/html/; }
"""
# It is never handed over, and behind all others: applications are loaded in that order.
READY = "location = /ready { wsgi_request_buffering off; wsgi_app ran:ready; }"
OPTIONS = {"main": MAIN, "http": HTTP, "server": SERVER + READY, "workers": 2}


def of_log(text):
    """$wsgi_worker: the worker that accepted the request, and the one that ran it."""
    words = text.split(", ")
    return int(words[0]), int(words[-1])


class Workers:
    """The workers of a site; occupy() takes the threads of the first."""

    def __init__(self, site, threads=THREADS):
        self.site, self.threads = site, threads
        self.pids = site.workers()
        self.busy, self.free = self.pids[:2]
        self.held = {pid: [] for pid in self.pids}
        for pid in self.pids:
            until(lambda pid=pid: self._has_loaded(pid), 30, f"worker {pid} has its applications")

    def _has_loaded(self, pid):
        """Before that a worker has no room for requests of others, nor for its own."""
        with self.ask("/ready", "POST", pid=pid, body=b"x") as client:
            return client.read_response().status == 200

    # -- connections

    def _until_accepted(self, pid, connect, ask):
        for _ in range(300):
            client = connect()
            if int(ask(client).text) == pid:
                return client
            client.close()
        raise AssertionError(f"worker {pid} accepts nothing")

    def connect(self, pid=None, **options):
        """A kept connection that this worker has accepted, else the one that is busy."""

        def ask(client):
            client.send(http.build("GET", "/pid", close=False))
            return client.read_response()

        return self._until_accepted(
            pid or self.busy, lambda: self.site.connect(self.site.ports["PORT2"], **options), ask
        )

    def connect_h2(self, pid=None, **options):
        def connect():
            client = h2client.H2Connection(self.site.ports["PORT3"], **options)
            self.site.connections.append(client)
            return client

        return self._until_accepted(
            pid or self.busy, connect, lambda client: client.wait(client.send("GET", "/pid"))
        )

    # -- threads

    def occupy(self, *pids):
        """Requests hold all threads of these workers, each in the worker that has accepted it."""
        for pid in pids or [self.busy]:
            while len(self.held[pid]) < self.threads:
                until(lambda pid=pid: self._hold(pid), 30, f"worker {pid} runs what it accepts")
        return self

    def _hold(self, pid):
        """A slow thread's request is handed over: one that another worker runs is let go."""
        name = f"hold{len(self.site.events('holding '))}"
        client = self.connect(pid)
        gate = self.site.gate(name)
        client.send(http.build("GET", f"/hold/{name}", close=False))
        (event,) = self.site.wait_event(f"holding {name} ")
        if int(event.split()[2]) == pid:
            self.held[pid].append((client, gate))
            return True
        gate.open()
        client.read_response()
        return False

    def release(self, pid=None):
        """Lets one thread go on."""
        client, gate = self.held[pid or self.busy].pop()
        gate.open()
        return client

    # -- requests

    def ask(self, path, method="GET", pid=None, rcvbuf=None, **options):
        client = self.connect(pid, rcvbuf=rcvbuf)
        client.send(http.build(method, path, **{"close": False} | options))
        return client

    def ran(self, since=0):
        """The workers that have run something, in order; (hold() is not counted)."""
        return [int(event.split()[1]) for event in self.site.events("ran ")[since:]]

    def handed(self, path, method="GET", by=None, **options):
        """The response to what the busy worker accepts and another one runs, once."""
        since = len(self.ran())
        response = self.ask(path, method, **options).read_response(method)
        ran = self.ran(since)
        assert ran == [by or self.free], f"ran in {ran}, status {response.status}, {self}"
        return response

    def __str__(self):
        return f"busy {self.busy}, free {self.free}"
