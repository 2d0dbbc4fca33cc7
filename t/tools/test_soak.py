"""What scripts/soak --deaths lets pass: failures for which a worker died, and nothing else."""

import subprocess
import time

import pytest
from lib.poll import until

from common import proc
from soak import deaths
from soak.checks import Verdict, judge_log

RUNS = {"a": [11], "b": [12], "c": [11, 12]}
DIED = {11: 100.0}
LOG = ("[notice] 1#1: worker process 5 exited with code 0\n"
       "[alert] 1#1: worker process 11 exited on signal 9\n")


def request(began=99.0, ended=101.0, ids=("b",), workers=(12,)):
    return deaths.Request("small", began, ended, list(ids), list(workers))


@pytest.mark.parametrize("failed, right", [
    (request(), False),
    (request(workers=(11,)), True),
    (request(ids=("a",)), True),
    # Sent on a connection whose end was on its way.
    (request(began=100.5, workers=(11,)), True),
    (request(began=101.5, ended=102.0, workers=(11,)), False),
    (request(began=98.0, ended=99.5, workers=(11,)), False),
    # It was taken by somebody who has not come to the application.
    (request(ids=("b", "none")), True),
    (request(ids=("none",), began=90.0, ended=99.5), False),
    # A death is no reason to hang.
    (request(began=80.0, ended=110.0, workers=(11,)), False),
])
def test_a_failure_needs_a_death_of_its_own(failed, right):
    assert deaths.excused(failed, RUNS, DIED) is right


class Dying:
    died = DIED
    counts = {"SIGKILL": 1, "SIGSTOP": 1}


def judged(failures, answered, runs, dying=Dying):
    verdict = Verdict()
    deaths.judge(verdict, failures, answered, runs, dying)
    return [row["passed"] for row in verdict.rows]


@pytest.mark.parametrize("failures, answered, runs, passed", [
    ([request(ids=("a",))], ["a", "b"], {"a": [11], "b": [12]}, [True, True, True, True]),
    ([request()], ["a"], {"a": [11], "b": [12]}, [True, False, True, True]),
    ([], ["a"], RUNS, [True, True, False, True]),
    ([], ["d"], {"a": [11]}, [True, True, True, False]),
])
def test_each_judgement_can_fail(failures, answered, runs, passed):
    assert judged(failures, answered, runs) == passed


def test_runs_are_read_as_the_application_writes_them(tmp_path):
    (tmp_path / "ran").write_text("a 1\nb 2\na 3\n")
    assert deaths.ran(tmp_path / "ran") == {"a": [1, 3], "b": [2]}


@pytest.mark.parametrize("died, passed", [((), False), ((11,), True), ((1,), False)])
def test_only_a_worker_that_was_killed_may_have_died(died, passed):
    verdict = Verdict()
    judge_log(LOG, verdict, 0, died)
    assert [row["passed"] for row in verdict.rows[:2]] == [passed, passed]


@pytest.fixture
def server():
    """Stands for nginx: three processes that wait."""
    made = Processes()
    yield made
    for process in made.started:
        process.kill()
        process.wait()


class Processes:
    def __init__(self):
        self.started = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]

    def workers(self):
        return {process.pid: False for process in self.started if process.poll() is None}


@pytest.mark.parametrize("seed", range(5))
def test_one_is_always_left_and_all_that_were_stopped_go_on(server, seed):
    dying = deaths.Deaths(server, seed)

    def strike():
        dying.next = time.monotonic()
        dying.turn()
        workers = set(server.workers()) - set(dying.died)
        assert workers - set(dying.stopped)
        return len(workers) == 1 or len(dying.stopped) == 2

    until(strike)
    dying.end()
    assert not dying.stopped
    assert dying.died or dying.counts["SIGSTOP"]
    for process in server.started:
        if process.pid in dying.died:
            assert process.wait(10) < 0
        else:
            until(lambda pid=process.pid: proc.state(pid) != "T")
