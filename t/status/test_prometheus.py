"""The metrics, as Prometheus' own tools read them, and the rules and the dashboard for them."""

import json
import os
import re
import subprocess

import pytest
from lib import config
from lib.papers import read
from lib.poll import until
from lib.status import STATUS, ask
from prometheus_client.parser import text_string_to_metric_families

RULES = os.path.join(config.ROOT, "docs/monitoring/alerts.yml")
DASHBOARD = "docs/monitoring/dashboard.json"
NAMES = """
    requests_total request_duration_seconds queue_duration_seconds requests_in_flight threads
    rejected_total timeouts_total exceptions_total import_duration_seconds import_failures_total
    handed_over_total worker_resident_memory_bytes worker_start_time_seconds worker_info
    worker_replacements_total checks_total app_loaded_workers websockets websocket_threads
""".split()


@pytest.fixture(scope="module")
def page(shared_nginx):
    server = STATUS + r"""
        location /odd { wsgi_app 'factory:make("\\\\ ")'; wsgi_check off; }
    """
    site = shared_nginx(main="thread_pool 'a b' threads=2;", server=server, apps=["plain"],
                        http="wsgi_check off; wsgi_thread_pool 'a b';", workers=2)
    until(lambda: ask(site, "/metrics").body.count(b"worker_info{") == 2, 10, "both workers")
    for _ in range(3):
        assert site.get("/plain").status == 200
    # A request is counted a little after its client has the response.
    counted = re.compile(r'request_duration_seconds_count\{app="plain:application"[^}]*\} 3')
    return until(lambda: counted.search(page := ask(site, "/metrics").body.decode()) and page)


def promtool(*arguments, given=None):
    return subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True,
                          timeout=60)


def test_promtool_finds_nothing_to_complain_of(page):
    done = promtool("check", "metrics", given=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_parser_of_prometheus_client_reads_all(page):
    families = {family.name: family for family in text_string_to_metric_families(page)}
    found = {name.removeprefix("nginx_wsgi_") for name in families}
    # The parser takes the suffix of a counter for no part of its name.
    assert {re.sub("_total$", "", name) for name in NAMES} == found
    apps = {sample.labels["app"] for sample in families["nginx_wsgi_requests"].samples}
    assert "plain:application" in apps and "factory:make('\\\\ ')" in apps
    buckets = [sample for sample in families["nginx_wsgi_request_duration_seconds"].samples
               if sample.name.endswith("_bucket") and sample.labels["app"] == "plain:application"]
    assert [sample.labels["le"] for sample in buckets] == [
        "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5",
        "7.5", "10", "+Inf",
    ]
    values = [sample.value for sample in buckets]
    assert values == sorted(values) and values[-1] >= 3


def test_promtool_accepts_the_rules():
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d+ rules found", done.stdout)


def metrics_of(text):
    return set(re.findall(r"nginx_wsgi_(\w+?)(?:_bucket|_sum|_count)?\b", text))


def test_rules_and_dashboard_ask_for_what_is_there():
    with open(RULES) as file:
        asked = metrics_of(file.read())
    panels = json.loads(read(DASHBOARD))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 5
    asked |= metrics_of("\n".join(expressions))
    assert asked - set(NAMES) == set()


def test_the_dashboard_can_be_asked_of_prometheus(tmp_path):
    """Its expressions are those of rules, so promtool reads them."""
    panels = json.loads(read(DASHBOARD))["panels"]
    expressions = [target["expr"].replace("$__rate_interval", "5m")
                   for panel in panels for target in panel["targets"]]
    rules = [{"record": f"a:{n}", "expr": each} for n, each in enumerate(expressions)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
