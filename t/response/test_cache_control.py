"""nginx has to know Cache-Control and Link of the application, as it does behind uwsgi_pass.

expires replaces the field, gzip_proxied looks at it, $sent_http_ variables show it.
"""

import pytest
from lib.respond import respond

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    location / { wsgi_app respond:application; }
    location /expires/ { expires 1h; wsgi_app respond:application; }
    location /never/ { expires -1; wsgi_app respond:application; }
    location /added/ { add_header Cache-Control no-transform; wsgi_app respond:application; }
    location /proxied/ {
        gzip on; gzip_min_length 1; gzip_types *; gzip_proxied no-cache no-store private;
        wsgi_app respond:application;
    }
    location /shown/ {
        add_header X-Shown
            "$sent_http_cache_control|$sent_http_link|$sent_http_location|$sent_http_x_a";
        wsgi_app respond:application;
    }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER)


def page(place, *headers):
    headers = [("Content-Type", "text/html"), *headers]
    return place + respond(headers=headers, body=[b"some text " * 100])


@pytest.mark.parametrize(
    "place, wanted", [("/expires", "max-age=3600"), ("/never", "no-cache")]
)
def test_expires_replaces_cache_control_of_the_application(site, proto, place, wanted):
    path = page(place, ("Cache-Control", "private"), ("cache-control", "max-age=1"))
    assert proto(site, "GET", path).all("Cache-Control") == [wanted]


def test_add_header_adds_to_cache_control_of_the_application(site, proto):
    response = proto(site, "GET", page("/added", ("Cache-Control", "private")))
    assert response.all("Cache-Control") == ["private", "no-transform"]


@pytest.mark.parametrize("value, zipped", [("private", "gzip"), ("no-store", "gzip"),
                                           ("public", None), ("max-age=9", None)])
def test_gzip_proxied_goes_by_cache_control_of_the_application(site, value, zipped):
    headers = {"Via": "1.1 proxy", "Accept-Encoding": "gzip"}
    response = site.get(page("/proxied", ("Cache-Control", value)), headers=headers)
    assert response.header("Content-Encoding") == zipped


def test_variables_show_what_the_application_sends(site):
    path = page("/shown", ("Cache-Control", "private"), ("Link", "<a>"), ("Location", "/x"),
                ("X-A", "b"))
    assert site.get(path).header("X-Shown") == "private|<a>|/x|b"
