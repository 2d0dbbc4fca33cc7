"""wsgi_status: where it may be, how it is asked, and what it says of a site that does well."""

import json

import pytest
from lib import h2client, http
from lib.poll import until
from lib.status import STATUS, ask, in_words, loaded, of, says, total

MAIN = "thread_pool pool threads=3;"
HTTP = "wsgi_thread_pool pool;"


@pytest.fixture
def start(nginx):
    options = {"main": MAIN, "http": HTTP, "server": STATUS, "apps": ["held", "plain"]}
    return lambda **more: nginx(**options | more)


@pytest.mark.parametrize("arguments", [
    "xml", "html json", "stacks stacks", "query query", "html stacks query ready", "''",
])
def test_other_arguments_are_refused(make_nginx, arguments):
    site = make_nginx(server=f"location /s {{ wsgi_status {arguments}; allow all; }}")
    status, said = site.test_config()
    assert status == 1 and "wsgi_status" in said and "[emerg]" in said


@pytest.mark.parametrize("place", [
    {"http": "wsgi_status;"}, {"server": "wsgi_status;"}, {"main": "wsgi_status;"},
    {"server": "location /s { wsgi_status; wsgi_status; }"},
    {"server": "location /s { wsgi_status; wsgi_app plain:application; }"},
    {"server": "location /s { wsgi_app plain:application; wsgi_status; }"},
    {"server": "location /s { if ($arg_a) { wsgi_status; } }"},
])
def test_it_has_a_location_of_its_own(make_nginx, place):
    status, said = make_nginx(**place).test_config()
    assert status == 1 and "wsgi_status" in said


@pytest.mark.parametrize("fence, warns", [
    ("", True), ("satisfy any;", True), ("auth_request off;", True),
    ("allow 127.0.0.1; deny all;", False), ("deny all;", False), ("auth_request /auth;", False),
    ("auth_basic who; auth_basic_user_file x;", False),
])
def test_a_status_that_anybody_sees_is_warned_of(make_nginx, fence, warns):
    site = make_nginx(server=f"location /s {{ wsgi_status; {fence} }}")
    status, said = site.test_config()
    assert status == 0
    assert ("[warn]" in said and "is shown to anybody" in said) == warns, said


def test_a_fence_of_the_server_is_a_fence(make_nginx):
    site = make_nginx(server="deny all; location /s { wsgi_status; }")
    assert "[warn]" not in site.test_config()[1]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_is_only_read(start, method):
    site = start()
    response = http.request(site.port, method, "/status", body=b"x" * 100)
    assert response.status == 405


def test_it_can_be_fenced_in(start):
    site = start(server="location /status { wsgi_status; deny all; }")
    assert ask(site).status == 403


@pytest.mark.parametrize("format, content_type", [
    ("html", "text/html; charset=utf-8"), ("json", "application/json"),
    ("text", "text/plain; charset=utf-8"), ("ready", "text/plain; charset=utf-8"),
    ("prometheus", "text/plain; version=0.0.4; charset=utf-8"),
])
def test_each_format_has_its_type_and_what_keeps_it_from_being_kept(start, format, content_type):
    site = start()
    loaded(site)
    response = ask(site, f"/status?format={format}")
    assert response.status == 200 and response.complete
    assert response.header("Content-Type") == content_type
    assert response.header("Cache-Control") == "no-store"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert response.header("Content-Security-Policy") == policy
    head = http.request(site.port, "HEAD", f"/status?format={format}")
    assert (head.status, head.body) == (200, b"")
    assert head.header("Content-Type") == content_type
    assert h2_of(site, f"/status?format={format}") == 200


def h2_of(site, path):
    if "PORT2" not in site.ports:
        site.reload(server=STATUS + "listen 127.0.0.1:@PORT2@ http2;")
        loaded(site)
    return h2client.request(site.ports["PORT2"], "GET", path).status


def test_a_format_that_is_not_there_is_refused(start):
    site = start()
    assert ask(site, "/status?format=xml").status == 400
    # Where the format is fixed nobody asks for another.
    response = ask(site, "/metrics?format=xml")
    assert response.status == 200 and response.body.startswith(b"# HELP nginx_wsgi_")


def test_without_an_application_there_is_little_to_say(start):
    site = start(apps=[])
    words, page, _ = in_words(site)
    assert "no location has an application" in words and page.endswith("</html>\n")
    assert of(site)["workers"] == []
    assert ask(site, "/ready").status == 200


def test_what_does_well_is_said_to(start):
    site = start(workers=2)
    loaded(site)

    def well():
        words, _, text = in_words(site)
        return words.startswith("all is well: 2 workers, 0 of 6 threads busy") and \
            text.startswith("all is well")

    until(well, 10, "all is well")
    status = of(site)
    assert status["findings"] == [] and status["requests"] == []
    assert sorted(worker["pid"] for worker in status["workers"]) == site.workers()
    for worker in status["workers"]:
        assert worker["resident_bytes"] > 1 << 20
        assert worker["pools"] == [{"pool": "pool", "threads": 3, "busy": 0, "stuck": 0,
                                    "waiting": 0, "room": 3}]
        apps = {app["app"]: app["state"] for app in worker["apps"]}
        assert apps == {"held:application": "loaded", "plain:application": "loaded"}


