"""Where an answer here is not the one of wsgiref.simple_server: each difference, and its reason.

test_differential.py generates no such requests, or takes the difference into account.
"""

import json
import wsgiref.headers

import pytest
from lib import http
from lib.differential import SERVER
from lib.reference import Reference

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
PAST = ("If-Modified-Since", DATE)


def with_control_characters():
    """What becomes of a value with some: newer versions of Python refuse it too."""
    try:
        bytes(wsgiref.headers.Headers([("X", "a\tb\rc")]))
    except ValueError:
        return 500
    return 200


@pytest.fixture(scope="module")
def both(shared_nginx):
    """Both answers to one request; rest is what came after the end of an answer."""
    site = shared_nginx(server=SERVER)

    def here(method, data):
        with http.Connection(site.port) as client:
            client.send(data)
            response = client.read_response(method)
            response.rest = client.read_to_end()[0]
            return response

    with Reference("differential") as reference:

        def ask(method, target, headers, body, spec):
            headers = [("Host", "example.org"), *headers, ("X-Answer", json.dumps(spec))]
            data = http.build(method, target, headers, body)
            return here(method, data), reference.ask(method, data)

        yield ask


def seen(name):
    """What the application found under the name, or the status if it was not called."""

    def find(response):
        found = response.header("X-Seen")
        return json.loads(found).get(name) if found else response.status

    return find


def status(response):
    return response.status


def reason(response):
    return response.reason


def whole_body(response):
    return response.body + response.rest


def field(name):
    return lambda response: response.all(name)


LONG = {"size": 9, "headers": [["Content-Length", "5"]]}
TWO_TYPES = {"headers": [["Content-Type", "a"], ["Content-Type", "b"]]}
NINE = bytes(range(9))

