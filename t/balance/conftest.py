"""Two workers, the first without a free thread."""

import pytest
from lib.balance import HTTP, OPTIONS, READY, SERVER, Workers

from common.nginx import FORCED


@pytest.fixture(scope="module", autouse=True)
def unforced():
    """These tests have reasons of their own for what is handed over."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FORCED:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def start(nginx):
    """Workers(...) of a site with further directives; nothing is occupied."""

    def start(http="", server="", **options):
        more = {"http": HTTP + http, "server": SERVER + server + READY}
        return Workers(nginx(**OPTIONS | more | options))

    return start


@pytest.fixture
def pair(start):
    return start().occupy()


@pytest.fixture(scope="module")
def shared(shared_nginx):
    """As pair, for all tests of a file."""
    return Workers(shared_nginx(**OPTIONS)).occupy()
