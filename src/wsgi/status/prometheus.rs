//! The status in Prometheus' text format, version 0.0.4.
//!
//! A worker is named by its slot, not by its pid, so that no series goes stale when it is replaced.
//! Runs on: event loop.

use std::fmt::{self, Write};

use super::counters::{BOUNDS, Cause, Observed, Rejected, Timeout, Totals};
use super::records::{OWN_THREAD, Phase, State};
use super::snapshot::{Series, Snapshot, Worker};
use super::visible::visible;

/// A family of metrics that is being written.
struct Family<'a> {
    out: &'a mut String,
    name: &'a str,
}

impl<'a> Family<'a> {
    fn new(out: &'a mut String, name: &'a str, kind: &str, help: &str) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP nginx_wsgi_{name} {help}\n# TYPE nginx_wsgi_{name} {kind}");
        Self { out, name }
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let _ = write!(self.out, "nginx_wsgi_{}{suffix}", self.name);
        for (n, (name, text)) in labels.iter().enumerate() {
            let begin = if n == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{begin}{name}=\"{}\"", escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{end} {value}");
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    visible(&text.replace('\n', "\u{1}")).replace('\\', "\\\\").replace('"', "\\\"")
}

/// All metrics.
pub fn status(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    requests(&mut out, snapshot);
    failures(&mut out, snapshot);
    in_flight(&mut out, snapshot);
    workers(&mut out, snapshot);
    let mut family = Family::new(
        &mut out,
        "worker_replacements_total",
        "counter",
        "Workers that others have replaced.",
    );
    for (reason, count) in Cause::NAMES.iter().zip(snapshot.replaced) {
        family.sample("", &[("reason", reason)], count);
    }
    let mut family =
        Family::new(&mut out, "checks_total", "counter", "Trials of new configurations.");
    for (result, count) in ["failed", "good"].iter().zip(snapshot.checks) {
        family.sample("", &[("result", result)], count);
    }
    out
}

fn requests(out: &mut String, snapshot: &Snapshot) {
    const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let help = "Requests that have ended.";
    let mut family = Family::new(out, "requests_total", "counter", help);
    for Series { app, pool, totals } in &snapshot.series {
        for (code, count) in CODES.iter().zip(totals.codes) {
            family.sample("", &[("app", app), ("pool", pool), ("code", code)], count);
        }
    }
    let help = "From when a request is queued to its end.";
    histogram(out, snapshot, "request_duration_seconds", help, |totals| totals.duration);
    let help = "From when a request is queued until a thread takes it.";
    histogram(out, snapshot, "queue_duration_seconds", help, |totals| totals.queued);
}

fn histogram(
    out: &mut String,
    snapshot: &Snapshot,
    name: &str,
    help: &str,
    of: impl Fn(&Totals) -> Observed,
) {
    let mut family = Family::new(out, name, "histogram", help);
    for Series { app, pool, totals } in &snapshot.series {
        let observed = of(totals);
        let mut below = 0;
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound, 1000));
        let bounds = bounds.chain([String::from("+Inf")]);
        for (bound, count) in bounds.zip(observed.buckets) {
            below += count;
            family.sample("_bucket", &[("app", app), ("pool", pool), ("le", &bound)], below);
        }
        let labels = [("app", app.as_str()), ("pool", pool.as_str())];
        family.sample("_sum", &labels, seconds(observed.sum, 1_000_000));
        family.sample("_count", &labels, observed.count());
    }
}

fn seconds(number: u64, of: u64) -> String {
    let rest = format!("{:09}", number % of * (1_000_000_000 / of));
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { format!("{}", number / of) } else { format!("{}.{rest}", number / of) }
}

/// The sum of a number over the series of each application, or of each pool.
fn sums<'a>(
    snapshot: &'a Snapshot,
    key: impl Fn(&'a Series) -> &'a str,
    of: impl Fn(&Totals) -> u64,
) -> Vec<(&'a str, u64)> {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for series in &snapshot.series {
        let (key, number) = (key(series), of(&series.totals));
        match sums.iter_mut().find(|(known, _)| *known == key) {
            Some((_, sum)) => *sum += number,
            None => sums.push((key, number)),
        }
    }
    sums
}

fn app(series: &Series) -> &str {
    &series.app
}

fn pool(series: &Series) -> &str {
    &series.pool
}

