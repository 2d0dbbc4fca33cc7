"""Asks wsgi_status, and reads what it says."""

import html
import json
import re

from . import http
from .poll import until

STATUS = """
    location = /status { wsgi_status; allow 127.0.0.1; deny all; }
    location = /stacks { wsgi_status stacks query; allow 127.0.0.1; deny all; }
    location = /metrics { wsgi_status prometheus; allow 127.0.0.1; deny all; }
    location = /ready { wsgi_status ready; allow 127.0.0.1; deny all; }
"""


def ask(site, path="/status", **options):
    return http.request(site.port, "GET", path, **options)


def of(site, query=""):
    """The status as JSON."""
    response = ask(site, f"/status?format=json{query}")
    assert response.status == 200, response
    return json.loads(response.body)


def loaded(site):
    """Wait until every worker has loaded every application."""

    def everywhere():
        workers = of(site)["workers"]
        states = [app["state"] for worker in workers for app in worker["apps"]]
        return len(workers) == site.workers_wanted and set(states) <= {"loaded"}

    until(everywhere, 20, "all applications are loaded")
    return site


def in_words(site, path="/status"):
    """What the page says is wrong, as a person reads it; the text form has to say the same."""
    mark = "&" if "?" in path else "?"
    page = ask(site, path).body.decode()
    found = re.findall(r'<li class="(?:bad|odd|good)">(.*?)</li>', page)
    assert found, page
    text = ask(site, f"{path}{mark}format=text").body.decode()
    return "\n".join(html.unescape(line) for line in found), page, text


def says(site, pattern, path="/status", timeout=15):
    """Wait until both page and text say something that matches, in what is wrong."""

    def found():
        words, _, text = in_words(site, path)
        wrong = "\n".join(line for line in text.split("\n") if line.startswith("! "))
        return re.search(pattern, words) and re.search(pattern, wrong)

    try:
        return until(found, timeout, f"the status says {pattern!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{in_words(site, path)[2]}") from None


def metrics(site):
    """The samples: values by name and labels."""
    found = {}
    for line in ask(site, "/metrics").body.decode().split("\n"):
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def total(site, name, **labels):
    """The sum of a metric over what has these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value for sample, value in metrics(site).items()
        if re.match(rf"nginx_wsgi_{name}(\{{|$)", sample)
        and all(label in sample for label in wanted)
    )
