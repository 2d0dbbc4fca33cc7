"""What a client says changes nothing but HTTP_*: no identity, no scheme, no target, no setting."""

import json

import pytest
from lib import h2client, http

SERVER = """
    listen 127.0.0.1:@PORT2@ http2;
    large_client_header_buffers 4 16k;
    location / { wsgi_app whereabouts:application; }
    location /mounted { wsgi_app whereabouts:application; wsgi_mount /mounted; }
"""
HTTP = """
    wsgi_python_path @DIR@/site;
    server {
        listen 127.0.0.1:@PORT3@;
        underscores_in_headers on;
        ignore_invalid_headers off;
        location / { wsgi_app whereabouts:application; }
        location /mounted { wsgi_app whereabouts:application; wsgi_mount /mounted; }
    }
"""
SPOOFED = {
    "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil",
    "X-Forwarded-Port": "1", "X-Forwarded-Scheme": "https", "X-Forwarded-Ssl": "on",
    "X-Forwarded-Server": "evil", "X-Forwarded-Prefix": "/evil", "X-Forwarded-User": "root",
    "Forwarded": 'for=192.0.2.1;proto=https;host="evil"', "X-Real-Ip": "192.0.2.1",
    "X-Client-Ip": "192.0.2.1", "Client-Ip": "192.0.2.1", "True-Client-Ip": "192.0.2.1",
    "Front-End-Https": "on", "X-Https": "on", "X-Url-Scheme": "https", "Https": "on",
    "X-Remote-User": "root", "Remote-User": "root", "Remote-Addr": "192.0.2.1",
    "Remote-Port": "1", "Auth-Type": "Basic", "X-Script-Name": "/evil", "Script-Name": "/evil",
    "Path-Info": "/evil", "Path-Translated": "/evil", "Query-String": "evil",
    "Request-Method": "EVIL", "Request-Uri": "/evil", "Server-Name": "evil", "Server-Port": "1",
    "Server-Protocol": "EVIL", "Document-Root": "/evil", "Gateway-Interface": "CGI/9",
    "X-Original-Url": "/evil", "X-Rewrite-Url": "/evil", "X-Http-Method-Override": "EVIL",
    "X-Sendfile": "/etc/passwd", "X-Accel-Redirect": "/evil", "X-Accel-Buffering": "no",
    "Wsgi-Url-Scheme": "https", "Wsgi-Input": "evil", "Wsgi-App": "evil:application",
    "Uwsgi-File": "evil.py", "Uwsgi-Module": "evil", "Uwsgi-Script": "evil", "Http-Host": "evil",
    "Proxy": "http://evil", "Proxy-Authorization": "evil", "Pythonpath": "/evil",
    "Django-Settings-Module": "evil", "X-Wsgiorg-Routing-Args": "evil",
}


@pytest.fixture(scope="module")
def site(shared_nginx):
    site = shared_nginx(apps=["plain"], server=SERVER, http=HTTP)
    # Both applications are loaded: no later difference comes from that.
    assert site.get("/plain").status == site.get("/").status == 200
    return site


def shown(response):
    assert response.status == 200, response
    return json.loads(response.body)


def without_headers(found):
    kept = {k: v for k, v in found["environ"].items() if not k.startswith("HTTP_")}
    return {**found, "environ": kept}


@pytest.mark.parametrize("dashes", ["-", "_"])
@pytest.mark.parametrize("port", ["PORT", "PORT2", "PORT3"])
@pytest.mark.parametrize("path", ["/x?q", "/mounted/x"])
def test_headers_change_nothing_but_their_own_variables(site, path, port, dashes):
    """Underscores are dropped, or where nginx lets them pass, make no difference."""
    ask = h2client.request if port == "PORT2" else http.request
    headers = {name.replace("-", dashes): value for name, value in SPOOFED.items()}
    plain = shown(ask(site.ports[port], "GET", path))
    spoofed = shown(ask(site.ports[port], "GET", path, headers=headers))
    assert without_headers(spoofed) == without_headers(plain)
    assert spoofed["environ"]["HTTP_HOST"] == plain["environ"]["HTTP_HOST"] == "'localhost'"
    assert "HTTP_PROXY" not in spoofed["environ"]
    # Each that arrives is there under its own name.
    names = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in SPOOFED.items()}
    extra = set(spoofed["environ"]) - set(plain["environ"])
    assert extra <= set(names)
    assert all(spoofed["environ"][name] == repr(names[name]) for name in extra)


@pytest.mark.parametrize("name", ["Proxy", "proxy", "PROXY", "pRoXy"])
def test_no_spelling_of_proxy_reaches_environ_or_the_environment(site, name):
    for port in ("PORT", "PORT3"):
        found = shown(site.get("/", port=site.ports[port], headers=[(name, "http://evil")] * 2))
        assert "HTTP_PROXY" not in found["environ"]
        assert not [k for k in found["os.environ"] if k.upper().startswith("HTTP")]
    found = shown(h2client.request(site.ports["PORT2"], "GET", "/", {name: "http://evil"}))
    assert "HTTP_PROXY" not in found["environ"]


TARGETS = [
    "/evil", "/evil:application", "/evil.py", "/site/evil.py", "/../site/evil.py",
    "/%2e%2e/site/evil.py", "/..%2fsite%2fevil.py", "/plain/../evil", "/plain/evil:application",
    "/?wsgi_app=evil:application", "/?evil", "/x;evil", "//evil", "/evil%00", "/mounted/evil.py",
    "/mounted/../evil.py", "/os:system", "/%7b%7d{}$evil", "http://evil/evil.py",
    "/x" + "/a" * 3000,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:30])
def test_the_target_of_a_request_chooses_no_application(site, target):
    """A module that could be imported is named in every place a client has."""
    site.write("site/evil.py", "from record import record\nrecord('evil')\napplication = None\n")
    before = shown(site.get("/"))["modules"]
    headers = {"Wsgi-App": "evil:application", "Wsgi-File": f"{site.dir}/site/evil.py"}
    for port in ("PORT", "PORT3"):
        for method in ("GET", "POST", "EVIL"):
            response = http.request(site.ports[port], method, target, headers=headers)
            assert response.status in (200, 400, 404)
    assert site.events("evil") == []
    assert shown(site.get("/"))["modules"] == before


METHODS = ["get", "GeT", "G" * 8000, "G" * 15_000, "G" * 70_000, "GET\xff", "\x80", "\xe9" * 5000,
           "G\0ET", "GET;", "{}", "%47ET", "G\tT", "1", "-", "_", "G-_T", "GET\x7f"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: ascii(method[:8]) + str(len(method)))
def test_an_odd_method_is_refused_or_arrives_as_it_is(site, method):
    worker = site.worker()
    response = http.request(site.port, method, "/")
    if response.status == 200:
        assert shown(response)["environ"]["REQUEST_METHOD"] == repr(method)
        assert set(method) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_")
    else:
        assert response.status in (400, 414), response
    over_h2 = h2client.request(site.ports["PORT2"], method, "/")
    if over_h2.status == 200:
        assert shown(over_h2)["environ"]["REQUEST_METHOD"] == repr(method)
    else:
        assert over_h2.status in (0, 400, 405, 414), over_h2
    assert site.worker() == worker
    assert site.get("/plain").body == b"plain"
