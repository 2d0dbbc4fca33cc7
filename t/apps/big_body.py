"""Reads a body in pieces and by offsets, and tells of its length and its end."""

END = 19


def application(environ, start_response):
    """Not validated: the validator's wsgi.input has no seek()."""
    body, size, full = environ["wsgi.input"], 0, 0
    while piece := body.read(1 << 16):
        size += len(piece)
        full += len(piece) - piece.count(0)
    told = body.tell()
    place = body.seek(-END, 2)
    found = (environ["CONTENT_LENGTH"], size, told, place, body.read(), body.read(1), full)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(found).encode()]
