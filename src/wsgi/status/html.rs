//! The status as a page that a person can read, on a phone too: what is wrong comes first.
//!
//! It needs no script and loads nothing. Every text from outside goes through [`escaped`].
//! Runs on: event loop.

use std::fmt::{self, Write};

use super::counters::{Cause, Rejected, Timeout};
use super::findings::{Weight, all_is_well, findings};
use super::records::{Phase, State};
use super::snapshot::{Request, Series, Snapshot, Stacks, Worker};
use super::stack::Frame;
use super::visible::{size, time, visible};

/// Seconds until the page asks for itself again.
const REFRESH: u32 = 5;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#ccd;--dim:#667;--bad:#b00020;--odd:#8a5a00;--good:#1a6e36;\
--card:#f5f6fa}
@media(prefers-color-scheme:dark){:root{--line:#3a3f4b;--dim:#9aa3b2;--bad:#ff8a8a;--odd:#ffc66b;\
--good:#7ddc9a;--card:#1d2129}body{background:#13161b;color:#e4e7ec}}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1400px;padding:12px}
h1{font-size:17px;margin:4px 0 8px}h2{font-size:15px;margin:22px 0 6px}
.found{list-style:none;margin:0;padding:0;font-size:17px}
.found li{border-left:5px solid;margin:0 0 8px;padding:6px 10px;background:var(--card);\
overflow-wrap:anywhere}
.bad{border-color:var(--bad)!important;color:var(--bad)}
.odd{border-color:var(--odd)!important;color:var(--odd)}
.good{border-color:var(--good)!important;color:var(--good)}
p,.dim{color:var(--dim)}p{margin:4px 0}a{color:inherit}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-weight:600;color:var(--dim);white-space:nowrap}
th,td{border-bottom:1px solid var(--line);padding:4px 10px 4px 0;vertical-align:top;\
max-width:24em;overflow-wrap:break-word}td.w{max-width:none;overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
pre{margin:4px 0;font:12.5px/1.4 ui-monospace,monospace;white-space:pre-wrap;\
overflow-wrap:anywhere}
pre b{color:var(--bad)}
@media(max-width:760px){thead{display:none}table,tbody,tr,td{display:block}\
tr{background:var(--card);border-left:3px solid var(--line);margin:0 0 8px;padding:4px 10px}\
td{border:0;padding:1px 0;display:flex;justify-content:space-between;gap:12px;text-align:right}\
td:before{content:attr(data-l);color:var(--dim);flex:none;text-align:left}\
td.w{display:block;text-align:left}td.w:before{content:none}}
";

/// The whole page.
pub fn status(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut out, snapshot);
    out
}

/// Text that is nothing but text, in an element and in an attribute.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn write_all(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let found = findings(snapshot);
    let title = match found.first() {
        None => String::from("well"),
        Some(first) if first.weight == Weight::Bad => String::from("trouble"),
        Some(_) => String::from("look"),
    };
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\
         <title>wsgi: {title}</title><style>{STYLE}</style></head><body>\n\
         <ul class=\"found\">\n"
    )?;
    if found.is_empty() {
        writeln!(out, "<li class=\"good\">{}</li>", escaped(&all_is_well(snapshot)))?;
    }
    for finding in &found {
        let class = if finding.weight == Weight::Bad { "bad" } else { "odd" };
        writeln!(out, "<li class=\"{class}\">{}</li>", escaped(&finding.text))?;
    }
    writeln!(out, "</ul>")?;
    write_requests(out, snapshot)?;
    write_workers(out, snapshot)?;
    write_apps(out, snapshot)?;
    write_series(out, snapshot)?;
    write_rest(out, snapshot)?;
    writeln!(out, "</body></html>")
}

/// The head of a table.
fn table(out: &mut String, columns: &[&str]) -> fmt::Result {
    write!(out, "<table><thead><tr>")?;
    for column in columns {
        let class = if column.starts_with('#') { " class=\"n\"" } else { "" };
        write!(out, "<th{class}>{}</th>", column.trim_start_matches('#'))?;
    }
    writeln!(out, "</tr></thead><tbody>")
}

/// A cell. `label` is ours, `text` anybody's.
fn cell(out: &mut String, label: &str, text: &str) -> fmt::Result {
    write!(out, "<td data-l=\"{label}\">{}</td>", escaped(text))
}

