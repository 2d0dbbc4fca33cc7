"""Fixtures: nginx for one test, nginx for all tests of a file, the protocols."""

import os
import re

import pytest
from lib import checker, config, h2client, http
from lib.nginx import Nginx


def pytest_addoption(parser):
    parser.addoption("--alone", choices=["now", "later"],
                     help="only the tests that are marked alone, or only the others")


def pytest_collection_modifyitems(config, items):
    if config.option.alone:
        groups = {"now": [], "later": []}
        for item in items:
            groups["now" if item.get_closest_marker("alone") else "later"].append(item)
        items[:] = groups.pop(config.option.alone)
        (others,) = groups.values()
        config.hook.pytest_deselected(items=others)


def pytest_sessionstart(session):
    if not session.config.option.collectonly and not os.path.exists(config.MODULE):
        raise pytest.UsageError(f"{config.MODULE} is missing: scripts/build makes it")


def pytest_sessionfinish():
    config.remove_apps_copy()


# Those that run now, for the report of a failure.
_live = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure is reported with the ends of the error logs."""
    report = (yield).get_result()
    if report.failed:
        for nginx in _live:
            end = "\n".join(nginx.log.lines()[-60:])
            report.sections.append((f"error log {nginx.log.path}", end))


def _finish(started):
    faults = [fault for nginx in reversed(started) for fault in nginx.finish()]
    for nginx in started:
        _live.remove(nginx)
    if faults:
        pytest.fail("after the test:\n" + "\n".join(faults), pytrace=False)


@pytest.fixture
def make_nginx():
    """Nginx(...), or what kind is, not started, looked through and removed after the test."""
    made = []

    def make(*args, kind=Nginx, **options):
        made.append(kind(*args, **options))
        _live.append(made[-1])
        return made[-1]

    yield make
    _finish(made)


@pytest.fixture
def nginx(make_nginx):
    """Nginx(...).start() for one test."""
    return lambda **options: make_nginx(**options).start()


_shared = []


@pytest.fixture(scope="module")
def shared_nginx():
    """Nginx(...).start() for the tests of a file; each test is checked by no_alerts.

    prepare, if given, is called with the nginx before it is started.
    """

    def start(prepare=None, **options):
        _shared.append(Nginx(**options))
        _live.append(_shared[-1])
        if prepare:
            prepare(_shared[-1])
        return _shared[-1].start()

    yield start
    started = _shared[:]
    _shared.clear()
    _finish(started)


@pytest.fixture(autouse=True)
def no_alerts():
    """An alarming log line of a shared nginx fails the test that caused it."""
    # Each looks only at its own lines; those that come late are found when the file has ended.
    marks = {nginx: nginx.log.mark() for nginx in _shared}
    yield
    # Lines, events and calls that come after the answer are not left to the next test.
    for nginx in _shared:
        nginx.settle()
    alerts = [(nginx, line) for nginx in _shared for line in nginx.log.alerts(marks.get(nginx, 0))]
    for nginx, line in alerts:
        nginx.allow_alert("^" + re.escape(line) + "$")
    if alerts:
        lines = "\n".join(line for _, line in alerts)
        pytest.fail(f"in the error log:\n{lines}", pytrace=False)


@pytest.fixture(autouse=True)
def no_reports():
    """What a checker reports fails the test that caused it."""
    yield
    if reports := checker.reports():
        pytest.fail(f"the checker reports:\n{reports}", pytrace=False)


class Protocol:
    """The same request over HTTP/1.0, HTTP/1.1 (keep-alive) and HTTP/2."""

    def __init__(self, name):
        self.name = name

    def __call__(self, nginx, method, path, headers=(), body=b""):
        if self.name == "h2":
            return h2client.request(nginx.ports["PORT2"], method, path, headers, body)
        version = self.name.removeprefix("http/")
        return http.request(
            nginx.port, method, path, headers=headers, body=body, version=version, close=False
        )


@pytest.fixture(params=["http/1.0", "http/1.1", "h2"])
def proto(request):
    return Protocol(request.param)
