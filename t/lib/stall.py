"""Sites whose application takes as long to import as a test holds its gate."""

from . import procs
from .poll import until

HTTP = "wsgi_check off; wsgi_env STEP {};"
HELD = r"\[notice\] \d+#.*serves on until the applications of the new workers are loaded"
WAITS = "leaves new connections to others until its applications are loaded"


def reload(site, step="new", workers=None, held=None, **changes):
    """HUP with a gate in front of the new import: until new workers wait and old ones are held."""
    gate = site.gate(step)
    old = site.workers()
    begin(site, step, workers, **changes)
    site.wait_event(f"waiting {step}", count=site.workers_wanted)
    site.log.wait_for(HELD, count=len(old) if held is None else held)
    return gate, old


def begin(site, step, workers=None, **changes):
    if workers:
        changes["workers"], site.workers_wanted = str(workers), workers
    site.write_config(http=HTTP.format(step) + site.extra, **changes)
    site.signal("HUP")


def answers(site, number=20, **options):
    """What new connections are answered with."""
    return {site.get("/step", **options).text for _ in range(number)}


def switched(site, old, step="new"):
    """The new code answers, the old workers have gone."""
    until(lambda: site.get("/step").text == step, what="an answer of the new code")
    until(lambda: not any(map(procs.alive, old)), what="the old workers' end")
    found = answers(site)
    assert found == {step}, found
    assert len(site.workers()) == site.workers_wanted, site.workers()