fn number(out: &mut String, label: &str, text: impl fmt::Display) -> fmt::Result {
    write!(out, "<td class=\"n\" data-l=\"{label}\">{}</td>", escaped(&text.to_string()))
}

fn write_requests(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let hidden: u64 = snapshot.workers.iter().map(|worker| worker.hidden).sum();
    let all = snapshot.requests.len() as u64 + hidden;
    write!(out, "<h2>Requests in flight: {all}</h2>")?;
    if snapshot.offers_stacks && !snapshot.has_stacks {
        write!(out, "<p><a href=\"?stacks\">with the Python stacks</a></p>")?;
    }
    if snapshot.requests.is_empty() {
        return Ok(());
    }
    let columns = ["#age", "state", "request", "client", "#queue", "app", "thread", "#sent"];
    table(out, &columns)?;
    for request in &snapshot.requests {
        write_request(out, snapshot, request)?;
    }
    writeln!(out, "</tbody></table>")?;
    if hidden > 0 {
        writeln!(out, "<p>and {hidden} more</p>")?;
    }
    Ok(())
}

fn write_request(out: &mut String, snapshot: &Snapshot, request: &Request) -> fmt::Result {
    let row = &request.row;
    let class = match request.phase() {
        Phase::Stuck => " class=\"bad\"",
        Phase::Left | Phase::Waiting => " class=\"odd\"",
        _ => "",
    };
    write!(out, "<tr{class}>")?;
    number(out, "age", time(request.age))?;
    cell(out, "state", request.phase().name())?;
    let line = escaped(&request.line());
    write!(out, "<td class=\"w\">{line} <span class=\"dim\">{}</span>", escaped(&row.host))?;
    write_stack(out, &request.stack)?;
    write!(out, "</td>")?;
    cell(out, "client", &row.client)?;
    number(out, "queue", time(request.waited))?;
    cell(out, "app", snapshot.app(row.app))?;
    let pool = snapshot.pool(row.pool);
    let there = if row.there > 0 { format!(", in {}", row.there) } else { String::new() };
    let thread = if request.phase() == Phase::Queued {
        format!("{pool}, worker {}", request.slot)
    } else {
        format!("{pool}:{}, worker {} ({}){there}", row.thread, request.slot, request.pid)
    };
    cell(out, "thread", &thread)?;
    number(out, "sent", size(row.sent))?;
    writeln!(out, "</tr>")
}

fn write_stack(out: &mut String, stack: &[Frame]) -> fmt::Result {
    if stack.is_empty() {
        return Ok(());
    }
    write!(out, "<pre>")?;
    for (n, Frame { file, line, function, source }) in stack.iter().enumerate() {
        let (open, close) = if n + 1 == stack.len() { ("<b>", "</b>") } else { ("", "") };
        let (file, function) = (escaped(file), escaped(function));
        write!(out, "{open}{file}:{line} in {function}{close}")?;
        if !source.is_empty() {
            write!(out, "\n    {}", escaped(source))?;
        }
        writeln!(out)?;
    }
    write!(out, "</pre>")
}

fn write_workers(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let (there, wanted) = (snapshot.workers.len(), snapshot.wanted);
    write!(out, "<h2>Workers: {there} of {wanted}</h2>")?;
    let columns = [
        "worker",
        "#pid",
        "#generation",
        "#up for",
        "#resident",
        "#requests",
        "#handed over",
        "#taken over",
        "pool: busy / threads, stuck, waiting, room",
    ];
    table(out, &columns)?;
    for worker in &snapshot.workers {
        write_worker(out, snapshot, worker)?;
    }
    writeln!(out, "</tbody></table>")?;
    if snapshot.earlier > 0 {
        writeln!(out, "<p>and {} of earlier configurations</p>", snapshot.earlier)?;
    }
    Ok(())
}

