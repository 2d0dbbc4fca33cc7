"""204 if CONTENT_LENGTH and wsgi.input tell the same, else 500: for subrequests."""


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    same = len(environ["wsgi.input"].read()) == length
    start_response("204 No Content" if same else "500 Lengths Differ", [])
    return []
