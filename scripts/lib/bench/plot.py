"""Draws the CPU time of a request as bars: plot.py FIGURES.json PICTURE.svg|png

One panel a case; on each bar the microseconds and the ratio to the module. Runs in the
virtualenv, which has matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

COLOURS = dict.fromkeys(("floor", "bare", "limit"), "#9aa0a6") | {"module": "#0a7d4d"}
OTHERS = "#4a78b8"


def panel(axes, name, case):
    rows = {server: row for server, row in case["servers"].items() if row.get("cpu_us")}
    servers = list(rows)[::-1]
    values = [rows[server]["cpu_us"] for server in servers]
    bars = axes.barh(servers, values, color=[COLOURS.get(server, OTHERS) for server in servers])
    labels = []
    for server, value in zip(servers, values, strict=True):
        ratio = rows[server].get("to_module")
        known = f"  ({ratio:.2f})" if ratio and server != "module" else ""
        labels.append(f"{value:.0f}{known}" if value >= 100 else f"{value:.1f}{known}")
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_xlim(0, max(values, default=1) * 1.3)
    axes.set_title(f"{name}: {case['title']}", fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main(source, target):
    with open(source, encoding="utf-8") as file:
        result = json.load(file)
    cases = {name: case for name, case in result["cases"].items()
             if any(row.get("cpu_us") for row in case["servers"].values())}
    if not cases:
        sys.exit("plot: there is no CPU time to draw")
    columns = min(2, len(cases))
    lines = -(-len(cases) // columns)
    most = max(len(case["servers"]) for case in cases.values())
    figure, panels = pyplot.subplots(lines, columns, squeeze=False,
                                     figsize=(6.5 * columns, (0.9 + 0.27 * most) * lines + 0.5))
    for axes in panels.flat[len(cases):]:
        axes.remove()
    for axes, (name, case) in zip(panels.flat, cases.items(), strict=False):
        panel(axes, name, case)
    figure.suptitle("CPU microseconds a request (ratio to the module)", fontsize=12)
    figure.tight_layout()
    figure.savefig(target, dpi=110, metadata={"Date": None} if target.endswith("svg") else None)
    if target.endswith("svg"):
        # The lines of its paths end with a space.
        text = Path(target).read_text()
        Path(target).write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()))


main(*sys.argv[1:])
