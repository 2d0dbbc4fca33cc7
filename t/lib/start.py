"""What start_response refuses, and the headers of nginx that an application may set itself."""

from .respond import Expr

BAD_STATUS = [
    ("ValueError", status)
    for status in ["", "OK", "20X", "2000 OK", "200OK", "20", " 200 OK", "099 x", "600 x", "999 x",
                   "100 Continue", "101 Switching Protocols", "199 x", "-200 OK", "200\tOK",
                   "200 O\r\nInjected: 1", "200 O\nK", "200 \x00", "200 €", "٢٠٠ OK", "é"]
] + [("TypeError", status) for status in [200, b"200 OK", None, ("200", "OK"), Expr("object()")]]

BAD_HEADERS = [
    ("TypeError", headers)
    for headers in [
        (), (("A", "b"),), {"A": "b"}, None, "A: b", 1, Expr("iter([('A', 'b')])"),
        ["A: b"], [["A", "b"]], [("A",)], [("A", "b", "c")], [None], [()],
        [(b"A", "b")], [("A", b"b")], [("A", 1)], [(1, "b")], [("A", None)],
    ]
] + [
    ("ValueError", headers)
    for headers in [
        [("", "b")], [("A B", "b")], [("A:", "b")], [(" A", "b")], [("A ", "b")],
        [("A\r\nInjected", "b")], [("A\n", "b")], [("A\x00", "b")], [("A\t", "b")],
        [("Ä", "b")], [("A(", "b")], [("A€", "b")], [("A/B", "b")],
        [("A", "b\r\nInjected: 1")], [("A", "b\nInjected: 1")], [("A", "b\rInjected: 1")],
        [("A", "b\r\n")], [("A", "b\x00")], [("A", "\x1b[0m")], [("A", "€")],
        [("A", "\ud800")], [("A", Expr("'x' * 70000"))],
    ]
]

HOP_BY_HOP = ["Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE",
              "Trailer", "Transfer-Encoding", "Upgrade", "transfer-encoding", "CONNECTION"]

LENGTHS = ["-1", "1x", "", "+5", " 5", "5 ", "0x5", "1.0", "5,5", "1_0", "٥",
           str(1 << 63), "9" * 30]

OWN = {
    "Date": "Thu, 01 Jan 2015 00:00:00 GMT", "Server": "mine/1",
    "Last-Modified": "Thu, 01 Jan 2015 00:00:00 GMT", "ETag": '"tag"', "Accept-Ranges": "none",
    "Content-Encoding": "br", "Location": "/x", "Content-Type": "text/html; charset=koi8-r",
    "Cache-Control": "no-cache", "Expires": "0", "Content-Language": "de", "X-Empty": "",
    "X-Latin": "\xe9\xff", "Refresh": "5; url=/x", "Content-Disposition": 'a; filename="\xe9"',
}