def test_requests_in_flight_are_shown_with_all_that_is_known_of_them(start):
    site = start()
    gate = site.gate("one")
    clients = [site.ask(f"/held/one?secret={number}") for number in range(5)]
    site.wait_event("called", 3)

    def all_five():
        requests = of(site)["requests"]
        return requests if len(requests) == 5 else None

    requests = until(all_five, 5, "five requests")
    assert [request["state"] for request in requests].count("running") == 3
    assert [request["state"] for request in requests].count("queued") == 2
    for request in requests:
        assert request["method"] == "GET" and request["path"] == "/held/one"
        assert request["host"] == "localhost" and request["client"] == "127.0.0.1"
        assert request["app"] == "held:application" and request["pool"] == "pool"
        assert request["pid"] == site.worker() and "query" not in request
    threads = {request["thread"] for request in requests if request["state"] == "running"}
    assert threads == {1, 2, 3}
    assert "secret" not in in_words(site)[1]
    shown = json.loads(ask(site, "/stacks?format=json").body)["requests"]
    assert {request["query"] for request in shown} == {f"secret={n}" for n in range(5)}
    says(site, "all 3 threads of pool pool are busy, 2 requests wait")
    gate.open()
    assert all(client.read_response().status == 200 for client in clients)
    until(lambda: of(site)["requests"] == [], 5, "nothing is in flight")


def test_names_from_outside_are_nothing_but_text(start):
    site = start()
    gate = site.gate("one")
    evil = "<script>alert(1)</script>&\"'\x1b"
    client = site.connect()
    client.send(b"GET /held/%3Cscript%3E%22/one HTTP/1.1\r\nHost: localhost\r\n"
                b"Connection: close\r\n\r\n")
    site.wait_event("called")
    until(lambda: of(site)["requests"], 5, "the request")
    assert of(site)["requests"][0]["path"] == '/held/<script>"/one'
    page = ask(site).body.decode()
    assert "<script" not in page and "&lt;script&gt;&quot;" in page and evil not in page
    gate.open()
    assert client.read_response().status == 200


def test_what_has_ended_is_counted(start):
    site = start()
    for _ in range(7):
        assert site.get("/plain").status == 200
    labels = {"app": "plain:application", "pool": "pool"}
    until(lambda: total(site, "requests_total", **labels, code="2xx") == 7, 5, "seven requests")
    assert total(site, "request_duration_seconds_count", **labels) == 7
    assert total(site, "queue_duration_seconds_count", **labels) == 7
    assert total(site, "requests_total", app="held:application") == 0


class Stopped:
    """Two workers, one of them stopped with a request; the other one is asked by a connection."""

    def __init__(self, start, balance):
        # A socket for each worker: which of them has a connection is chance and no habit.
        server = STATUS + "listen 127.0.0.1:@PORT2@ reuseport; location = /pid { return 200 $pid; }"
        config = HTTP + f"wsgi_balance {balance};"
        self.site = loaded(start(workers=2, http=config, server=server))
        self.gate = self.site.gate("one")
        self.pid, other = self.site.workers()
        self.other, self.client = self.connect(other), self.connect(self.pid)
        self.client.send(http.build("GET", "/held/one", close=False))
        until(self.has_request, 20, "the request")
        self.site.signal("STOP", self.pid)

    def connect(self, pid):
        """A connection that this worker has accepted, with which it stays."""
        for _ in range(300):
            client = self.site.connect(self.site.ports["PORT2"])
            client.send(http.build("GET", "/pid", close=False))
            if int(client.read_response().body) == pid:
                return client
            client.close()
        raise AssertionError(f"worker {pid} accepts nothing")

    def get(self, path):
        self.other.send(http.build("GET", path, close=False))
        return self.other.read_response().body.decode()

    def has_request(self):
        return any(each["pid"] == self.pid and each["state"] == "running"
                   for each in of(self.site)["requests"])

    def go_on(self):
        self.site.signal("CONT", self.pid)
        self.gate.open()
        assert self.client.read_response().status == 200


def test_a_worker_that_is_stopped_is_named(start):
    stopped = Stopped(start, "off")
    said = f"(process {stopped.pid}) has not been heard of for"
    try:
        until(lambda: said in stopped.get("/status?format=text"), 10, said)
        requests = json.loads(stopped.get("/status?format=json"))["requests"]
        assert stopped.pid in [each["pid"] for each in requests]
    finally:
        stopped.go_on()


@pytest.mark.parametrize("balance, said", [("on", "does not answer"), ("off", "cannot be asked")])
def test_a_worker_that_has_no_stacks_to_show_is_not_waited_for(start, balance, said):
    stopped = Stopped(start, balance)
    try:
        def others():
            workers = json.loads(stopped.get("/stacks?stacks&format=json"))["workers"]
            found = {worker["pid"]: worker["stacks"] for worker in workers}
            assert found.pop(stopped.pid) == said
            return list(found.values())

        # A watchdog without a processor for 250 ms is taken for one that does not get the GIL.
        until(lambda: others() == ["shown"], what="the stacks of the other worker")
    finally:
        stopped.go_on()


def test_a_single_process_has_a_status_too(start):
    site = start(master=False)
    until(lambda: in_words(site)[0].startswith("all is well: 1 worker"), 10, "all is well")
    assert site.get("/plain").status == 200
    until(lambda: total(site, "requests_total", app="plain:application") == 1, 5, "the request")

    def stacks():
        (worker,) = json.loads(ask(site, "/stacks?stacks&format=json").body)["workers"]
        return worker["stacks"]

    until(lambda: stacks() == "shown", what="the stacks")


def test_a_client_that_does_not_wait_for_stacks_is_forgotten(start):
    site = loaded(start())
    for _ in range(5):
        site.ask("/stacks?stacks").close()
    assert ask(site, "/stacks?stacks").status == 200
