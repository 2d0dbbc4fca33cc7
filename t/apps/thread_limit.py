"""Sets how many threads the user of the workers may have: ?NUMBER, or ? for as many as before."""

import resource


def application(environ, start_response):
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (int(environ["QUERY_STRING"] or hard), hard))
    start_response("200 OK", [("Content-Length", "0")])
    return []
