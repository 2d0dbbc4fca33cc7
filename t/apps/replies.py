"""Answers to a number with a head and a body of its own, in three ways."""

STATUSES = [200, 201, 202, 203, 206, 226, 299, 400, 403, 404, 410, 418, 444, 499, 500, 503, 599]


def reply(number):
    """Status line, headers and body that belong to a number, and to no other."""
    tag = f"{number}-" + "abcdefgh"[number % 8] * (number * 7 % 300)
    headers = [
        ("Content-Type", f"text/{tag}"), (f"X-{number}", tag), ("ETag", f'"{tag}"'),
        ("Set-Cookie", f"a={tag}"), ("Location", f"/{tag}"), ("Set-Cookie", f"b={tag}"),
        ("Last-Modified", f"on {tag}"), ("Content-Language", tag[:20]),
    ]
    return f"{STATUSES[number % len(STATUSES)]} {tag}", headers, tag.encode()


def application(environ, start_response):
    status, headers, body = reply(int(environ["QUERY_STRING"]))
    write = start_response(status, headers)
    kind = int(environ["QUERY_STRING"]) % 3
    if kind == 0:
        return [body]
    if kind == 1:
        return (body[i : i + 50] for i in range(0, len(body), 50))
    write(body)
    return []
