"""Changes its environ in every way; the next request must not see any of it."""

seen = []


def application(environ, start_response):
    marked = [name for name in environ if name.startswith("mutate.")]
    same = any(environ is other for other in seen)
    method = environ["REQUEST_METHOD"]
    environ["mutate.mark"] = object()
    environ["REQUEST_METHOD"] = "CHANGED"
    for name in list(environ):
        if name.startswith("HTTP_"):
            del environ[name]
    seen.append(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{marked} {same} {method}".encode()]
