"""What the tests of scripts/serve and scripts/uwsgi2nginx share."""

import pytest
from lib.serve import Site
from lib.uwsgi import Converted, furnish


@pytest.fixture
def site():
    """A directory of its own, and the scripts/serve that is started for it."""
    made = Site()
    yield made
    assert made.finish() == []


@pytest.fixture
def make_site(make_nginx):
    """nginx with what scripts/uwsgi2nginx made of an ini file, not started."""

    def make(*args, **options):
        site = make_nginx(*args, kind=Converted, **options)
        furnish(site)
        return site

    return make
