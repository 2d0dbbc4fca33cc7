"""Medians over the rounds, and the tables that show them."""

from collections import Counter
from statistics import median

KEYS = ("requests_per_second", "cpu_us", "switches", "loop_us", "loop_switches", "p50_ms", "p99_ms",
        "pss_mib")
# The case hand-over: how many requests are on their way at a time.
IN_FLIGHT = (1, 16)


def summary(rounds):
    """One server's figures in one case."""
    errors = Counter()
    for found in rounds:
        errors.update(found["errors"])
    row = {"rounds": rounds, "requests": sum(found["requests"] for found in rounds),
           "errors": dict(errors)}
    for key in KEYS:
        values = [found[key] for found in rounds if found.get(key) is not None]
        row[key] = median(values) if values else None
    return row


def add_limit(rows):
    """The least that any server can take: nginx alone, and the call of the application."""
    used = [rows.get(name, {}).get("cpu_us") for name in ("floor", "bare")]
    if all(used):
        others = {name: rows.pop(name) for name in list(rows) if name not in ("floor", "bare")}
        rows["limit"] = {**dict.fromkeys(KEYS), "cpu_us": sum(used), "errors": {}}
        rows.update(others)


def add_ratios(rows):
    """CPU of each row against that of nginx alone, of the module, and the least."""
    add_limit(rows)
    for base in ("floor", "module", "limit"):
        found = rows.get(base, {}).get("cpu_us")
        for row in rows.values():
            used = row.get("cpu_us")
            row[f"to_{base}"] = used / found if used and found else None


