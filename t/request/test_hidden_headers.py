"""Headers with underscores must not bring back what headers with dashes are kept from."""

import json

import pytest

SERVER = """
    underscores_in_headers on;
    location = /bare { wsgi_app environ:bare; }
"""


@pytest.fixture(scope="module")
def site(shared_nginx):
    return shared_nginx(server=SERVER, apps=["environ"])


@pytest.mark.parametrize("name", ["Content_Length", "Content_Type", "Transfer_Encoding"])
@pytest.mark.parametrize("body", [b"", b"abc"])
def test_a_hidden_header_does_not_come_back_with_an_underscore(site, name, body):
    response = site.post("/bare", body=body, headers={name: "7"})
    found = json.loads(response.body)["values"]
    assert f"HTTP_{name.upper()}" not in found


@pytest.mark.parametrize("name", ["Content_Length", "Content_Type"])
def test_a_client_cannot_break_the_rules_of_environ(site, name):
    """wsgiref.validate forbids HTTP_CONTENT_LENGTH and HTTP_CONTENT_TYPE."""
    assert site.get("/environ", headers={name: "7"}).status == 200