fn write_worker(out: &mut String, snapshot: &Snapshot, worker: &Worker) -> fmt::Result {
    write!(out, "<tr>")?;
    cell(out, "worker", &worker.slot.to_string())?;
    number(out, "pid", worker.pid)?;
    number(out, "generation", worker.generation)?;
    number(out, "up for", time(worker.age))?;
    number(out, "resident", worker.resident.map_or_else(|| "?".to_owned(), size))?;
    number(out, "requests", worker.requests)?;
    number(out, "handed over", worker.handed_over)?;
    number(out, "taken over", worker.guests)?;
    write!(out, "<td class=\"w\">")?;
    for (index, pool) in worker.pools.iter().enumerate() {
        let name = escaped(snapshot.pool(index as u64));
        let class = match (pool.stuck > 0, pool.busy >= pool.threads && pool.waiting > 0) {
            (true, _) => "bad",
            (_, true) => "odd",
            _ => "",
        };
        write!(
            out,
            "<div class=\"{class}\">{name}: {} / {}, {} stuck, {} waiting, {} room</div>",
            pool.busy, pool.threads, pool.stuck, pool.waiting, pool.room
        )?;
    }
    if worker.own_threads > 0 {
        let (busy, threads) = (worker.own_busy, worker.own_threads);
        write!(out, "<div>websockets: {busy} / {threads}</div>")?;
    }
    match &worker.stacks {
        Stacks::Unasked | Stacks::Shown => (),
        Stacks::Silent => write!(out, "<div class=\"bad\">stacks: does not answer</div>")?,
        Stacks::Unreachable => {
            write!(out, "<div class=\"dim\">stacks: cannot be asked, wsgi_balance is off</div>")?;
        }
        Stacks::Held(threads) => {
            write!(out, "<div class=\"bad\">the GIL is held; all threads:</div>")?;
            for thread in threads {
                write_stack(out, thread)?;
            }
        }
    }
    writeln!(out, "</td></tr>")
}

fn write_apps(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    if snapshot.apps.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>Applications</h2>")?;
    table(out, &["application", "#loaded in", "#import took", "last error"])?;
    for (index, name) in snapshot.apps.iter().enumerate() {
        let states = || snapshot.app_of_all(index).map(|(_, app)| app);
        let loaded = states().filter(|app| app.state == State::Loaded).count();
        let took = states().map(|app| app.took).max().unwrap_or_default();
        let error = states().map(|app| app.error.as_str()).find(|error| !error.is_empty());
        let class = match (loaded, error) {
            (0, Some(_)) => " class=\"bad\"",
            (_, Some(_)) => " class=\"odd\"",
            _ => "",
        };
        write!(out, "<tr{class}>")?;
        cell(out, "application", name)?;
        number(out, "loaded in", format!("{loaded} of {}", states().count()))?;
        number(out, "import took", time(took))?;
        cell(out, "last error", error.unwrap_or("-"))?;
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table>")
}

fn write_series(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    if snapshot.series.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>Counted</h2>")?;
    let columns = [
        "application",
        "pool",
        "#requests",
        "#5xx",
        "#exceptions",
        "#mean",
        "#mean queue",
        "rejected",
        "timeouts",
    ];
    table(out, &columns)?;
    for Series { app, pool, totals } in &snapshot.series {
        write!(out, "<tr>")?;
        cell(out, "application", app)?;
        cell(out, "pool", pool)?;
        number(out, "requests", totals.requests())?;
        number(out, "5xx", totals.codes[4])?;
        number(out, "exceptions", totals.exceptions)?;
        let mean = |sum: u64, count: u64| time(sum / 1000 / count.max(1));
        number(out, "mean", mean(totals.duration.sum, totals.duration.count()))?;
        number(out, "mean queue", mean(totals.queued.sum, totals.queued.count()))?;
        cell(out, "rejected", &listed(&Rejected::NAMES, &totals.rejected))?;
        cell(out, "timeouts", &listed(&Timeout::NAMES, &totals.timeouts))?;
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table>")
}

/// What is not 0.
fn listed(names: &[&str], counts: &[u64]) -> String {
    let all = names.iter().zip(counts).filter(|(_, count)| **count > 0);
    let all: Vec<String> = all.map(|(name, count)| format!("{name} {count}")).collect();
    if all.is_empty() { String::from("-") } else { all.join(", ") }
}

fn write_rest(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let replaced = listed(&Cause::NAMES, &snapshot.replaced);
    write!(out, "<h2>Workers replaced</h2><p>{replaced}</p><h2>Checks</h2>")?;
    let [failed, good] = snapshot.checks;
    write!(out, "<p>good {good}, failed {failed}")?;
    if let Some(check) = &snapshot.check {
        let ago = time(snapshot.time.saturating_sub(check.at) * 1000);
        let said = if check.is_good { "good" } else { &check.said };
        write!(out, "; the last {ago} ago: {}", escaped(said))?;
    }
    writeln!(out, "</p><p>version {}</p>", escaped(snapshot.version))
}
