"""Random requests that nginx and wsgiref must answer alike, and what "alike" is."""

import dataclasses
import json
import string

from . import http

SERVER = """
    merge_slashes off;
    large_client_header_buffers 8 64k;
    client_body_buffer_size 16k;
    location / { wsgi_app differential:application; }
"""
# TRACE and CONNECT are nginx's own affair.
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "REPORT",
           "X-OWN", "M_A", "A"]
STATUSES = ["200 OK", "200 Fine", "201 Created", "202 Sm\xf6rg\xe5s  x ", "206 Partial Content",
            "299 \xff", "301 Moved Permanently", "302 Found", "303 See Other", "400 no", "401 Who",
            "404 Not Found", "413 Too much", "418 I'm a teapot", "500 Mine", "503 Later", "599 x",
            "204 No Content", "205 Reset Content", "304 Not Modified"]
NO_BODY = (204, 205, 304)
KINDS = ["list", "tuple", "generator", "iterator", "map", "late", "write", "write and list",
         "file", "file object"]
SIZES = [0, 0, 1, 2, 100, 255, 256, 4095, 4096, 8191, 8192, 16383, 16384, 16385, 65535, 65536,
         65537, 200_000]
TYPES = ["text/plain", "text/html; charset=utf-8", "application/json", "TEXT/X; Charset=\"a b\"",
         "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "a", "\xe9/\xff"]
NAMES = ["X-A", "x-b-c", "X-2", "Accept", "Accept-Language", "User-Agent", "Referer", "Via",
         "X-Forwarded-For", "X-Forwarded-Proto", "Authorization", "Pragma", "Priority", "A", "Dnt",
         "X-" + "long" * 50]
REPEATED = ["X-R", "Accept", "Via", "Cookie", "X-Forwarded-For"]
ANSWERED = ["X-A", "x-lower", "Set-Cookie", "Set-Cookie", "Vary", "Link", "WWW-Authenticate",
            "Location", "Cache-Control", "Expires", "Date", "Server", "Last-Modified", "ETag",
            "Content-Language", "Content-Encoding", "Accept-Ranges", "Retry-After", "X_U", "A.b~"]
# Twice from an application, they are one for nginx: it keeps a field for each.
ONCE = ["Location", "Expires", "Date", "Server", "Last-Modified", "ETag", "Content-Encoding"]

UNRESERVED = string.ascii_letters + string.digits + "-_~"
IN_PATH = UNRESERVED + "!$&'()*+,;=:@|^`{}[]\"<>\\"
# Not the two that str.split() takes for white space: wsgiref divides the request line with it.
HIGH = "".join(chr(code) for code in range(0x80, 0x100) if code not in (0x85, 0xA0))
IN_VALUE = "".join(map(chr, range(0x21, 0x7F))) + HIGH


@dataclasses.dataclass
class Case:
    method: str
    target: str
    headers: list
    body: bytes
    spec: dict
    version: str = "1.1"
    close: bool = False

    @property
    def data(self):
        headers = [("Host", "example.org"), *self.headers]
        headers.append(("X-Answer", json.dumps(self.spec)))
        return http.build(
            self.method, self.target, headers, self.body, version=self.version, close=self.close
        )

    def __str__(self):
        body = f"{len(self.body)} bytes"
        return (f"{self.method} {self.target!a} HTTP/{self.version}, close={self.close}, {body}\n"
                f"  headers {self.headers!a}\n  X-Answer {json.dumps(self.spec)}")


def some(random, letters, low, high):
    return "".join(random.choices(letters, k=random.randint(low, high)))


def escaped(random, text):
    """Each byte as it is, as an escape, or as an escape in lower case."""
    forms = ["%%%02X", "%%%02x"]
    return "".join(
        random.choice(forms) % ord(char)
        if char not in IN_PATH + HIGH or random.random() < 0.2 else char
        for char in text
    )


def path(random):
    segments = []
    for _ in range(random.randint(0, 5)):
        # Any byte but NUL, which nginx refuses; / within a segment is escaped, too.
        letters = random.choice([UNRESERVED, IN_PATH, "".join(map(chr, range(1, 256)))])
        segment = some(random, letters, 0, 12)
        # Dots are resolved by nginx.
        parts = [part if part.strip(".") else "x" + part for part in segment.split("/")]
        segments.append(escaped(random, "/".join(parts)))
    # The first one is not empty: wsgiref takes // at the start for /.
    if segments and segments[0][:1] in ("", "/"):
        segments[0] = "y" + segments[0]
    return "/" + "/".join(segments)


def query(random):
    letters = random.choice([UNRESERVED + "=&+%", IN_PATH + "/?%" + HIGH])
    return random.choice(["", "?", "?a=1&b=%ff", "?" + some(random, letters, 0, 60)])


def value(random):
    """A field value without white space at its ends; within, spaces and tabs."""
    letters = random.choice([string.ascii_letters, IN_VALUE])
    words = [some(random, letters, 1, 20) for _ in range(random.randint(0, 3))]
    text = random.choice([" ", "\t", "  ", ", ", "; "]).join(words)
    return text if random.random() > 0.02 else some(random, letters, 3000, 6000)


def request_headers(random):
    names = random.sample(NAMES, random.randint(0, 6))
    headers = [(name, value(random)) for name in names]
    if random.random() < 0.4:
        again = random.choice(REPEATED)
        for _ in range(random.randint(1, 4)):
            name = random.choice([again, again.lower(), again.upper()])
            headers.insert(random.randint(0, len(headers)), (name, value(random)))
    if random.random() < 0.5:
        headers.append((random.choice(["Content-Type", "content-type"]), random.choice(TYPES)))
    return headers


def answer_headers(random, valid, status):
    code, headers = int(status[:3]), []
    for name in random.choices(ANSWERED, k=random.randint(0, 6)):
        if not (name in ONCE and name in dict(headers)):
            text = "Sun, 06 Nov 1994 08:49:37 GMT"
            dated = name in ("Date", "Last-Modified", "Expires")
            headers.append((name, text if dated else value(random).replace("\t", " ")))
    # The validator wants a type where there is a body, and none where there is none.
    wanted = code not in (204, 304) if valid else code != 204 and random.random() < 0.7
    if wanted:
        at = random.randint(0, len(headers))
        headers.insert(at, (random.choice(["Content-Type", "content-type"]), random.choice(TYPES)))
    return [field for field in headers if not (valid and "~" in field[0])]


def generate(random):
    status = random.choice(STATUSES if random.random() < 0.6 else ["200 OK"])
    valid = random.random() < 0.5
    spec = {
        "status": status, "valid": valid, "kind": random.choice(KINDS),
        "headers": answer_headers(random, valid, status),
        "size": random.choice(SIZES), "length": random.random() < 0.4,
        "again": random.random() < 0.1,
        "read": random.choice(["all", "lines", 1000, 70_000]),
        "cuts": [random.choice([0, -1, random.randrange(1 << 20)])
                 for _ in range(random.choice([0, 0, 1, 2, 5, 20]))],
    }
    if random.random() < 0.03:
        spec["kind"] = random.choice(["raise", "raise early"])
    method, headers = random.choice(METHODS), request_headers(random)
    body = random.randbytes(random.choice(SIZES)) if random.random() < 0.6 else b""
    if not body and random.random() < 0.3:
        headers.append(("Content-Length", "0"))
    return Case(
        method, path(random) + query(random), headers, body, spec,
        version=random.choice(["1.0", "1.1", "1.1"]), close=random.random() < 0.1,
    )


def joined(case, name, separator):
    """The values of a field of the request, its name as in environ."""
    found = [v for n, v in case.headers if n.upper().replace("-", "_") == name]
    return separator.join(found)


def expected(case, seen):
    """What is here in environ, made from what wsgiref has: the differences there are."""
    seen = dict(seen)
    names = {name.lower() for name, _ in case.headers}
    if "content-type" not in names:
        assert seen.pop("CONTENT_TYPE") == "text/plain"
    if not case.body and "content-length" not in names:
        assert seen.pop("CONTENT_LENGTH") == ""
    for name in list(seen):
        short = name.removeprefix("HTTP_")
        if short != name and seen[name] == joined(case, short, ","):
            seen[name] = joined(case, short, "; " if short == "COOKIE" else ", ")
    return seen


def application_headers(response, case):
    """In their order, without what the server adds; the type apart, nginx writes it early."""
    own = {name.lower() for name, _ in case.spec["headers"]}
    types, rest = [], []
    for name, text in response.headers:
        low = name.lower()
        if low == "content-type":
            types.append(text)
        elif low in ("connection", "transfer-encoding", "content-length", "x-seen"):
            continue
        elif low in own or low not in ("accept-ranges", "date", "server"):
            rest.append((name, text))
    return types, rest


def lengths(case, response):
    """Whether Content-Length is the application's, or may have been added."""
    found, wanted = response.header("Content-Length"), len(case.body) + case.spec["size"]
    if response.status in NO_BODY or found is None:
        return found is None or response.status in NO_BODY or not case.spec["length"]
    return int(found) == wanted


def differences(case, here, there):
    """Sentences; none if the answers agree."""
    found = []

    def same(what, ours, theirs):
        if ours != theirs:
            found.append(f"{what}: here {ours!a:.600}, wsgiref {theirs!a:.600}")

    same("status", here.status, there.status)
    same("reason", here.reason, there.reason)
    if not here.complete or here.rest:
        found.append(f"the answer here ends with {here.end!r}, then {here.rest[:80]!r}")
    if "raise" in case.spec["kind"] or here.status != there.status:
        # The page is the server's own.
        return found
    same("headers", application_headers(here, case), application_headers(there, case))
    if here.header("X-Seen") and there.header("X-Seen"):
        ours, theirs = (json.loads(answer.header("X-Seen")) for answer in (here, there))
        same("environ", ours, expected(case, theirs))
    if case.method == "HEAD" or here.status in NO_BODY:
        same("length of the body", len(here.body), 0)
    else:
        same("body", (len(here.body), here.body), (len(there.body), there.body))
    if case.spec["length"] and here.status not in NO_BODY and not here.header("Content-Length"):
        found.append("the application's Content-Length is not sent")
    for name, response in (("here", here), ("wsgiref", there)):
        if not lengths(case, response):
            found.append(f"wrong Content-Length {name}: {response.header('Content-Length')}")
    return found
