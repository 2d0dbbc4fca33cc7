"""What a request with many headers costs the event loop, which serves all others meanwhile."""

import json
import string

import pytest
from lib import procs

pytestmark = pytest.mark.alone
LETTERS = string.ascii_lowercase + string.digits
# Of one length: nginx compares hashes, the module must not compare each with each.
PLAIN = [f"{a}{b}{c}" for a in LETTERS for b in LETTERS for c in LETTERS]
UNDERSCORED = [f"{a}_{b}{c}" for a in LETTERS for b in LETTERS for c in LETTERS]
SERVER = """
    underscores_in_headers on;
    large_client_header_buffers 8 64k;
    location / { wsgi_app environ:bare; }
"""


@pytest.fixture
def site(make_nginx):
    """nginx has a limit of 1000 headers from 1.29.8 on, and so have patched older ones."""
    site = make_nginx(server=SERVER + "max_headers 100000;")
    if site.test_config()[0]:
        site = make_nginx(server=SERVER)
    return site.start()


def cost(site, names):
    """Nanoseconds of the event loop for a request with these headers; the least of three."""
    found = []
    for _ in range(3):
        start = procs.main_thread_nanoseconds(site.worker())
        response = site.get("/", headers=[(name, "v") for name in names])
        found.append(procs.main_thread_nanoseconds(site.worker()) - start)
        values = json.loads(response.body)["values"]
        assert all(values["HTTP_" + name.upper()] == "v" for name in names)
    return min(found)


@pytest.mark.parametrize("names", [PLAIN, UNDERSCORED], ids=["plain", "underscored"])
def test_the_cost_of_a_head_grows_with_the_number_of_its_headers_only(site, names):
    """Eight times the headers cost about eight times as much, not sixty-four times."""
    assert cost(site, names[:8000]) < 24 * cost(site, names[:1000])
