"""What the tests of request bodies share: their kinds, and gates."""

import contextlib

import pytest
from lib.upload import KINDS


@pytest.fixture
def hold(site):
    """Gates that are open after the test, whatever its outcome."""
    with contextlib.ExitStack() as stack:
        def close(name):
            gate = site.gate(name)
            stack.callback(gate.open)
            return gate

        yield close


@pytest.fixture(params=["on", "off"])
def mode(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param
