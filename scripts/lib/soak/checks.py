"""What is judged at the end, and the tables of what was seen."""

import re
from statistics import median

from soak import THREADS
from soak.watch import SAMPLE_EVERY

MIB = 1 << 20
# What may be added to the median between the first and the last quarter of a phase.
MASTER_GROWTH = 1 * MIB
WORKER_GROWTH = 4 * MIB


def growth(samples, key):
    """Median of the last quarter minus median of the first quarter, and both."""
    quarter = max(1, len(samples) // 4)
    first = median(sample[key] for sample in samples[:quarter])
    last = median(sample[key] for sample in samples[-quarter:])
    return last - first, first, last


def between(samples, begin, end):
    return [sample for sample in samples if begin <= sample["at"] <= end]


class Verdict:
    """Judgements, printed as they are made."""

    def __init__(self):
        self.rows = []

    def add(self, passed, text):
        self.rows.append({"passed": bool(passed), "text": text})
        print(f"{'ok    ' if passed else 'FAILED'}  {text}", flush=True)

    def flat(self, samples, key, allowed, name):
        if len(samples) < 4:
            self.add(True, f"{name}: too few samples to judge (a longer run shows it)")
            return
        added, first, last = growth(samples, key)
        self.add(added <= allowed,
                 f"{name}: {first / MIB:.1f} -> {last / MIB:.1f} MiB (allowed +{allowed / MIB:g})")


def judge_log(text, verdict, clean_exits, died=()):
    """died: workers that were killed on purpose."""
    if died:
        pids = "|".join(map(str, died))
        text = re.sub(rf"^.*(?:worker process (?:{pids}) exited on signal|locked by (?:{pids})\b)"
                      r".*\n", "", text, flags=re.M)
    bad = re.findall(r"^.*\[(?:alert|emerg|crit)\].*$", text, re.M)
    for line in bad[:10]:
        print(f"        {line}")
    verdict.add(not bad, f"{len(bad)} lines of [alert], [emerg] or [crit] in the error log")
    ended = re.findall(r"worker process \d+ exited (?:on signal \d+|with code [1-9]\d*)", text)
    verdict.add(not ended, f"{len(ended)} workers died")

    totals = re.findall(r"soak totals pid=(\d+) opened=(\d+) closed=(\d+) twice=(\d+)", text)
    opened = sum(int(total[1]) for total in totals)
    unclosed = sum(int(total[1]) - int(total[2]) for total in totals)
    twice = sum(int(total[3]) for total in totals)
    verdict.add(unclosed == 0 and twice == 0 and opened > 0,
                f"close(): {opened} iterables, {unclosed} not closed, {twice} closed twice")
    verdict.add(len(totals) == clean_exits,
                f"{len(totals)} of {clean_exits} workers ran their atexit functions")


def print_tables(load, watch, reloads):
    print(f"\n{'request':<16}{'count':>9}{'failed':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name, figures in load.figures.items():
        print(f"{name:<16}{figures.done:>9}{figures.failed:>8}{figures.quantile(0.5):>9.1f}"
              f"{figures.quantile(0.99):>9.1f}{figures.quantile(1):>9.1f}")
    print(f"{reloads} reloads; {load.retried()} requests were sent again because nginx closed"
          " the kept connection just then")

    print(f"\n{'process':<20}{'seconds':>12}{'RSS MiB':>18}{'PSS MiB':>18}{'fds':>12}"
          f"{'unix':>11}{'threads':>10}")

    def row(name, samples):
        first, last = samples[0], samples[-1]

        def span(key, unit=1):
            return f"{first[key] / unit:.1f} -> {last[key] / unit:.1f}"

        print(f"{name:<20}{first['at']:>5.0f} ->{last['at']:>5.0f}{span('rss', MIB):>18}"
              f"{span('pss', MIB):>18}{first['fds']:>6} ->{last['fds']:>4}"
              f"{first['links']:>5} ->{last['links']:>3}"
              f"{first['threads']:>5} ->{last['threads']:>3}")

    row("master", watch.master)
    workers = list(watch.workers.items())
    shown = workers if len(workers) <= 12 else workers[:6] + workers[-6:]
    for pid, samples in shown:
        row(f"worker {pid}", samples)
    if len(shown) < len(workers):
        print(f"... and {len(workers) - len(shown)} workers between")
    print()


def judge_memory(watch, verdict, quiet_from, end):
    warm = min(120, end * 0.1)
    verdict.flat(between(watch.master, warm, end), "rss", MASTER_GROWTH, "master, RSS")

    # Workers of the reloads: as old as they got, one after the other.
    ends = [samples[-1] for samples in watch.workers.values()
            if warm <= samples[-1]["at"] < quiet_from and len(samples) > 1]
    if ends:
        verdict.flat(ends, "rss", WORKER_GROWTH, "workers between reloads, RSS at their end")
    for pid, samples in watch.workers.items():
        if samples[-1]["at"] < end - 3 * SAMPLE_EVERY:
            continue
        settled = quiet_from + (end - quiet_from) / 4
        steady = between(samples, settled, end)
        verdict.flat(steady, "rss", WORKER_GROWTH, f"worker {pid} without reloads, RSS")
        if steady:
            most = max(sample["threads"] for sample in samples)
            verdict.add(most <= THREADS + 2, f"worker {pid}: at most {most} threads")
