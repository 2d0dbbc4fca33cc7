"""White space around a value of the application is none of the value, and malformed in HTTP/2.

RFC 9110 section 5.5, RFC 9113 section 8.2.1 (the client library checks it). Django, for one, sends
each cookie as ("Set-Cookie", " name=value").
"""

import os
import sys

import pytest
from lib import h2client
from lib.respond import respond

SERVER = "listen 127.0.0.1:@PORT2@ http2;"
NAMES = ["X-A", "Set-Cookie", "Content-Type", "ETag", "Location"]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["respond"])


@pytest.mark.parametrize("value", [" a", "a ", "\ta", "a\t", "  a b\t ", " "], ids=repr)
def test_white_space_around_a_value_is_not_sent_in_http_2(site, value):
    for name in NAMES:
        path = respond(headers=[(name, value)], body=[b"x"])
        response = h2client.request(site.ports["PORT2"], "GET", path)
        assert (response.status, response.all(name) or [""]) == (200, [value.strip()])


def test_a_cookie_of_django_arrives_over_http_2(nginx):
    site = nginx(
        server=SERVER + "location / { wsgi_app django_site:application; }",
        http=f'wsgi_python_home "{sys.prefix}";',
        # The virtualenv lies where the checkout lies, which may be closed to another user.
        main="user root;" if os.getuid() == 0 else "",
    )
    response = h2client.request(site.ports["PORT2"], "GET", "/count")
    assert (response.status, response.body) == (200, b"1")
    assert response.header("Set-Cookie").startswith("sessionid=")
