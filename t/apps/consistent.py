"""204 if CONTENT_LENGTH and wsgi.input tell the same, else 500: for subrequests.

Without a body there is nothing that the variables of a body could tell.
"""


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    same = len(body) == int(environ.get("CONTENT_LENGTH") or 0)
    named = {"CONTENT_LENGTH", "CONTENT_TYPE"} & environ.keys()
    good = same and (body or not named)
    start_response("204 No Content" if good else "500 Lengths Differ", [])
    return []
