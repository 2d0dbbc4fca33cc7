"""What the tests of scripts/uwsgi2nginx share: nginx with what the script wrote."""

import pytest
from lib.uwsgi import Converted, furnish


@pytest.fixture
def make_site():
    made = []

    def make(ini, *options, **rest):
        site = Converted(ini, *options, **rest)
        made.append(site)
        furnish(site)
        return site

    yield make
    faults = [fault for site in made for fault in site.finish()]
    assert faults == []
