"""Every byte at every place of a header: what passes, what is dropped, what is refused.

RFC 9110 section 5; nginx refuses or drops some bytes before the application is asked.
"""

import json
import string

import pytest
from lib import http
from lib.respond import respond

SERVER = "location / { wsgi_app environ:bare; }"
HTTP = """
    server {
        listen 127.0.0.1:@PORT2@;
        ignore_invalid_headers off;
        location / { wsgi_app environ:bare; }
    }
"""
BYTES = [chr(code) for code in range(256)]
CONTROLS = [char for char in BYTES if char < " " or char == "\x7f"]
# Header names: RFC 9110 section 5.6.2.
TOKEN = [char for char in string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"]
# In a value NUL, CR and LF are refused (or end the line).
IN_VALUE = [char for char in BYTES if char not in "\0\r\n"]
# In a target LF ends the line, and the request is one of HTTP/0.9.
IN_TARGET = [char for char in BYTES if char != "\n"]


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(
        apps=["respond"], server=SERVER + "large_client_header_buffers 8 64k;", http=HTTP
    )


def header_vars(response):
    """HTTP_* of environ, without what the client always sends."""
    assert response.status == 200, response
    values = json.loads(response.body)["values"]
    return {
        name: value for name, value in values.items()
        if name.startswith("HTTP_") and name not in ("HTTP_HOST", "HTTP_CONNECTION")
    }


@pytest.mark.parametrize("form", ["a{}b", "{}b", "a{}", "{}", "a {} b"])
def test_every_byte_of_a_value_arrives(site, form):
    sent = {f"X-{ord(char)}": form.format(char) for char in IN_VALUE}
    # Only spaces are stripped at the ends; nginx leaves tabs.
    wanted = {f"HTTP_X_{ord(char)}": form.format(char).strip(" ") for char in IN_VALUE}
    assert header_vars(site.get("/", headers=sent)) == wanted


@pytest.mark.parametrize("char", ["\0", "\r"], ids=["NUL", "CR"])
@pytest.mark.parametrize("form", ["a{}b", "{}b", "a{} b"])
def test_a_byte_that_divides_lines_is_refused_in_a_value(site, char, form):
    assert site.get("/", headers={"X-A": form.format(char)}).status == 400


def test_every_byte_of_a_name_is_passed_or_dropped(site):
    names = {f"N{ord(c)}{c}Z": c for c in BYTES if c > " " and c not in ":\x7f"}
    passed = set(string.ascii_letters + string.digits + "-")
    wanted = {
        "HTTP_" + name.upper().replace("-", "_"): "v"
        for name, char in names.items() if char in passed
    }
    assert header_vars(site.get("/", headers=dict.fromkeys(names, "v"))) == wanted


def test_without_ignore_invalid_headers_every_byte_of_a_name_is_passed(site):
    names = [f"N{ord(c)}{c}Z" for c in BYTES if c > " " and c not in ":\x7f"]
    upper = str.maketrans(string.ascii_lowercase + "-", string.ascii_uppercase + "_")
    wanted = {"HTTP_" + name.translate(upper): "v" for name in names}
    response = site.get("/", port=site.ports["PORT2"], headers=dict.fromkeys(names, "v"))
    assert header_vars(response) == wanted


@pytest.mark.parametrize("char", [c for c in [*CONTROLS, " "] if c not in "\r\n"], ids=ascii)
def test_a_control_character_in_a_name_is_refused(site, char):
    assert site.get("/", headers={f"X{char}Y": "v"}).status == 400


def test_a_method_is_capital_letters_dashes_and_underscores(site):
    good = set(string.ascii_uppercase + "-_")
    for char in BYTES:
        if char in " \r\n":
            continue
        response = http.request(site.port, f"X{char}Y", "/")
        if char in good:
            assert json.loads(response.body)["values"]["REQUEST_METHOD"] == f"X{char}Y"
        else:
            assert response.status == 400, repr(char)


def test_every_byte_of_a_path_arrives_escaped_and_raw(site):
    for char in BYTES:
        for target in (f"/a%{ord(char):02x}b", f"/a%{ord(char):02X}b"):
            response = site.get(target)
            if char == "\0":
                assert response.status == 400
                continue
            values = json.loads(response.body)["values"]
            assert (values["PATH_INFO"], values["REQUEST_URI"]) == (f"/a{char}b", target)
    for char in IN_TARGET:
        response = site.get(f"/a{char}b")
        if char in CONTROLS or char in " %":
            assert response.status == 400, repr(char)
            continue
        values = json.loads(response.body)["values"]
        # What is behind ? and # is no path.
        wanted = ("/a" if char in "?#" else f"/a{char}b", f"/a{char}b")
        assert (values["PATH_INFO"], values["REQUEST_URI"]) == wanted


def test_every_byte_of_a_query_arrives_as_it_is(site):
    for char in IN_TARGET:
        response = site.get(f"/?a{char}b")
        if char in CONTROLS or char == " ":
            assert response.status == 400, repr(char)
            continue
        wanted = "a" if char == "#" else f"a{char}b"
        assert json.loads(response.body)["values"]["QUERY_STRING"] == wanted


@pytest.mark.parametrize("form", ["a{}b", "{}b", "a{}", "{}"])
def test_every_byte_of_an_answered_value_is_sent(site, form):
    good = [char for char in BYTES if char not in CONTROLS or char == "\t"]
    headers = [(f"X-{ord(char)}", form.format(char)) for char in good]
    response = site.get(respond(headers=headers, body=[b"x"]))
    assert (response.status, response.body) == (200, b"x")
    found = [field for field in response.headers if field[0].startswith("X-")]
    assert found == [(name, value.strip(" \t")) for name, value in headers]


def test_every_byte_of_an_answered_name_is_sent_or_refused(site):
    names = [f"X{char}Y{ord(char)}" for char in TOKEN]
    response = site.get(respond(headers=[(name, "v") for name in names], body=[b"x"]))
    assert [name for name, value in response.headers if value == "v"] == names
    for char in set(BYTES) - set(TOKEN):
        response = site.get(respond(headers=[(f"X{char}Y", "v")], body=[b"x"]))
        assert response.status == 500, repr(char)
        assert "v" not in [value for _, value in response.headers]


@pytest.mark.parametrize("char", [char for char in CONTROLS if char != "\t"], ids=ascii)
def test_a_control_character_of_the_application_is_refused(site, char):
    for spec in ({"headers": [("X-A", f"a{char}b")]}, {"headers": [("X-A", char)]},
                 {"status": f"200 O{char}K"}):
        response = site.get(respond(**spec, body=[b"x"]))
        assert response.status == 500
        assert response.header("X-A") is None


def test_every_byte_of_a_reason_is_sent(site):
    good = "".join(char for char in BYTES if char not in CONTROLS or char == "\t")
    assert site.get(respond(status=f"200 A{good}Z", body=[b"x"])).reason == f"A{good}Z"
