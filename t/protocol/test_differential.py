"""The same requests, here and under wsgiref.simple_server: the same answers.

2,000 random requests from one seed, which is printed. TEST_NGINX_SEED=N takes another one, 0 a new
one for each run; TEST_NGINX_COUNT=N makes it longer or shorter. Where the two differ on purpose,
no such request is generated, or lib/differential.py says how the answers are compared;
test_differences.py has a test for each of these differences, with its reason.
"""

import json
import os
import random
from collections import Counter

import pytest
from lib.differential import SERVER, differences, generate
from lib.poll import until
from lib.reference import Reference

COUNT = int(os.environ.get("TEST_NGINX_COUNT") or 2000)


@pytest.fixture(scope="module")
def reference():
    with Reference("differential") as server:
        yield server


class Asking:
    """One connection to nginx, for as long as nginx keeps it."""

    def __init__(self, site):
        self.site, self.client, self.connections = site, None, 0

    def __call__(self, method, data):
        if not self.client:
            self.client = self.site.connect()
            self.connections += 1
        self.client.send(data)
        response = self.client.read_response(method)
        if response.header("Connection") == "close" or not response.complete:
            response.rest = self.client.read_to_end()[0]
            self.client.close()
            self.client = None
        return response


def closed(ask):
    return Counter(json.loads(ask("GET", b"GET /closed HTTP/1.0\r\n\r\n").body))


def test_random_requests_are_answered_as_by_wsgiref(shared_nginx, reference, capsys):
    seed = int(os.environ.get("TEST_NGINX_SEED") or 3333)
    seed = seed or random.SystemRandom().randrange(1, 1 << 32)
    with capsys.disabled():
        print(f"\nTEST_NGINX_SEED={seed} TEST_NGINX_COUNT={COUNT} ", end="")
    source, site, faults = random.Random(seed), shared_nginx(server=SERVER), []
    ask = Asking(site)
    for number in range(COUNT):
        case = generate(source)
        here, there = ask(case.method, case.data), reference.ask(case.method, case.data)
        found = differences(case, here, there)
        if found:
            faults.append(f"request {number}: {case}\n  " + "\n  ".join(found))
    assert not faults, (
        f"{len(faults)} of {COUNT} differ, TEST_NGINX_SEED={seed}\n"
        + "\n".join(faults[:5]) + "\nstderr of wsgiref:\n" + reference.trouble()
    )
    assert ask.connections < COUNT, "keep-alive was never tried"
    # HEAD, 204 and 304 end the iteration early here, but close() is always called.
    wanted = closed(reference.ask)
    assert sum(wanted.values()) > COUNT / 10
    until(lambda: closed(ask) == wanted, what=f"close() called as often as {wanted}")
