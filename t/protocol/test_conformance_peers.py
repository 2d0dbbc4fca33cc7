"""Who asks and how: unix sockets, realip, the PROXY protocol, users of any bytes, HTTP/0.9."""

import base64
import json

import pytest
from lib import h2client, http

USERS = [bytes([code]) for code in range(256) if code != ord(":")]
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    listen unix:@DIR@/u.sock;
    location / { wsgi_app environ:bare; }
    location /real {
        set_real_ip_from 127.0.0.1;
        set_real_ip_from unix:;
        real_ip_header X-Real-IP;
        wsgi_app environ:bare;
    }
    location /behind {
        set_real_ip_from 127.0.0.1;
        set_real_ip_from 192.0.2.0/24;
        real_ip_header X-Forwarded-For;
        real_ip_recursive on;
        wsgi_app environ:bare;
    }
    location /users {
        auth_basic realm;
        auth_basic_user_file @DIR@/users;
        wsgi_param REMOTE_USER $remote_user if_not_empty;
        wsgi_app environ:bare;
    }
    location = /generator { wsgi_app stream:fast; }
    location = /write { wsgi_app stream:fast_writes; }
    location = /raise { wsgi_app raising:application; }
    location = /midway { wsgi_app raising:midway; }
"""
HTTP = """
    server {
        listen 127.0.0.1:@PORT3@ proxy_protocol;
        set_real_ip_from 127.0.0.1;
        real_ip_header proxy_protocol;
        location / { wsgi_app environ:bare; wsgi_param BEHIND $proxy_protocol_server_port; }
    }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    nginx = shared_nginx(server=SERVER, http=HTTP)
    lines = [b"a" + user + b"b:{PLAIN}secret\n" for user in [*USERS, b"".join(USERS)]]
    nginx.write("users", b"".join(lines))
    return nginx


def environ(response):
    assert response.status == 200, response
    return json.loads(response.body)["values"]


def test_every_value_of_a_unix_socket_is_text_and_the_server_is_named(site):
    found = environ(http.request(None, "GET", "/", unix=f"{site.dir}/u.sock"))
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("unix:", "")
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("localhost", "80")
    assert found["wsgi.url_scheme"] == "http"
    assert "HTTPS" not in found


@pytest.mark.parametrize(
    "header, address, port",
    [("192.0.2.7", "192.0.2.7", "0"), ("192.0.2.7:81", "192.0.2.7", "81"),
     ("2001:db8::7", "2001:db8::7", "0"), ("[2001:db8::7]:81", "2001:db8::7", "81")],
)
def test_realip_is_honoured_on_a_unix_socket_too(site, header, address, port):
    for unix in (f"{site.dir}/u.sock", None):
        headers = {"X-Real-IP": header}
        found = environ(http.request(site.port, "GET", "/real", unix=unix, headers=headers))
        assert found["REMOTE_ADDR"] == address
        # A header without a port leaves none.
        assert found["REMOTE_PORT"] in ("", port)


@pytest.mark.parametrize("header", ["", "nobody", "192.0.2", "unix:", "\xff"])
def test_an_address_that_is_none_changes_nothing(site, header):
    found = environ(site.get("/real", headers={"X-Real-IP": header}))
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["REMOTE_PORT"] not in ("", "0")


def test_realip_takes_the_last_address_it_does_not_trust(site, proto):
    headers = {"X-Forwarded-For": "203.0.113.1, 203.0.113.2, 192.0.2.8"}
    assert environ(proto(site, "GET", "/behind", headers))["REMOTE_ADDR"] == "203.0.113.2"


def test_the_proxy_protocol_names_the_client(site):
    with site.connect(site.ports["PORT3"]) as client:
        client.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 5678 443\r\n" + http.build("GET", "/"))
        found = environ(client.read_response())
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("203.0.113.9", "5678")
    assert found["SERVER_PORT"] == str(site.ports["PORT3"])
    assert found["BEHIND"] == "443"


def basic(user, password=b"secret"):
    return {"Authorization": "Basic " + base64.b64encode(user + b":" + password).decode()}


def test_a_user_of_any_byte_is_the_remote_user(site):
    """A colon ends the name, in the header as in the file."""
    for user in USERS:
        found = environ(site.get("/users", headers=basic(b"a" + user + b"b")))
        assert found["REMOTE_USER"] == "a" + user.decode("latin-1") + "b"


def test_a_user_of_all_bytes_is_the_remote_user_over_every_protocol(site, proto):
    user = b"a" + b"".join(USERS) + b"b"
    found = environ(proto(site, "GET", "/users", basic(user)))
    assert found["REMOTE_USER"].encode("latin-1") == user


@pytest.mark.parametrize("user", [b"", b"a", b"ab", b"a\x80", b"\xff" * 1000])
def test_a_user_nobody_knows_does_not_reach_the_application(site, proto, user):
    before = len(site.events("called"))
    assert proto(site, "GET", "/users", basic(user)).status == 401
    assert proto(site, "GET", "/users", basic(b"aAb", b"wrong")).status == 401
    assert len(site.events("called")) == before
    assert "REMOTE_USER" not in environ(proto(site, "GET", "/", basic(user)))


def old(site, line):
    with site.connect() as client:
        client.send(line)
        return client.read_to_end()


def test_http_0_9_has_the_variables_of_every_request(site):
    body, how = old(site, b"GET /a%20b?c\r\n")
    found = json.loads(body)["values"]
    assert (how, found["SERVER_PROTOCOL"]) == ("closed", "HTTP/0.9")
    assert (found["PATH_INFO"], found["QUERY_STRING"]) == ("/a b", "c")
    assert [name for name in found if name.startswith("HTTP_") or "CONTENT" in name] == []


@pytest.mark.parametrize("path", ["/generator?3", "/write?3"])
def test_http_0_9_gets_nothing_but_the_body(site, path):
    body = b"".join(b"%07d\n" % count * 8192 for count in range(3))
    assert old(site, f"GET {path}\r\n".encode()) == (body, "closed")


def test_an_exception_in_http_0_9_is_a_page_or_a_reset(site):
    body, how = old(site, b"GET /raise?ValueError\r\n")
    assert (body[:6], how) == (b"<html>", "closed")
    body, how = old(site, b"GET /midway?ValueError\r\n")
    assert how == "reset"
    assert body in (b"", b"some")


def test_only_get_exists_in_http_0_9(site):
    before = len(site.events("called"))
    for method in (b"HEAD", b"POST"):
        assert b"400 Bad Request" in old(site, method + b" /\r\n")[0]
    assert len(site.events("called")) == before


def test_a_server_that_nobody_has_named_has_a_name_yet(site):
    with site.connect(site.ports["PORT3"]) as client:
        client.send(b"PROXY UNKNOWN\r\n" + http.build("GET", "/", version="1.0"))
        found = environ(client.read_response())
    assert found["SERVER_NAME"] == "localhost"
    assert (found["REMOTE_ADDR"], found["SERVER_PORT"]) == ("127.0.0.1", str(site.ports["PORT3"]))


def test_the_peer_of_an_http_2_stream_is_that_of_its_connection(site):
    with h2client.H2Connection(site.ports["PORT2"]) as client:
        ours = client.raw.sock.getsockname()
        for _ in range(3):
            found = environ(client.wait(client.send("GET", "/")))
            assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (ours[0], str(ours[1]))
            assert found["SERVER_PORT"] == str(site.ports["PORT2"])
