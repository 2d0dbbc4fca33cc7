"""What the tests of the command nginx-wsgi share."""

import pytest
from lib.command import Command


@pytest.fixture
def site():
    """A directory of its own, and the nginx-wsgi that is started for it."""
    made = Command()
    yield made
    assert made.finish() == []