def number(value):
    """Three digits that count."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def error_text(row):
    if not row["errors"]:
        return "0"
    return ", ".join(f"{count} {kind}" for kind, count in sorted(row["errors"].items()))


COLUMNS = (
    ("requests/s", "requests_per_second"), ("CPU us", "cpu_us"), ("x floor", "to_floor"),
    ("x module", "to_module"), ("x limit", "to_limit"), ("switches", "switches"),
    ("loop us", "loop_us"), ("loop sw.", "loop_switches"),
    ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), ("PSS MiB", "pss_mib"),
)


def text_table(rows):
    """The rows of one case for the terminal."""
    lines = [f"{'':<14}" + "".join(f"{title:>11}" for title, _ in COLUMNS) + "  errors"]
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"{name:<14}  left out: {row['failed'].splitlines()[0]}")
            continue
        cells = "".join(f"{number(row[key]):>11}" for _, key in COLUMNS)
        lines.append(f"{name:<14}{cells}  {error_text(row)}")
    return "\n".join(lines)


def show(result):
    """All tables of a run for the terminal."""
    parts = []
    for name, case in result["cases"].items():
        parts.append(f"{name}: {case['title']}")
        if name in LINES:
            parts += [LINES[name](*item) for item in case["servers"].items()]
        else:
            parts.append(text_table(case["servers"]))
        if name in NOTES:
            parts += NOTES[name](result, case["servers"])
        parts.append("")
    parts.append("CPU us: microseconds of CPU a request, user and system, of all processes of the"
                 " server,\nnginx in front included; x floor, x module, x limit: the same as a"
                 " ratio; limit: floor and\nbare together; switches: voluntary ones a request;"
                 " loop: what of these is that of nginx's\nevent loops.")
    parts += left_out(result)
    return "\n".join(parts)


def idle_line(name, row):
    if "failed" in row:
        return f"{name:<14}  left out: {row['failed']}"
    return (f"{name:<14}{row['bytes_per_connection']:>8.0f} bytes for each of {row['connections']}"
            f" connections ({row['before_mib']:.1f} -> {row['after_mib']:.1f} MiB PSS)")


def stall_line(name, row):
    if "failed" in row:
        return f"{name:<14}  left out: {row['failed']}"
    return (f"{name:<14}slowest request {row['slowest_ms']:.0f} ms, before the reload"
            f" {row['slowest_before_ms']:.0f} ms; {row['requests']} requests,"
            f" errors: {error_text(row)}")


def websocket_line(name, row):
    if "failed" in row:
        return f"{name:<14}  left out: {row['failed']}"
    speed, cpu = (median(found[key] for found in row["rounds"])
                  for key in ("per_second", "cpu_us"))
    return f"{name:<14}{speed:>8.0f} messages/s, {cpu:.1f} us CPU a message"


def websocket_idle_line(name, row):
    if "failed" in row:
        return f"{name:<14}  left out: {row['failed']}"
    return (f"{name:<14}{row['bytes_per_socket']:>8.0f} bytes for each of {row['sockets']}"
            f" WebSockets ({row['before_mib']:.1f} -> {row['after_mib']:.1f} MiB PSS),"
            f" {row['cpu_ms']:.0f} ms CPU in {row['seconds']} s")


# Cases that have a line for each server instead of a table.
LINES = {"idle": idle_line, "reload-stall": stall_line, "websocket": websocket_line,
         "websocket-idle": websocket_idle_line}


def threads_note(result, rows):
    speeds = [rows.get(name, {}).get("requests_per_second") for name in ("module", "module-1")]
    if not all(speeds):
        return ["no ratio"]
    return [f"{result['threads']} threads answer {speeds[0] / speeds[1]:.2f} times the requests"
            " of one thread"]


def starts_note(result, rows):
    """Each start, for those whose median says little, and the module against uWSGI."""
    lines = []
    for name, row in rows.items():
        if "failed" in row:
            continue
        speeds = [found["requests_per_second"] for found in row["rounds"]]
        lines.append(f"{name}: {', '.join(f'{speed:.0f}' for speed in speeds)} requests/s,"
                     f" median {row['requests_per_second']:.0f}")
    base = rows.get("uwsgi", {}).get("requests_per_second")
    for name, row in rows.items():
        if base and name != "uwsgi" and row.get("requests_per_second"):
            lines.append(f"{name} answers {row['requests_per_second'] / base:.2f} times the"
                         " requests of uwsgi")
    return lines


def hand_over_note(result, rows):
    """What it costs, for as many requests as it was done with."""
    lines = []
    for count in IN_FLIGHT:
        own, other = (rows.get(f"{name} {count}", {}) for name in ("module", "module-forced"))
        if not own.get("cpu_us") or not other.get("cpu_us"):
            lines.append(f"{count} in flight: no difference")
            continue
        shares = [row["handed_over"] or 0 for row in (own, other)]
        line = (f"{count} in flight: {own['cpu_us']:.1f} -> {other['cpu_us']:.1f} us CPU with"
                f" {100 * shares[0]:.0f} -> {100 * shares[1]:.0f} % handed over")
        if shares[1] - shares[0] > 0.2:
            cost = (other["cpu_us"] - own["cpu_us"]) / (shares[1] - shares[0])
            line += f": {cost:+.1f} us for a request that is"
        lines.append(line)
    return lines


# What is said below the table of a case. It takes the place of the table in Markdown.
NOTES = {"threads": threads_note, "skew": starts_note, "h2-one": starts_note,
         "hand-over": hand_over_note}


def left_out(result):
    return [f"left out: {name}: {why}" for name, why in result["left_out"].items()]


# ------- Markdown


def markdown(result):
    """Tables with a row for each server and a column for each case; errors below, if any."""
    cases = {name: case["servers"] for name, case in result["cases"].items()
             if name not in (*LINES, *NOTES)}
    servers = list(dict.fromkeys(server for rows in cases.values() for server in rows))
    parts = []
    for title, key in (("CPU us/request", "cpu_us"), ("CPU/limit", "to_limit"),
                       ("switches/request", "switches"), ("event loop, CPU us/request", "loop_us"),
                       ("event loop, switches/request", "loop_switches"),
                       ("requests/s", "requests_per_second"), ("p50 ms", "p50_ms"),
                       ("p99 ms", "p99_ms")):
        if any(row.get(key) is not None for rows in cases.values() for row in rows.values()):
            parts += [markdown_table(title, key, cases, servers), ""]
    for name in (*NOTES, *LINES):
        if name in result["cases"]:
            rows = result["cases"][name]["servers"]
            lines = (NOTES[name](result, rows) if name in NOTES
                     else [LINES[name](*item) for item in rows.items()])
            parts += [f"- {name}: {line}" for line in lines] + [""]
    wrong = [f"- {name}, {server}: errors: {error_text(row)}" for name, rows in cases.items()
             for server, row in rows.items() if row.get("errors")]
    notes = wrong + [f"- {line}" for line in left_out(result)]
    parts += [*notes, ""] if notes else []
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    delay = f" that wait for {result['delay']} ms before a request" if result.get("delay") else ""
    parts.append(
        f"{result['processes']} processes, {result['threads']} threads each,"
        f" {result['connections']} connections{delay}; rounds of {result['seconds']} s, median of"
        f" {result['rounds']}, on {result['cpus']} CPUs; {versions}."
    )
    return "\n".join(parts)


def markdown_table(title, key, cases, servers):
    lines = ["| " + " | ".join([title, *cases]) + " |", "|---" + "|--:" * len(cases) + "|"]
    for server in servers:
        if all(rows.get(server, {}).get(key) is None and "failed" not in rows.get(server, {})
               for rows in cases.values()):
            continue
        cells = []
        for rows in cases.values():
            row = rows.get(server, {})
            mark = "*" if row.get("errors") else ""
            cells.append("failed" if "failed" in row else number(row.get(key)) + mark)
        lines.append("| " + " | ".join([server, *cells]) + " |")
    return "\n".join(lines)
