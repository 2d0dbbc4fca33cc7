"""environ as the configuration shapes it: wsgi_param, wsgi_mount, TLS, realip, auth_basic."""

import base64
import hashlib
import json
import subprocess

import pytest
from lib import http
from lib.respond import Expr, respond

PARAMS = """
    wsgi_param LEVEL server;
    location /inherits { wsgi_app environ:bare; }
    location /own { wsgi_app environ:bare; wsgi_param OTHER location; }
    location /variables { wsgi_app environ:bare; wsgi_param HTTP_X_ID "<$arg_id>"; }
    location /verified {
        wsgi_app environ:bare;
        wsgi_param HTTP_X_USER $arg_user if_not_empty;
    }
    location /empty {
        wsgi_app environ:bare;
        wsgi_param EMPTY "";
        wsgi_param ABSENT $arg_none if_not_empty;
        wsgi_param PRESENT $arg_id if_not_empty;
    }
    location /builtin { wsgi_app environ:bare; wsgi_param SERVER_NAME shop.example; }
    location /forwarded {
        wsgi_app environ:bare;
        wsgi_param HTTPS $http_x_https if_not_empty;
    }
    location /conditional {
        wsgi_app environ:bare;
        wsgi_param WHEN always;
        if ($arg_id) { wsgi_param WHEN asked; }
    }
"""
PASSING = """
    location /headless { wsgi_app environ:bare; wsgi_pass_request_headers off;
        wsgi_param HTTP_X_OWN own; }
    location /bodiless { wsgi_app environ:application; wsgi_pass_request_body off; }
    location /drained { wsgi_app upload:application; wsgi_pass_request_body off; }
    location /handed/ { wsgi_pass_request_body off; wsgi_app respond:application; }
    location @upload { wsgi_app upload:application; }
    location /none { wsgi_pass_request_headers off; wsgi_pass_request_body off;
        location /none/inherits { wsgi_app environ:bare; if ($arg_a) { set $a 1; } }
        location /none/on { wsgi_app environ:bare; wsgi_pass_request_headers on;
            wsgi_pass_request_body on; }
    }
"""
MOUNTS = """
    location /app { wsgi_app environ:bare; wsgi_mount /app; }
    location /deep/ { wsgi_app environ:bare; wsgi_mount /deep/er; }
    location ~ /re/x$ { wsgi_app environ:bare; wsgi_mount /re; }
    location /http { wsgi_app environ:bare; }
"""


def environ(response):
    assert response.status == 200, response
    return json.loads(response.body)["values"]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=PARAMS + PASSING + MOUNTS)


def test_params_of_the_server_are_inherited(site):
    assert environ(site.get("/inherits"))["LEVEL"] == "server"


def test_params_of_a_location_replace_those_of_the_server(site):
    found = environ(site.get("/own"))
    assert found["OTHER"] == "location"
    assert "LEVEL" not in found
    assert found["REQUEST_METHOD"] == "GET"


def test_a_param_named_http_replaces_the_header_of_the_client(site):
    found = environ(site.get("/variables?id=7", headers={"X-Id": "forged"}))
    assert found["HTTP_X_ID"] == "<7>"


@pytest.mark.parametrize("query, user", [("", None), ("?user=ann", "ann")])
def test_a_param_named_http_hides_the_header_of_the_client_even_when_it_is_empty(
    site, query, user
):
    found = environ(site.get(f"/verified{query}", headers={"X-User": "forged"}))
    assert found.get("HTTP_X_USER") == user


def test_an_empty_param_is_there_unless_if_not_empty(site):
    found = environ(site.get("/empty?id=7"))
    assert found["EMPTY"] == ""
    assert "ABSENT" not in found
    assert found["PRESENT"] == "7"


def test_a_param_replaces_a_built_in_variable(site):
    assert environ(site.get("/builtin"))["SERVER_NAME"] == "shop.example"


@pytest.mark.parametrize(
    "value, scheme",
    [("on", "https"), ("1", "https"), ("https", "https"), ("true", "https"), ("off", "http")],
)
def test_a_param_https_decides_the_url_scheme(site, value, scheme):
    found = environ(site.get("/forwarded", headers={"X-Https": value}))
    assert found["wsgi.url_scheme"] == scheme


def test_without_the_param_the_scheme_is_that_of_the_connection(site):
    found = environ(site.get("/forwarded"))
    assert found["wsgi.url_scheme"] == "http"
    assert "HTTPS" not in found


