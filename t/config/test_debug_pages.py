"""wsgi_debug: what a developer sees in place of a bare 500, and what nobody must see."""

import html
import re

import pytest
from lib.poll import until

XSS = "<script>alert('x&y')</script>"
APP = f'''
XSS = {XSS!r}
CODE = compile("def inner():\\n    raise KeyError('in <b>')", f"/nowhere/{{XSS}}.py", "exec")
class Odd(Exception):
    def __str__(self):
        raise ValueError("no text")
def raising(environ):
    secret = "a local variable"
    raise ValueError(XSS)  # the line <i>itself</i> "quoted"
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raising(environ)
    if path == "/started":
        start_response("200 OK", [("X-Secret", "no")])
        raising(environ)
    if path == "/sent":
        start_response("200 OK", [("Content-Length", "9")])
        return sent(environ)
    if path == "/name":
        space = {{}}
        exec(CODE, space)
        space["inner"]()
    if path == "/chain":
        try:
            raising(environ)
        except ValueError as error:
            raise KeyError("outer") from error
    if path == "/deep":
        deep = lambda n: deep(n + 1)
        deep(0)
    if path == "/odd":
        raise Odd
    if path == "/surrogate":
        raise ValueError("lone \\udc80")
    if path == "/long":
        raise ValueError("x" * 10_000_000)
    if path == "/group":
        raise ExceptionGroup("several", [ValueError("of them"), KeyError("this")])
    if path == "/exit":
        raise SystemExit(3)
    if path == "/str":
        start_response("200 OK", [])
        return ["<no bytes>"]
    if path == "/silent":
        return []
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"fine"]
def sent(environ):
    yield b"some"
    raising(environ)
'''
SERVER = """
    error_page 500 /sorry;
    location = /sorry { internal; return 200 "sorry"; }
    location / { wsgi_app @DIR@/site/app.py; wsgi_debug on; }
    location /plain/ { wsgi_app @DIR@/site/app.py; wsgi_mount /plain; }
"""
BROWSER = [("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        prepare=lambda nginx: nginx.write("site/app.py", APP),
        server=SERVER + "listen 127.0.0.1:@PORT2@ http2;",
    )


def page(site, path, headers=BROWSER, **options):
    response = site.get(path, headers=headers, **options)
    assert response.status == 500
    assert response.header("Cache-Control") == "no-store"
    return response


def test_an_exception_is_a_page_with_its_frames(site):
    mark = site.log.mark()
    response = page(site, "/raise")
    assert response.header("Content-Type") == "text/html; charset=utf-8"
    assert response.header("Content-Length") == str(len(response.body))
    assert "app.py&quot;, line 9, in raising</h3>" in response.text
    assert "in application</h3>" in response.text
    # Some lines around the one.
    assert 'secret = &quot;a local variable&quot;' in response.text
    assert "def application(environ, start_response):" in response.text
    # The log has what it always has.
    site.log.wait_for(r"\[error\].*ValueError: <script>", start=mark)
    site.log.wait_for(r"\[error\].*Traceback \(most recent call last\)", start=mark)


@pytest.mark.parametrize("path", ["/raise", "/started", "/name", "/chain", "/str", "/group"])
def test_nothing_of_it_is_markup(site, path):
    text = page(site, path).text
    tags = set(re.findall(r"</?([a-z0-9]+)", text))
    assert tags <= {"html", "head", "meta", "style", "title", "body", "h1", "h2", "h3", "p", "pre",
                    "b"}
    for part in ("<script", "<i>", "in <b>", "<no bytes>"):
        assert part not in text
    if path != "/str" and path != "/group":
        assert html.escape(XSS) in text


def test_neither_locals_nor_environ_are_shown(site):
    for form in (BROWSER, []):
        text = page(site, "/raise", headers=[*form, ("Cookie", "session=hush")]).text
        assert "hush" not in text and "HTTP_COOKIE" not in text and "REMOTE_ADDR" not in text


def test_the_head_of_the_application_is_not_sent(site):
    assert page(site, "/started").header("X-Secret") is None


def test_a_response_that_has_begun_is_cut_as_always(site):
    response = site.get("/sent", headers=BROWSER)
    assert (response.status, response.complete) == (200, False)
    assert b"html" not in response.body


@pytest.mark.parametrize("accept", [
    [], [("Accept", "*/*")], [("Accept", "application/json")], [("Accept", "text/html;q=0")],
])
def test_programs_get_plain_text(site, accept):
    response = page(site, "/raise", headers=accept)
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert f"ValueError: {XSS}" in response.text
    assert "Traceback (most recent call last)" in response.text


def test_what_was_raised_before_is_shown_first(site):
    text = page(site, "/chain").text
    assert text.index("ValueError: ") < text.index("This caused:") < text.index("KeyError: ")


@pytest.mark.parametrize("path, part", [
    ("/deep", "frames are left out"), ("/odd", "Odd: "), ("/surrogate", r"lone \udc80"),
    ("/group", "ValueError: of them"), ("/exit", "SystemExit: 3"),
    ("/str", "str instead of bytes"), ("/silent", "did not call start_response()"),
])
def test_odd_exceptions_have_a_page_too(site, path, part):
    assert part in page(site, path).text


def test_a_long_text_is_cut(site):
    assert len(page(site, "/long").body) < 100_000


def test_head_has_no_body(site, proto):
    response = proto(site, "HEAD", "/raise", BROWSER)
    assert (response.status, response.body) == (500, b"")


def test_every_protocol_has_the_page(site, proto):
    response = proto(site, "GET", "/raise", BROWSER)
    assert response.status == 500 and b"in raising</h3>" in response.body


def test_error_page_does_not_replace_it_and_it_is_off_elsewhere(site):
    assert page(site, "/raise").text != "sorry"
    response = site.get("/plain/raise", headers=BROWSER)
    assert "sorry" in response.text and "raising" not in response.text


def test_off_below_on(nginx):
    site = nginx(
        http="wsgi_debug on;",
        server="location /shown { wsgi_app nowhere; } "
               "location /bare { wsgi_app nowhere; wsgi_debug off; }",
    )
    assert "nowhere" in site.get("/shown").text
    assert "nowhere" not in site.get("/bare").text


def test_a_failed_import_is_shown_to_every_request(make_nginx):
    site = make_nginx(server="location / { wsgi_app @DIR@/site/app.py; wsgi_debug on; }")
    site.write("site/app.py", "VALUE = 1\nundefined_<0\n")
    site.start()
    for _ in range(5):
        text = page(site, "/").text
        assert "NameError: name &#x27;undefined_&#x27;" in text and "app.py&quot;, line 2" in text
    assert site.get("/", headers=[]).text.startswith("wsgi_app ")
    assert site.get("/static").status == 200


def test_a_syntax_error_at_start_is_shown_with_its_line(make_nginx):
    site = make_nginx(server="location / { wsgi_app @DIR@/site/app.py; wsgi_debug on; }")
    site.write("site/app.py", "GOOD = 1\ndef <b>:\n")
    site.start()
    text = page(site, "/").text
    assert "SyntaxError: invalid syntax" in text and "<b>    2 def &lt;b&gt;:</b>" in text


def test_a_save_with_a_syntax_error_is_shown_until_it_is_mended(make_nginx):
    site = make_nginx(
        http="wsgi_reload on;",
        server="location / { wsgi_app @DIR@/site/app.py; wsgi_debug on; }"
               "location /plain/ { wsgi_app @DIR@/site/app.py; }",
    )
    path = site.write("site/app.py", APP)
    site.start()
    assert site.get("/").text == "fine"
    worker = site.worker()
    with open(path, "w") as file:
        file.write(APP + "def (:\n")
    until(lambda: site.get("/").status == 500, what="the page")
    text = page(site, "/").text
    assert "app.py cannot be compiled" in text and "SyntaxError" in text and "def (:" in text
    # Without wsgi_debug the last good code goes on.
    assert site.get("/plain/").text == "fine"
    assert site.worker() == worker
    # As it was: nothing is wrong any more.
    with open(path, "w") as file:
        file.write(APP.replace("fine", "mended"))
    until(lambda: site.get("/").text == "mended", what="the new code")


def test_it_is_warned_of(make_nginx):
    site = make_nginx(apps=["plain"], http="wsgi_debug on;")
    code, said = site.test_config()
    assert code == 0
    assert re.search(r'\[warn\] .*"wsgi_debug" is on: source code is shown to clients in .*:\d+',
                     said)
    site.start()
    site.log.wait_for(r'\[warn\] .*"wsgi_debug" is on')
    _, said = make_nginx(apps=["plain"], http="wsgi_debug off;").test_config()
    assert "warn" not in said
