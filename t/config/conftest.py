"""The application of the tests of wsgi_check."""

import pytest
from lib.shop import SHOP
from lib.sources import HELLO

OPEN = HELLO.format("open")


@pytest.fixture
def shop(make_nginx):
    """A site with the application /shop, whose code is given; not started."""

    def make(code=OPEN, http="", server="", **options):
        site = make_nginx(http=f"wsgi_chdir @DIR@/site; {http}", server=SHOP + server, **options)
        site.write("site/shop.py", code)
        return site

    return make