def test_a_param_in_an_if_block_counts_when_the_condition_holds(site):
    assert environ(site.get("/conditional"))["WHEN"] == "always"
    assert environ(site.get("/conditional?id=1"))["WHEN"] == "asked"


@pytest.mark.parametrize(
    "uri, script_name, path_info",
    [
        ("/app", "/app", ""),
        ("/app/", "/app", "/"),
        ("/app/x", "/app", "/x"),
        ("/%61pp/%C3%A9", "/app", "/\xc3\xa9"),
        ("/deep/er/x", "/deep/er", "/x"),
        ("/re/x", "/re", "/x"),
        ("/http/x", "", "/http/x"),
    ],
)
def test_the_mount_goes_to_script_name_and_the_rest_to_path_info(
    site, uri, script_name, path_info
):
    found = environ(site.get(uri))
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script_name, path_info)


@pytest.mark.parametrize("uri", ["/application", "/app.x", "/deep/other", "/deep/error"])
def test_a_uri_outside_the_mount_is_404_without_the_application(site, uri):
    before = len(site.events("called"))
    assert site.get(uri).status == 404
    assert len(site.events("called")) == before


def headers_of(found):
    return {name for name in found if name.startswith("HTTP_")}


@pytest.mark.parametrize("target", ["/headless", "http://example.net/headless"])
def test_request_headers_that_are_not_passed_are_not_there(site, target):
    sent = {"X-Sent": "1", "Cookie": "a=b", "X-Own": "sent", "Content-Type": "a/b"}
    found = environ(site.post(target, body=b"abc", headers=sent))
    assert {name: found[name] for name in headers_of(found)} == {"HTTP_X_OWN": "own"}
    assert (found["CONTENT_TYPE"], found["CONTENT_LENGTH"]) == ("a/b", "3")


@pytest.mark.parametrize("size", [3, 50_000])
def test_a_body_that_is_not_passed_has_no_length(site, size):
    body = b"x" * size
    found = environ(site.post("/bodiless", body=body, headers={"Content-Type": "a/b"}))
    assert (found["CONTENT_LENGTH"], found["CONTENT_TYPE"]) == ("0", "a/b")
    assert environ(site.get("/bodiless")).get("CONTENT_LENGTH") is None
    with site.connect() as client:
        for _ in range(2):
            client.send(http.build("POST", "/drained", body=body, close=False))
            response = client.read_response()
            assert (response.status, response.rest) == (200, b"")


def test_a_body_that_is_not_passed_may_be_chunked(site):
    with site.connect() as client:
        client.send(b"POST /bodiless HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"3\r\nabc\r\n0\r\n\r\n" + http.build("GET", "/http"))
        assert environ(client.read_response())["CONTENT_LENGTH"] == "0"
        assert environ(client.read_response())["PATH_INFO"] == "/http"


def test_a_body_that_is_not_passed_is_there_for_the_next_location(site):
    path = "/handed" + respond(headers=[("X-Accel-Redirect", "@upload")])
    body = b"x" * 50_000
    assert hashlib.sha256(body).hexdigest().encode() in site.post(path, body=body).body


@pytest.mark.parametrize("place, passed", [("inherits", False), ("inherits?a=1", False),
                                           ("on", True)])
def test_what_is_passed_of_a_request_is_inherited(site, place, passed):
    found = environ(site.post(f"/none/{place}", body=b"abc", headers={"X-Sent": "1"}))
    assert found.get("HTTP_X_SENT") == ("1" if passed else None)
    assert found["CONTENT_LENGTH"] == ("3" if passed else "0")


@pytest.mark.parametrize("threads, multithread", [(1, False), (2, True)])
@pytest.mark.parametrize("workers, multiprocess", [(1, False), (2, True)])
def test_multithread_and_multiprocess_say_what_is_configured(
    nginx, threads, multithread, workers, multiprocess
):
    server = nginx(
        main=f"thread_pool wsgi threads={threads};", workers=workers, apps=["environ"],
        app_directives="wsgi_thread_pool wsgi;",
    )
    found = environ(server.get("/environ"))
    assert found["wsgi.multithread"] is multithread
    assert found["wsgi.multiprocess"] is multiprocess


def test_the_default_pool_is_multithreaded(site):
    assert environ(site.get("/http"))["wsgi.multithread"] is True


def test_tls_is_seen_by_the_application(make_nginx):
    server = make_nginx(
        server="""
            listen 127.0.0.1:@PORT2@ ssl;
            ssl_certificate @DIR@/cert.pem;
            ssl_certificate_key @DIR@/key.pem;
            location = /denied {
                wsgi_app environ:bare;
                wsgi_param HTTPS off;
                wsgi_param REQUEST_SCHEME http;
            }
        """,
        apps=["environ", "respond"],
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", f"{server.dir}/key.pem",
         "-out", f"{server.dir}/cert.pem"],
        check=True, capture_output=True, timeout=30,
    )
    server.start()
    found = environ(server.get("/environ", port=server.ports["PORT2"], tls=True))
    assert found["wsgi.url_scheme"] == "https"
    assert found["HTTPS"] == "on"
    assert found["REQUEST_SCHEME"] == "https"
    assert found["SERVER_PORT"] == str(server.ports["PORT2"])
    found = environ(server.get("/denied", port=server.ports["PORT2"], tls=True))
    assert found["wsgi.url_scheme"] == "http"
    path = respond(body=Expr("[b'x' * 100_000] * 50"), kind="generator")
    response = server.get(path, port=server.ports["PORT2"], tls=True)
    assert (response.end, len(response.body)) == ("chunked", 5_000_000)


