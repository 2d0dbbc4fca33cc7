"""$wsgi_* and nginx's $upstream_*: what an access log says of a request.

Where applications and upstreams meet, the log of uwsgi_pass alone is the measure.
"""

import os
import re

import pytest
from lib import http
from lib.load import at_once
from lib.poll import elapse, until
from lib.reference import UwsgiReference
from lib.respond import Expr, respond

FORMAT = """
    log_format ours '$request_uri|$status|$wsgi_app|$wsgi_queue_time|$wsgi_app_time'
        '|$wsgi_thread|$upstream_addr|$upstream_status|$upstream_connect_time'
        '|$upstream_header_time|$upstream_response_time|$upstream_response_length'
        '|$upstream_bytes_received|$upstream_bytes_sent|$upstream_http_x_own|$request_time';
    map $wsgi_thread $known_thread { default yes; "" no; }
"""
FIELDS = ["uri", "status", "app", "queue", "time", "thread", "addr", "upstream", "connect",
          "header", "response", "length", "received", "sent", "x_own", "request"]
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    access_log @DIR@/ours.log ours;
    recursive_error_pages on;
    error_page 500 502 503 504 /50x.html;
    location = /50x.html { internal; return 200 "sorry"; }
    location = /respond { wsgi_app respond:application; wsgi_thread_pool wsgi; }
    location = /proxy { uwsgi_pass 127.0.0.1:%(port)d; uwsgi_param QUERY_STRING $query_string; }
    location = /dead { uwsgi_pass 127.0.0.1:%(port)d; uwsgi_intercept_errors on;
        uwsgi_param QUERY_STRING "{'status': '503 x'}"; error_page 503 = '/respond?{}'; }
    location = /both { wsgi_app respond:application; wsgi_intercept_errors on;
        error_page 404 = '/proxy?{}'; error_page 410 = '/respond?{}'; error_page 403 = @third; }
    location @third { wsgi_app respond:application; wsgi_intercept_errors on;
        error_page 403 = /dead; }
    location = /refused { wsgi_app respond:application; wsgi_mount /other; }
    location = /broken { wsgi_app no_such_module; }
    location /full/ { wsgi_app held:application; wsgi_thread_pool one; wsgi_queue 0; }
    location /late/ { wsgi_app held:application; wsgi_thread_pool one; wsgi_queue 5 timeout=200ms; }
    location /held/ { wsgi_app held:application; wsgi_thread_pool one; }
    location /silent/ { wsgi_app held:application; wsgi_thread_pool one; wsgi_read_timeout 700ms; }
    location = /early { wsgi_app respond:application; add_header X-Queue $wsgi_queue_time;
        add_header X-Time "<$wsgi_app_time>"; add_header X-Thread $wsgi_thread;
        add_header X-App $wsgi_app; add_header X-Status "<$upstream_status>";
        add_header X-Response "<$upstream_response_time>"; }
    location = /ssi.html { ssi on; log_subrequest on; root @DIR@/html; }
    location = /sub { log_subrequest on; wsgi_app respond:application; }
    location = /guarded { auth_request /auth; mirror /mirrored; wsgi_app respond:application; }
    location = /auth { internal; log_subrequest on; wsgi_app respond:application;
        wsgi_param QUERY_STRING "{}"; }
    location = /mirrored { internal; wsgi_app respond:application; wsgi_param QUERY_STRING "{}"; }
    location = /after { post_action /mirrored; wsgi_app respond:application; }
    location = /if { wsgi_app respond:application; if ($arg_a) { set $a 1; } }
    location = /param { wsgi_app environ:bare; wsgi_param APP $wsgi_app; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    with UwsgiReference("respond", EVENTS=os.devnull) as reference:
        yield shared_nginx(
            main="thread_pool wsgi threads=2; thread_pool one threads=1;", http=FORMAT,
            server=SERVER % {"port": reference.port},
        )


class Line:
    def __init__(self, text):
        values = text.split("|")
        assert len(values) == len(FIELDS), text
        self.__dict__.update(zip(FIELDS, values, strict=True))

    def __repr__(self):
        return repr(self.__dict__)


def lines(site):
    with open(f"{site.dir}/ours.log") as file:
        return [Line(line) for line in file.read().split("\n")[:-1]]


@pytest.fixture
def log(site):
    """The lines that a test has added, once there are so many."""
    before = len(lines(site))

    def wait(count=1):
        found = until(lambda: lines(site)[before:] if len(lines(site)) >= before + count else None)
        assert len(found) == count, found
        return found if count > 1 else found[0]

    return wait


TIME = r"\d+\.\d\d\d"


def test_a_request_is_accounted_for(site, proto, log):
    path = respond(body=[b"abc", b"de"], headers=[("X-Own", "x")])
    assert proto(site, "GET", path).body == b"abcde"
    line = log()
    assert (line.status, line.app, line.upstream) == ("200", "respond:application", "200")
    for time in (line.queue, line.time, line.connect, line.header, line.response):
        assert re.fullmatch(TIME, time), line
    assert re.fullmatch(r"wsgi:[12]", line.thread)
    assert (line.addr, line.length, line.received) == ("respond:application", "5", "5")
    assert line.connect == line.queue
    assert line.x_own == "x"


def test_a_location_without_an_application_has_no_account(site, log):
    site.get("/static")
    line = log()
    values = {name: getattr(line, name) for name in FIELDS[2:-1]}
    assert set(values.values()) == {"-"}, values


def test_a_refused_request_has_no_times(site, log):
    assert site.get("/refused").status == 404
    line = log()
    assert (line.app, line.queue, line.time, line.thread) == ("respond:application", "-", "-", "-")
    assert (line.upstream, line.response) == ("-", "-")


def test_an_application_that_is_not_loaded_has_no_times(site, log):
    until(lambda: "no_such_module" in site.log.text(), what="the failed import")
    assert site.get("/broken").status == 500
    line = log()
    assert (line.queue, line.time, line.thread) == ("-", "-", "-")


def test_a_failed_request_keeps_its_account_on_the_error_page(site, log):
    assert site.get(respond(fail=Expr("ValueError()"))).body == b"sorry"
    line = log()
    assert (line.status, line.app, line.upstream) == ("500", "respond:application", "500")
    assert re.fullmatch(TIME, line.time) and line.header == "-" and line.length == "0"


def test_refused_and_silent_requests_have_the_times_they_had(site, log):
    gate = site.gate("silent")
    with site.connect() as first, site.connect() as second, site.connect() as third:
        first.send(http.build("GET", "/silent/silent"))
        site.wait_event("waiting silent")
        second.send(http.build("GET", "/full/x"))
        assert second.read_response().status == 503
        third.send(http.build("GET", "/late/x"))
        assert third.read_response().status == 503
        assert first.read_response().status == 504
    gate.open()
    full, late, silent = sorted(log(3), key=lambda line: line.uri)
    assert (full.upstream, full.queue, full.time, full.connect) == ("503", "-", "-", "-")
    assert (late.upstream, late.queue, late.time, late.thread) == ("503", "-", "-", "-")
    assert float(late.response) >= 0.19
    assert (silent.upstream, silent.thread, silent.header) == ("504", "one:1", "-")
    assert float(silent.time) >= 0.69 > float(silent.queue)


def test_time_in_the_queue_is_none_of_the_application(site, log):
    gate = site.gate("long")
    with site.connect() as first, site.connect() as second:
        first.send(http.build("GET", "/held/long?1"))
        site.wait_event("waiting long")
        second.send(http.build("GET", "/held/nothing?2"))
        elapse(1)
        gate.open()
        assert first.read_response().status == 200 and second.read_response().status == 200
    one, two = sorted(log(2), key=lambda line: line.uri)
    # nginx's clock is that of the kernel's ticks.
    assert float(one.time) > 0.5 > float(one.queue)
    assert float(two.queue) > 0.5 > float(two.time)
    for line in (one, two):
        assert abs(float(line.queue) + float(line.time) - float(line.response)) < 0.006, line


def test_a_client_that_goes_away_leaves_the_times_until_then(site, log):
    gate = site.gate("gone")
    with site.ask("/held/gone"):
        site.wait_event("waiting gone")
        with site.ask("/held/never"):
            site.barrier()
    gone, never, _static = sorted(log(3), key=lambda line: line.uri)
    assert (gone.status, gone.upstream, gone.header) == ("499", "-", "-")
    # Another worker tells within some milliseconds which thread it is.
    assert gone.thread == "one:1" or (gone.thread == "-" and "WSGI_BALANCE" in os.environ)
    assert re.fullmatch(TIME, gone.time) and re.fullmatch(TIME, gone.response)
    assert (never.status, never.queue, never.thread, never.time) == ("499", "-", "-", "-")
    assert re.fullmatch(TIME, never.response)
    gate.open()


def test_what_is_not_known_yet_is_not_there(site):
    response = site.get("/early?{}")
    assert re.fullmatch(TIME, response.header("X-Queue"))
    assert re.fullmatch(r"default:\d+", response.header("X-Thread"))
    assert response.header("X-App") == "respond:application"
    assert response.header("X-Status") == "<200>"


def test_a_redirect_to_an_upstream_has_two_states(site, log):
    redirect = respond(headers=[("X-Accel-Redirect", "/proxy?{'body':[b'12']}")])
    assert site.get(redirect).body == b"12"
    line = log()
    addr = line.addr.split(" : ")
    assert (addr[0], addr[1][:10], len(addr)) == ("respond:application", "127.0.0.1:", 2)
    assert (line.upstream, line.length) == ("200 : 200", "0 : 2")
    assert re.fullmatch(f"{TIME} : {TIME}", line.response)


@pytest.mark.parametrize("path,states", [
    ("/both?{'status':'404%20x'}", "404 : 200"),
    ("/both?{'status':'410%20x'}", "410 : 200"),
    ("/dead", "503 : 200"),
    ("/both?{'status':'403%20x'}", "403 : 403 : 503 : 200"),
])
def test_states_are_in_their_order_with_a_separator(site, log, path, states):
    site.get(path)
    line = log()
    assert line.upstream == states, line
    count = states.count(":") + 1
    for value in (line.connect, line.header, line.response, line.length, line.received, line.sent):
        assert len(value.split(" : ")) == count, line


def test_a_redirect_between_applications_has_two_states(site, log):
    target = respond(body=[b"1234"])
    assert site.get(respond(headers=[("X-Accel-Redirect", target)])).body == b"1234"
    line = log()
    assert (line.upstream, line.length) == ("200 : 200", "0 : 4")
    assert line.addr == "respond:application : respond:application"


def test_subrequests_have_accounts_of_their_own(site, log):
    site.write("html/ssi.html", '<!--# include virtual="/sub?{\'body\':[b\'1\']}" -->'
               '<!--# include virtual="/sub?{\'body\':[b\'22\']}" -->')
    assert site.get("/ssi.html").body == b"122"
    found = log(3)
    assert sorted((line.upstream, line.length) for line in found) == [
        ("-", "-"), ("200", "1"), ("200", "2")]


def test_auth_request_mirror_and_post_action(site, log):
    assert site.get("/guarded?{'body':[b'1']}").body == b"1"
    found = log(2)
    assert [(line.upstream, line.app) for line in found] == [("200", "respond:application")] * 2


def test_a_post_action_is_one_more_state(site, log):
    assert site.get("/after?{'body':[b'333']}").body == b"333"
    # It is one request for the log, given to two locations.
    assert log().upstream == "200 : 200"


def test_the_target_is_there_for_the_application(site):
    assert b'"APP": "environ:bare"' in site.get("/param").body


def test_an_application_inherited_by_if_has_its_name(site, log):
    site.get("/if?a=1&{}")
    assert log().app == "respond:application"


def test_threads_are_numbered_in_their_pool(site, log):
    at_once(lambda _: site.get(respond(body=[b"x"])), range(20), threads=8)
    assert {line.thread for line in log(20)} <= {"wsgi:1", "wsgi:2"}


def test_a_map_and_an_if_may_ask(nginx):
    site = nginx(http=FORMAT, apps=["plain"], server="add_header X-Known $known_thread;")
    assert site.get("/plain").header("X-Known") == "yes"
    assert site.get("/static").header("X-Known") == "no"


@pytest.mark.parametrize("wsgi", [True, False])
def test_without_an_application_nginx_s_variables_are_untouched(nginx, wsgi):
    text = "log_format s '$upstream_status $upstream_addr'; access_log @DIR@/s.log s;"
    site = nginx(http=text, wsgi=wsgi)
    site.get("/static")

    def logged():
        with open(f"{site.dir}/s.log") as file:
            return file.read()

    assert until(logged) == "- -\n"