# Name and reason; the request (what the application shall do is the dict at its end); what is
# looked at; its value here and under wsgiref.
REQUESTS = [
    ("no type: wsgiref makes one up", ["GET", "/", [], b"", {}],
     seen("CONTENT_TYPE"), None, "text/plain"),
    ("no body: PEP 3333 lets the length be absent", ["GET", "/", [], b"", {}],
     seen("CONTENT_LENGTH"), None, ""),
    ("repeated fields: RFC 9110 recommends a space",
     ["GET", "/", [("X-R", "a"), ("x-r", "b")], b"", {}], seen("HTTP_X_R"), "a, b", "a,b"),
    ("repeated cookies: RFC 9113 joins them with a semicolon",
     ["GET", "/", [("Cookie", "a=1"), ("Cookie", "b=2")], b"", {}],
     seen("HTTP_COOKIE"), "a=1; b=2", "a=1,b=2"),
    ("two credentials: nginx refuses, which of them counts must not be in doubt",
     ["GET", "/", [("Authorization", "a"), ("Authorization", "b")], b"", {}], status, 400, 200),
    ("Proxy is hidden (httpoxy)", ["GET", "/", [("Proxy", "x")], b"", {}],
     seen("HTTP_PROXY"), None, "x"),
    ("fields named like a CGI variable: wsgiref loses them",
     ["GET", "/", [("Path-Info", "x")], b"", {}], seen("HTTP_PATH_INFO"), "x", None),
    ("underscores: nginx drops the field, it could pass for another",
     ["GET", "/", [("X_U", "x")], b"", {}], seen("HTTP_X_U"), None, "x"),
    ("odd names: nginx drops the field (ignore_invalid_headers)",
     ["GET", "/", [("X~U", "x")], b"", {}], seen("HTTP_X~U"), None, "x"),
    ("folded lines: nginx refuses what RFC 9112 deprecates",
     ["GET", "/", [("X-F", "a\r\n b")], b"", {}], seen("HTTP_X_F"), 400, "a\r\n b"),
    ("white space at the ends: nginx strips spaces only, Python more than HTTP's",
     ["GET", "/", [("X-S", "\xa0a\t")], b"", {}], seen("HTTP_X_S"), "\xa0a\t", "a"),
    ("two hosts: nginx refuses", ["GET", "/", [("Host", "b")], b"", {}], status, 400, 200),
    ("a length with a sign: nginx refuses",
     ["POST", "/", [("Content-Length", "+3")], b"abc", {}], status, 400, 200),
    ("chunked bodies: wsgiref does not decode them",
     ["POST", "/", [("Transfer-Encoding", "chunked")], http.chunked(b"abc"), {}],
     seen("CONTENT_LENGTH"), "3", ""),
    ("dots: nginx resolves them", ["GET", "/a/../b", [], b"", {}],
     seen("PATH_INFO"), "/b", "/a/../b"),
    ("two slashes: wsgiref makes them one at the start, nginx everywhere or (here) nowhere",
     ["GET", "//x", [], b"", {}], seen("PATH_INFO"), "//x", "/x"),
    ("a fragment: nginx cuts it off", ["GET", "/a?b#c", [], b"", {}],
     seen("QUERY_STRING"), "b", "b#c"),
    ("a broken escape: nginx refuses it", ["GET", "/%zz", [], b"", {}],
     seen("PATH_INFO"), 400, "/%zz"),
    ("NUL: nginx refuses it", ["GET", "/%00", [], b"", {}], seen("PATH_INFO"), 400, "/\0"),
    ("a raw byte that Python takes for a space", ["GET", "/a\xa0b", [], b"", {}],
     seen("PATH_INFO"), "/a\xa0b", 400),
    ("an absolute target: wsgiref does not take it apart", ["GET", "http://h/x", [], b"", {}],
     seen("PATH_INFO"), "/x", "http://h/x"),
    ("TRACE: nginx refuses it", ["TRACE", "/", [], b"", {}], status, 405, 200),
    ("methods in lower case: nginx refuses them", ["get", "/", [], b"", {}], status, 400, 200),
    ("HEAD: wsgiref leaves it to the application to send no body",
     ["HEAD", "/", [], b"", {"size": 9}], whole_body, b"", NINE),
    ("204 has no body, whatever the application says",
     ["GET", "/", [], b"", {"status": "204 No Content", "size": 9}], whole_body, b"", NINE),
    ("204 has no type and no length: nginx's header filter",
     ["GET", "/", [], b"", {"status": "204 No Content", "headers": [["Content-Type", "a"]]}],
     field("Content-Type"), [], ["a"]),
    ("205 has no body and says so",
     ["GET", "/", [], b"", {"status": "205 Reset Content", "size": 9}],
     field("Content-Length"), ["0"], ["9"]),
    ("304: nginx's words", ["GET", "/", [], b"", {"status": "304 Same"}],
     reason, "Not Modified", "Same"),
    ("an empty reason: nginx's words", ["GET", "/", [], b"", {"status": "201 "}],
     reason, "Created", ""),
    ("no reason: accepted, many applications do without",
     ["GET", "/", [], b"", {"status": "200"}], status, 200, 500),
    ("status 1xx is no answer", ["GET", "/", [], b"", {"status": "102 x"}], status, 500, 102),
    ("status 600 does not exist", ["GET", "/", [], b"", {"status": "600 x"}], status, 500, 600),
    ("a list of several chunks: its length is known",
     ["GET", "/", [], b"", {"size": 9, "cuts": [3]}], field("Content-Length"), ["9"], []),
    ("a real file: its length is known, and nginx can send parts of it",
     ["GET", "/", [], b"", {"size": 9, "kind": "file"}], field("Accept-Ranges"), ["bytes"], []),
    ("X-Accel-*: for nginx, not for the client",
     ["GET", "/", [], b"", {"headers": [["X-Accel-Expires", "0"]]}],
     field("X-Accel-Expires"), [], ["0"]),
    ("more than Content-Length is cut off", ["GET", "/", [], b"", LONG],
     whole_body, NINE[:5], NINE),
    ("control characters in a value are refused",
     ["GET", "/", [], b"", {"headers": [["X", "a\tb\rc"]]}], status, 500,
     with_control_characters()),
    ("odd names of the application are refused",
     ["GET", "/", [], b"", {"headers": [["X Y", "a"]]}], status, 500, 200),
    ("two types: nginx has one", ["GET", "/", [], b"", TWO_TYPES],
     field("Content-Type"), ["b"], ["a", "b"]),
    ("an exception after the head: the part must not pass for the whole",
     ["GET", "/", [], b"", {"size": 9, "kind": "raise late"}],
     lambda response: response.complete, False, True),
    ("an exception before it: each has its page",
     ["GET", "/", [], b"", {"kind": "raise"}], field("Content-Type"), ["text/html"],
     ["text/plain"]),
    ("bytes as a whole: sent, a common mistake that others forgive",
     ["GET", "/", [], b"", {"size": 9, "kind": "bytes"}], status, 200, 500),
    ("conditional requests: nginx's filter answers if the application gives a date",
     ["GET", "/", [PAST], b"", {"headers": [["Last-Modified", DATE]]}], status, 304, 200),
]


@pytest.mark.parametrize(
    "request_, look, ours, theirs", [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_a_known_difference_is_still_one(both, request_, look, ours, theirs):
    here, there = both(*request_)
    assert (look(here), look(there)) == (ours, theirs)
