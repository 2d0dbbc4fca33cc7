"""Sites whose application takes as long to import as its gate is held."""

import pytest
from lib.stall import HTTP


@pytest.fixture
def start(make_nginx):
    def start(extra="", **options):
        site = make_nginx(apps=["step"], http=HTTP.format("old") + extra, **options)
        site.extra = extra
        site.start()
        site.wait_event("imported old", count=site.workers_wanted)
        # The imports have ended, and the workers have heard of that.
        site.settle()
        return site

    return start
