"""$wsgi_cpu_time: what of a processor a request has used."""

import re

import pytest
from lib.poll import until

HTTP = "log_format cpu '$request_uri $wsgi_cpu_time $request_time';"
SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    access_log @DIR@/cpu.log cpu;
    location /overdue/ { wsgi_app overdue:application; }
    location /quick { wsgi_app overdue:quick; }
    location /raising { wsgi_app raising:application; }
    location /timed/ { wsgi_request_timeout 200ms; wsgi_app overdue:application; }
"""


def logged(site, uri):
    def line():
        with open(f"{site.dir}/cpu.log") as file:
            return [line.split() for line in file
                    if line.startswith(uri + " ") and line.endswith("\n")]

    ((_, cpu, whole),) = until(line, what=f"the line of {uri}")
    return cpu, whole


@pytest.fixture
def site(nginx):
    return nginx(http=HTTP, server=SERVER)


def test_what_computes_uses_a_processor_and_what_waits_does_not(site, proto):
    assert proto(site, "GET", "/overdue/compute/0.2").body == b"done"
    assert proto(site, "GET", "/overdue/sleep/0.3").body == b"done"
    computed, _ = logged(site, "/overdue/compute/0.2")
    slept, whole = logged(site, "/overdue/sleep/0.3")
    assert re.fullmatch(r"\d+\.\d{6}", computed)
    assert 0.2 <= float(computed) < 2
    assert 0 < float(slept) < 0.2 < float(whole)


def test_each_request_has_its_own(site):
    assert site.get("/overdue/compute/0.2").body == b"done"
    assert site.get("/quick").status == 200
    assert float(logged(site, "/quick")[0]) < 0.15


def test_one_that_fails_has_it_too(site):
    assert site.get("/raising").status == 500
    assert float(logged(site, "/raising")[0]) > 0


def test_without_an_end_of_the_application_or_without_one_there_is_none(site):
    assert site.get("/timed/sleep/0.9").status == 504
    assert site.get("/static").status == 200
    assert logged(site, "/timed/sleep/0.9")[0] == logged(site, "/static")[0] == "-"
