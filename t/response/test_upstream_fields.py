"""$upstream_http_* and $upstream_cookie_*: what an application tells nginx beside the client.

Where nginx's own upstream has the same values, uwsgi_pass is the measure.
"""

import json
import os
from urllib.parse import quote

import pytest
from lib.poll import until
from lib.reference import UwsgiReference
from lib.respond import Expr, respond

NAMES = ["x_user", "x_secret", "content_length", "vary", "content_type", "x_absent"]
VALUES = "|".join([*(f"$upstream_http_{name}" for name in NAMES), "$upstream_cookie_session",
                   "$upstream_cookie_absent"])
HTTP = f"""
    log_format fields '{VALUES}';
    map $upstream_http_x_secret $rank {{ default none; gold first; }}
"""
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    wsgi_hide_header X-Secret; uwsgi_hide_header X-Secret;
    add_header X-Rank $rank;
    location = /respond { access_log @DIR@/fields.log fields; wsgi_app respond:application; }
    location = /uwsgi { access_log @DIR@/fields.log fields; uwsgi_pass 127.0.0.1:%(port)d;
        uwsgi_param QUERY_STRING $query_string; }
    location = /guarded { set $spec $query_string; auth_request /auth;
        auth_request_set $user $upstream_http_x_user;
        auth_request_set $session $upstream_cookie_session;
        wsgi_param REMOTE_USER $user; wsgi_param SESSION $session; wsgi_app environ:bare; }
    location = /auth { internal; wsgi_param QUERY_STRING $spec; wsgi_app respond:application; }
    location = /inside { internal; access_log @DIR@/fields.log fields;
        add_header X-Inside $upstream_http_x_secret; return 200 inside; }
    location = /passed_on { internal; access_log @DIR@/fields.log fields;
        set $query $upstream_http_x_query; uwsgi_pass 127.0.0.1:%(port)d;
        uwsgi_param QUERY_STRING $query; }
    location = /caught { wsgi_intercept_errors on; error_page 403 /inside;
        wsgi_app respond:application; }
    location = /first { uwsgi_pass 127.0.0.1:%(port)d; uwsgi_intercept_errors on;
        uwsgi_param QUERY_STRING $query_string; error_page 404 = '/respond?{}'; }
    location = /bare { access_log @DIR@/fields.log fields; return 200 bare; }
    location = /raising { access_log @DIR@/fields.log fields; wsgi_app raising:application; }
"""
FIELDS = [("X-User", "anna"), ("X-Secret", "gold"), ("Vary", "Cookie"), ("Content-Length", "2"),
          ("Set-Cookie", "session=abc; Path=/"), ("Content-Type", "text/x-own")]
LOGGED = "anna|gold|2|Cookie|text/x-own|-|abc|-"
NOTHING = "|".join("-" * 8)


@pytest.fixture(scope="module")
def site(shared_nginx):
    with UwsgiReference("respond", EVENTS=os.devnull) as reference:
        yield shared_nginx(http=HTTP, server=SERVER % {"port": reference.port})


@pytest.fixture
def log(site):
    """The lines that a test has added, once there are so many."""

    def lines():
        try:
            with open(f"{site.dir}/fields.log") as file:
                return file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []

    before = len(lines())

    def wait(count=1):
        found = until(lambda: lines()[before:] if len(lines()) >= before + count else None)
        assert len(found) == count, found
        return found if count > 1 else found[0]

    return wait


def path(where, **spec):
    return where + "?" + quote(repr(spec), safe="")


def test_a_log_has_them_hidden_or_not_as_of_any_upstream(site, proto, log):
    for where in ("/respond", "/uwsgi"):
        response = proto(site, "GET", path(where, headers=FIELDS, body=[b"ab"]))
        assert response.body == b"ab" and response.header("X-Secret") is None
        assert response.header("X-User") == "anna"
    assert log(2) == [LOGGED, LOGGED]


def test_a_map_and_a_header_of_the_response_have_them(site, proto):
    for where in ("/respond", "/uwsgi"):
        for value, rank in [("gold", "first"), ("lead", "none")]:
            response = proto(site, "GET", path(where, headers=[("X-Secret", value)]))
            assert response.header("X-Rank") == rank


def test_fields_that_come_several_times_are_one(site, log):
    site.get(respond(headers=[("Vary", "a"), ("X-User", ""), ("vary", "b"), ("X-User", "c")]))
    assert log().split("|")[:4] == [", c", "-", "0", "a, b"]


def test_the_length_that_the_server_finds_is_one(site, log):
    site.get(respond(body=[b"abc", b"de"]))
    assert log().split("|")[2] == "5"


def test_without_an_answer_there_are_none(site, log):
    assert site.get("/bare").body == b"bare"
    assert site.get("/raising").status == 500
    assert log(2) == [NOTHING, NOTHING]


def test_a_subrequest_hands_them_to_the_request(site, proto):
    spec = {"status": "204 No Content", "headers": FIELDS[:1] + FIELDS[4:5]}
    response = proto(site, "GET", path("/guarded", **spec))
    assert response.status == 200
    values = json.loads(response.body)["values"]
    assert (values["REMOTE_USER"], values["SESSION"]) == ("anna", "abc")


def test_the_location_that_x_accel_redirect_names_has_them(site, proto, log):
    headers = [*FIELDS[:2], ("X-Accel-Redirect", "/inside")]
    response = proto(site, "GET", respond(headers=headers))
    assert (response.body, response.header("X-Inside")) == (b"inside", "gold")
    assert log().startswith("anna|gold|")


def test_the_page_of_an_error_has_them(site, proto, log):
    response = proto(site, "GET", path("/caught", status="403 x", headers=FIELDS[:2]))
    assert (response.status, response.body) == (403, b"inside")
    assert log().startswith("anna|gold|")


def test_an_upstream_behind_an_application_has_the_last_word(site, log):
    query = quote(repr({"headers": [("X-User", "other")], "body": [b"c"]}))
    headers = [*FIELDS[:2], ("X-Accel-Redirect", "/passed_on"), ("X-Query", query)]
    assert site.get(respond(headers=headers)).body == b"c"
    assert log().startswith("other|-|")


def test_an_application_behind_an_upstream_too(site, log):
    spec = {"status": "404 x", "headers": FIELDS}
    assert site.get(path("/first", **spec)).status == 200
    # That of `{}`.
    assert log() == "-|-|0|-|-|-|-|-"


def test_a_head_of_any_size_is_there(site, log):
    headers = [("X-User", "u" * 2000), ("X-Long", Expr("'v' * 60000"))]
    site.get(respond(headers=headers))
    assert log().startswith("u" * 2000 + "|-|")