fn failures(out: &mut String, snapshot: &Snapshot) {
    let help = "Requests that have not come to their application.";
    let mut family = Family::new(out, "rejected_total", "counter", help);
    for (n, reason) in Rejected::NAMES.iter().enumerate() {
        for (pool, count) in sums(snapshot, pool, |totals| totals.rejected[n]) {
            family.sample("", &[("pool", pool), ("reason", reason)], count);
        }
    }
    let help = "Requests that were not waited for any longer.";
    let mut family = Family::new(out, "timeouts_total", "counter", help);
    for (n, kind) in Timeout::NAMES.iter().enumerate() {
        let count: u64 = snapshot.series.iter().map(|series| series.totals.timeouts[n]).sum();
        family.sample("", &[("kind", kind)], count);
    }
    let help = "Requests whose application has raised an exception.";
    let mut family = Family::new(out, "exceptions_total", "counter", help);
    for (app, count) in sums(snapshot, app, |totals| totals.exceptions) {
        family.sample("", &[("app", app)], count);
    }
    let measured = sums(snapshot, app, |totals| totals.cpu).into_iter().filter(|(_, cpu)| *cpu > 0);
    let mut measured = measured.peekable();
    if measured.peek().is_some() {
        let help = "Processor time of threads in the application.";
        let mut family = Family::new(out, "cpu_seconds_total", "counter", help);
        for (app, cpu) in measured {
            family.sample("", &[("app", app)], seconds(cpu, 1_000_000));
        }
    }
    let help = "Imports that have failed.";
    let mut family = Family::new(out, "import_failures_total", "counter", help);
    for (app, count) in sums(snapshot, app, |totals| totals.import_failures) {
        family.sample("", &[("app", app)], count);
    }
    let help = "Requests that another worker than that of the client has run.";
    let mut family = Family::new(out, "handed_over_total", "counter", help);
    for (pool, count) in sums(snapshot, pool, |totals| totals.handed_over) {
        family.sample("", &[("pool", pool)], count);
    }
}

fn in_flight(out: &mut String, snapshot: &Snapshot) {
    let mut family =
        Family::new(out, "requests_in_flight", "gauge", "Requests that have not ended.");
    for (index, pool) in snapshot.pools.iter().enumerate() {
        for (number, app) in snapshot.apps.iter().enumerate() {
            let of = |phase| {
                let mut all = snapshot.requests.iter().map(|request| &request.row).peekable();
                all.by_ref()
                    .filter(|row| (row.pool, row.app) == (index as u64, number as u64))
                    .filter(|row| row.phase == phase)
                    .count()
            };
            for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Websocket) {
                let state = phase.label();
                family.sample("", &[("app", app), ("pool", pool), ("state", state)], of(phase));
            }
        }
    }
    let mut family = Family::new(out, "threads", "gauge", "Threads of pools.");
    for (index, name) in snapshot.pools.iter().enumerate() {
        let pool = snapshot.pool_of_all(index);
        let busy = pool.busy.saturating_sub(pool.stuck);
        let idle = pool.threads.saturating_sub(pool.busy);
        for (state, count) in [("busy", busy), ("idle", idle), ("stuck", pool.stuck)] {
            family.sample("", &[("pool", name), ("state", state)], count);
        }
    }
    let sum = |of: fn(&Worker) -> u64| -> u64 { snapshot.workers.iter().map(of).sum() };
    let (threads, busy) = (sum(|worker| worker.own_threads), sum(|worker| worker.own_busy));
    let idle = threads.saturating_sub(busy);
    let own = |phase| {
        let own = snapshot.requests.iter().filter(|request| request.row.pool == OWN_THREAD);
        own.filter(|request| request.phase() == phase).count() as u64
    };
    let (left, stuck) = (own(Phase::Left), own(Phase::Stuck));
    let busy = busy.saturating_sub(left + stuck);
    let help = "Threads of requests for a WebSocket.";
    let mut family = Family::new(out, "websocket_threads", "gauge", help);
    for (state, count) in [("busy", busy), ("idle", idle), ("left", left), ("stuck", stuck)] {
        family.sample("", &[("state", state)], count);
    }
    let help = "Connections that are an application's.";
    let mut family = Family::new(out, "websockets", "gauge", help);
    for (index, name) in snapshot.apps.iter().enumerate() {
        let open: u64 = snapshot.app_of_all(index).map(|(_, app)| app.websockets).sum();
        family.sample("", &[("app", name)], open);
    }
}

fn workers(out: &mut String, snapshot: &Snapshot) {
    let slots: Vec<String> = snapshot.workers.iter().map(|w| w.slot.to_string()).collect();
    let workers = || snapshot.workers.iter().zip(&slots);
    let mut family =
        Family::new(out, "worker_resident_memory_bytes", "gauge", "Resident memory of workers.");
    for (worker, slot) in workers() {
        if let Some(resident) = worker.resident {
            family.sample("", &[("worker", slot)], resident);
        }
    }
    let help = "When workers were started, in seconds since 1970.";
    let mut family = Family::new(out, "worker_start_time_seconds", "gauge", help);
    for (worker, slot) in workers() {
        family.sample("", &[("worker", slot)], worker.started);
    }
    let mut family = Family::new(out, "worker_info", "gauge", "1 for each worker that is there.");
    for (_, slot) in workers() {
        let labels = [("worker", slot.as_str()), ("version", snapshot.version)];
        family.sample("", &labels, 1);
    }
    let help = "How long the last import took, in the worker where it took longest.";
    let mut family = Family::new(out, "import_duration_seconds", "gauge", help);
    for (index, name) in snapshot.apps.iter().enumerate() {
        if let Some(took) = snapshot.app_of_all(index).map(|(_, app)| app.took).max() {
            family.sample("", &[("app", name)], seconds(took, 1000));
        }
    }
    let help = "Workers that have loaded an application.";
    let mut family = Family::new(out, "app_loaded_workers", "gauge", help);
    for (index, name) in snapshot.apps.iter().enumerate() {
        let loaded = snapshot.app_of_all(index).filter(|(_, app)| app.state == State::Loaded);
        family.sample("", &[("app", name)], loaded.count());
    }
}
