"""scripts/bench measures and reports; how fast anything is, is no question here."""

import json
import os
import subprocess

import pytest
from lib import config

from bench import figures, load, nginx

pytestmark = pytest.mark.alone
BENCH = os.path.join(config.ROOT, "scripts/bench")


def bench(*options, **environ):
    environ = os.environ | {"NGINX": config.BINARY} | environ
    return subprocess.run([BENCH, *options], capture_output=True, text=True, env=environ,
                          timeout=55)


def test_a_short_run_has_figures_of_each_server(tmp_path):
    path = tmp_path / "figures.json"
    done = bench("--servers", "floor,module", "--cases", "hello", "--rounds", "1",
                 "--seconds", "1", "--json", path)
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    assert result["left_out"] == {}
    rows = result["cases"]["hello"]["servers"]
    assert list(rows) == ["floor", "module"]
    for row in rows.values():
        assert row["errors"] == {}
        assert len(row["rounds"]) == 1
        assert row["requests"] == row["rounds"][0]["requests"] > 0
        assert row["requests_per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["pss_mib"] > 0
        assert 0 < row["cpu_us"] < 1e6 / row["requests_per_second"] * os.cpu_count() * 1.5
    assert rows["floor"]["to_floor"] == rows["module"]["to_module"] == 1
    # The rest is that of the runners, or of the master, which sleeps.
    assert 0 < rows["module"]["loop_us"] < 0.95 * rows["module"]["cpu_us"]
    floor = rows["floor"]
    assert 0.95 * floor["cpu_us"] < floor["loop_us"] < 1.05 * floor["cpu_us"]
    assert "module" in done.stdout

    again = bench("--read", path, "--markdown")
    assert again.returncode == 0, again.stderr
    assert "| CPU us/request | hello |" in again.stdout
    assert again.stdout.count("\n| module | ") == 7


def test_the_limit_is_nginx_and_the_call_alone(tmp_path):
    path = tmp_path / "figures.json"
    done = bench("--servers", "bare,floor,module", "--cases", "echo", "--rounds", "1",
                 "--seconds", "1", "--json", path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["cases"]["echo"]["servers"]
    assert sorted(rows) == ["bare", "floor", "limit", "module"]
    assert rows["bare"]["requests"] > 0 and rows["bare"]["cpu_us"] > 0
    assert rows["limit"]["cpu_us"] == rows["floor"]["cpu_us"] + rows["bare"]["cpu_us"]
    assert rows["module"]["to_limit"] == rows["module"]["cpu_us"] / rows["limit"]["cpu_us"]
    assert rows["module"]["switches"] > 0 and rows["bare"]["switches"] is None

    again = bench("--read", path, "--markdown")
    assert "| CPU/limit | echo |" in again.stdout
    assert again.stdout.count("\n| limit | ") == 2


def test_what_a_hand_over_and_one_thread_take_can_be_measured_beside_it(tmp_path):
    path = tmp_path / "figures.json"
    names = ["floor-file", "floor-threads", "bjoern-libpython"]
    done = bench("--servers", ",".join(names), "--cases", "hello", "--rounds", "1", "--seconds",
                 "1", "--json", path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["cases"]["hello"]["servers"]
    assert list(rows) == names
    assert all(row["requests"] > 0 and row["errors"] == {} for row in rows.values())
    # Only one of them has threads at work beside its event loops.
    apart = {name: row["cpu_us"] - row["loop_us"] for name, row in rows.items() if row["loop_us"]}
    assert apart["floor-threads"] > 0.1 * rows["floor-threads"]["cpu_us"] > apart["floor-file"]
    assert rows["bjoern-libpython"]["loop_us"] is None


def test_connections_may_wait_before_each_request(tmp_path):
    path = tmp_path / "figures.json"
    done = bench("--servers", "floor,module-pinned", "--cases", "hello", "--rounds", "1",
                 "--seconds", "1", "--connections", "4", "--delay", "20", "--json", path,
                 "--markdown")
    assert done.returncode == 0, done.stderr
    for row in json.loads(path.read_text())["cases"]["hello"]["servers"].values():
        assert 0 < row["requests_per_second"] < 250
    assert "4 connections that wait for 20 ms before a request;" in done.stdout


def test_cases_with_fresh_starts_have_a_figure_of_each(tmp_path):
    path = tmp_path / "figures.json"
    done = bench("--servers", "module", "--cases", "skew,h2-one", "--starts", "2", "--seconds", "1",
                 "--json", path)
    assert done.returncode == 0, done.stderr
    for name in ("skew", "h2-one"):
        row = json.loads(path.read_text())["cases"][name]["servers"]["module"]
        assert row["errors"] == {}
        assert len(row["rounds"]) == 2
        # 16 threads that wait for 20 ms do no more.
        assert 0 < row["requests_per_second"] < 820
        assert 20 <= row["p50_ms"] <= row["p99_ms"]
        assert done.stderr.count(f"{name}: starting module") == 2
    assert done.stdout.count("\nmodule: ") == 2


def test_starts_are_compared_with_uwsgi():
    rows = {name: {"rounds": [{"requests_per_second": speed} for speed in speeds],
                   "requests_per_second": speeds[0]}
            for name, speeds in (("module", [600, 700]), ("uwsgi", [800, 750]))}
    assert figures.starts_note({}, rows | {"module-off": {"failed": "no such directive"}}) == [
        "module: 600, 700 requests/s, median 600", "uwsgi: 800, 750 requests/s, median 800",
        "module answers 0.75 times the requests of uwsgi",
    ]


def test_a_hand_over_is_measured_with_one_and_with_many_in_flight(tmp_path):
    path = tmp_path / "figures.json"
    done = bench("--cases", "hand-over", "--rounds", "1", "--seconds", "1", "--json", path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["cases"]["hand-over"]["servers"]
    assert list(rows) == ["module 1", "module-forced 1", "module 16", "module-forced 16"]
    for row in rows.values():
        assert row["errors"] == {}
        assert row["cpu_us"] > 0
    for count in (1, 16):
        # Not all of them: a worker that the system lets wait for a processor has no room.
        own = rows[f"module {count}"]["handed_over"]
        assert 0 <= own < rows[f"module-forced {count}"]["handed_over"] <= 1
    assert "16 in flight: " in done.stdout


def test_a_hand_over_is_a_figure_for_those_that_were_handed_over():
    rows = {f"{name} {count}": {"cpu_us": cpu, "handed_over": share}
            for name, cpu, share in (("module", 20, 0), ("module-forced", 70, 1))
            for count in (1, 16)}
    rows["module-forced 16"] |= {"cpu_us": 40, "handed_over": 0.5}
    assert figures.hand_over_note({}, rows) == [
        "1 in flight: 20.0 -> 70.0 us CPU with 0 -> 100 % handed over: +50.0 us for a request"
        " that is",
        "16 in flight: 20.0 -> 40.0 us CPU with 0 -> 50 % handed over: +40.0 us for a request"
        " that is",
    ]
    rows["module-forced 16"]["handed_over"] = None
    assert figures.hand_over_note({}, rows)[1].endswith("with 0 -> 0 % handed over")


def test_websockets_have_a_line_for_each_server():
    rounds = [{"per_second": speed, "cpu_us": cpu} for speed, cpu in ((9, 1), (700, 2), (800, 30))]
    assert figures.websocket_line("module-sock", {"rounds": rounds}) == (
        "module-sock        700 messages/s, 2.0 us CPU a message")
    row = {"bytes_per_socket": 4096, "sockets": 256, "before_mib": 1, "after_mib": 2,
           "cpu_ms": 3, "seconds": 10}
    assert figures.websocket_idle_line("module-frames", row) == (
        "module-frames     4096 bytes for each of 256 WebSockets (1.0 -> 2.0 MiB PSS),"
        " 3 ms CPU in 10 s")
    for line in (figures.websocket_line, figures.websocket_idle_line):
        assert line("uwsgi", {"failed": "why"}).endswith("left out: why")


def test_an_http2_load_that_fails_says_why(tmp_path):
    class Nobody:
        h2_port = config.free_port()

    class Case:
        name, path, post = "nobody", "/", b""

    with pytest.raises(load.Wrong, match="no answer was good"):
        load.H2Load(tmp_path, Case, 1).run(Nobody, 1)


def test_sockets_of_each_worker_are_a_choice():
    assert b"reuseport" in bytes(nginx.Config(1, h2_port=2))
    shared = bytes(nginx.Config(1, h2_port=2, reuseport=False))
    assert b"reuseport" not in shared
    assert b"listen 127.0.0.1:2 http2 " in shared


def test_a_server_that_does_not_start_is_named():
    done = bench("--servers", "floor", "--cases", "hello", "--rounds", "1", NGINX="/bin/false")
    assert done.returncode == 1
    assert "left out: has ended with status 1" in done.stdout


def test_unknown_names_are_refused():
    for option, known in (("--servers", "floor"), ("--cases", "hello")):
        done = bench(option, "other")
        assert done.returncode == 2
        assert f"other is none of {known}" in done.stderr
