"""Reading wsgi.input in t/apps/reader.py: expressions, and what they give."""

from urllib.parse import quote

BODY = b"aa\nbb\ncc"
READS = [
    ("f.read()", BODY),
    ("f.read(-1)", BODY),
    ("f.read(None)", BODY),
    ("f.read(0)", b""),
    ("[f.read(4), f.read()]", [b"aa\nb", b"b\ncc"]),
    ("f.read(1000)", BODY),
    ("[f.read(), f.read(), f.read(5), f.readline(), f.readlines()]", [BODY, b"", b"", b"", []]),
    ("[f.readline(), f.readline(), f.readline(), f.readline()]", [b"aa\n", b"bb\n", b"cc", b""]),
    ("[f.readline(1), f.readline()]", [b"a", b"a\n"]),
    ("[f.readline(-1), f.readline(0), f.readline(100)]", [b"aa\n", b"", b"bb\n"]),
    ("f.readline(None)", b"aa\n"),
    ("f.readlines()", [b"aa\n", b"bb\n", b"cc"]),
    ("[f.readlines(2), f.readlines(4)]", [[b"aa\n"], [b"bb\n", b"cc"]]),
    ("[f.readlines(None), f.readlines()]", [[b"aa\n", b"bb\n", b"cc"], []]),
    ("list(f)", [b"aa\n", b"bb\n", b"cc"]),
    ("[next(f), f.read(2), f.readline()]", [b"aa\n", b"bb", b"\n"]),
    ("[f.read(3), f.tell(), f.seek(0), f.read()]", [b"aa\n", 3, 0, BODY]),
    ("[f.seek(-2, 2), f.read()]", [6, b"cc"]),
    ("[f.read(1), f.seek(2, 1), f.read(2)]", [b"a", 3, b"bb"]),
    ("[f.seek(100), f.read()]", [100, b""]),
    ("in_thread(f.read)", BODY),
    ("type(f.read()).__name__", "bytes"),
    ("type(f.readline()).__name__", "bytes"),
]


def evaluated(site, place, expression, body=BODY, **options):
    response = site.post(f"/{place}?{quote(expression, safe='')}", body=body, **options)
    assert response.status == 200, response
    return response.text
