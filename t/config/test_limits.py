"""nginx's limits in front of an application: requests, connections, rates."""

import pytest
from lib import h2client, http
from lib.held import hold
from lib.load import at_once
from lib.poll import elapse, takes, until

HTTP = """
    limit_req_zone $server_name zone=rare:1m rate=1r/m;
    limit_req_zone $arg_key zone=paced:1m rate=50r/s;
    limit_req_zone $server_name zone=slow:1m rate=30r/m;
    limit_conn_zone $server_name zone=one:1m;
    limit_conn_zone $arg_key zone=two:1m;
"""
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location /rare { limit_req zone=rare; limit_req_status 429; wsgi_app plain:application; }
    location /paced { limit_req zone=paced burst=20; wsgi_app upload:application; }
    location /slow { limit_req zone=slow burst=9; wsgi_app plain:application; }
    location /one/ { limit_conn one 1; wsgi_app held:application; }
    location /midway/ { limit_conn two 1; wsgi_app held:midway; }
    location /rate { limit_rate 80k; wsgi_app stream:fast; }
    location /rates { set $limit_rate 80k; wsgi_app stream:fast; }
    location /plain { wsgi_app plain:application; }
"""


@pytest.fixture
def site(nginx):
    return nginx(server=SERVER, http=HTTP)


def test_a_request_over_the_rate_never_reaches_the_application(site, proto):
    assert proto(site, "GET", "/rare").status == 200
    for method in ("GET", "POST"):
        assert proto(site, method, "/rare", body=b"x" * 50_000 * (method == "POST")).status == 429
    assert site.events("plain") == ["plain /rare"]


def test_delayed_requests_all_reach_the_application_with_their_bodies(site):
    answers = at_once(lambda n: site.post("/paced?key=1", b"x" * n).text, range(15), threads=15)
    assert [int(answer.split()[0]) for answer in answers] == list(range(15))


def test_delayed_streams_all_reach_the_application(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        streams = [client.send("POST", "/paced?key=2", body=b"x" * n) for n in range(15)]
        assert [int(client.wait(s).text.split()[0]) for s in streams] == list(range(15))


def test_a_delayed_request_whose_client_leaves_never_reaches_the_application(site):
    assert site.get("/slow").status == 200
    descriptors = site.fd_count()
    for _ in range(3):
        with site.ask("/slow"):
            site.barrier()
    until(lambda: site.fd_count() <= descriptors, what="nginx has closed the connections")
    # The first of them would be let through 2 seconds after the one before.
    elapse(2)
    assert site.events("plain") == ["plain /slow"]


def test_a_connection_over_the_limit_never_reaches_the_application(site, proto):
    first, gate = hold(site, "/one/a?first")
    assert proto(site, "GET", "/one/a?second").status == 503
    gate.open()
    assert first.read_response().text == "first"
    # The place is free when nginx has ended the request, just after its last byte.
    until(lambda: proto(site, "GET", "/one/a?third").text == "third", what="room again")
    assert site.events("called a second") == []


def test_streams_of_one_connection_count_each(site):
    gate = site.gate("a")
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        first = client.send("GET", "/one/a?first")
        site.wait_event("waiting a")
        assert client.wait(client.send("GET", "/one/a?second")).status == 503
        gate.open()
        assert client.wait(first).text == "first"


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_gives_its_place_back(site, leave):
    site.gate("a")
    client = site.ask("/midway/a?key=1")
    assert client.read_head().status == 200
    assert site.get("/midway/a?key=1").status == 503
    getattr(client, leave)()

    def room():
        with site.ask("/midway/a?key=1") as other:
            return other.read_head().status == 200

    until(room, what="room again")


@pytest.mark.parametrize("path", ["/rate?2", "/rates?2"])
def test_a_limited_rate_keeps_order_and_lets_others_pass(site, path):
    # nginx sends the share of the first second, 80k of 128k, at once.
    with site.connect() as client, takes(0.3):
        client.send(http.build("GET", path, version="1.0"))
        client.read_head()
        assert site.get("/plain").body == b"plain"
        body, how = client.read_to_end()
    assert (body, how) == (b"0000000\n" * 8192 + b"0000001\n" * 8192, "closed")


def test_a_client_that_leaves_a_limited_answer_frees_the_application(site):
    client = site.ask("/rate?100000")
    client.read_head()
    client.reset()
    site.wait_event("closed")
