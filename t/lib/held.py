"""Requests and imports that are held back until a gate is opened, and a pool of one thread."""

ONE = "thread_pool one threads=1;"
HELD = "location /held/ { wsgi_app held:application; }"


def hold(site, path="/held/a?first", **options):
    """(client, gate) of a request that has its thread and waits for the gate its path ends with."""
    name = path.partition("?")[0].rpartition("/")[2]
    before = len(site.events(f"waiting {name}"))
    gate = site.gate(name)
    client = site.ask(path, **options)
    site.wait_event(f"waiting {name}", before + 1)
    return client, gate


def importing(site):
    """Start nginx, which comes to an import that waits; the gate that ends it."""
    gate = site.gate("import")
    site.start()
    site.wait_event("waiting import")
    return gate