def test_the_remote_address_is_changed_by_realip_only(nginx):
    server = nginx(
        server="""
            location /real {
                set_real_ip_from 127.0.0.1;
                real_ip_header X-Real-IP;
                wsgi_app environ:bare;
            }
            location /forged { wsgi_app environ:bare; }
        """
    )
    headers = {"X-Real-IP": "192.0.2.7", "X-Forwarded-For": "192.0.2.8",
               "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil"}
    assert environ(server.get("/real", headers=headers))["REMOTE_ADDR"] == "192.0.2.7"
    found = environ(server.get("/forged", headers=headers))
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["wsgi.url_scheme"] == "http"
    assert found["HTTP_HOST"] == "localhost"


def basic(user):
    return {"Authorization": "Basic " + base64.b64encode(user + b":secret").decode()}


@pytest.fixture
def guarded(make_nginx):
    server = make_nginx(
        http="""
            map $remote_user $role { default user; root superuser; }
            limit_req_zone $remote_user zone=users:1m rate=1000r/s;
        """,
        server="""
            location /guarded {
                auth_basic realm;
                auth_basic_user_file @DIR@/users;
                wsgi_param REMOTE_USER $remote_user if_not_empty;
                wsgi_app environ:bare;
            }
            location /open { wsgi_app environ:bare; }
            location /limit { limit_req zone=users burst=10; wsgi_app environ:bare; }
            location /map { if ($role = banned) { return 403; } wsgi_app environ:bare; }
            location /set { set $user_for_log $remote_user; wsgi_app environ:bare; }
            location /root { root /srv/$remote_user; wsgi_app environ:bare; }
            location /login { auth_basic x; auth_basic_user_file @DIR@/users;
                              error_page 401 =200 @login; }
            location @login { wsgi_app environ:bare; }
            location /any { satisfy any; auth_request /sso;
                            auth_basic x; auth_basic_user_file @DIR@/users;
                            wsgi_app environ:bare; }
            location = /sso { internal; return 204; }
        """
    )
    server.write("users", b"ann:{PLAIN}secret\n\xff\xfe:{PLAIN}secret\n")
    return server.start()


def test_remote_user_is_the_user_that_auth_basic_verified(guarded):
    found = environ(guarded.get("/guarded", headers=basic(b"ann")))
    assert found["REMOTE_USER"] == "ann"
    assert found["HTTP_AUTHORIZATION"].startswith("Basic ")


def test_a_user_name_that_is_not_utf_8_arrives(guarded):
    found = environ(guarded.get("/guarded", headers=basic(b"\xff\xfe")))
    assert found["REMOTE_USER"] == "\xff\xfe"


def test_a_wrong_user_does_not_reach_the_application(guarded):
    assert guarded.get("/guarded", headers=basic(b"eve")).status == 401
    assert guarded.events("called") == []


# nginx knows the name before it looks at the password, and as soon as anybody asks for it.
@pytest.mark.parametrize("path", ["open", "limit", "map", "set", "root", "login", "any"])
def test_a_name_that_the_client_claims_is_no_remote_user(guarded, path):
    user = base64.b64encode(b"ann:wrong").decode()
    found = environ(guarded.get(f"/{path}", headers={"Authorization": f"Basic {user}"}))
    assert "REMOTE_USER" not in found
    assert found["HTTP_AUTHORIZATION"] == f"Basic {user}"
