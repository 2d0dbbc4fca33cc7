//! The status as JSON (RFC 8259), for programs.
//!
//! Runs on: event loop.

use std::fmt::Write;

use super::counters::{Cause, Rejected, Timeout};
use super::findings::{Weight, findings};
use super::snapshot::{Request, Series, Snapshot, Stacks, Worker};
use super::stack::Frame;

/// An object or an array that is being written.
struct Json {
    out: String,
    /// Something is there already that a comma has to follow.
    is_begun: bool,
}

impl Json {
    fn comma(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            self.out.push(',');
        }
    }

    fn name(&mut self, name: &str) {
        self.comma();
        string(&mut self.out, name);
        self.out.push(':');
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{number}");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        string(&mut self.out, text);
    }

    fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.out.push_str(if flag { "true" } else { "false" });
    }

    fn within(&mut self, (open, close): (char, char), write: impl FnOnce(&mut Self)) {
        self.out.push(open);
        self.is_begun = false;
        write(self);
        self.out.push(close);
        self.is_begun = true;
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.within(('{', '}'), write);
    }

    fn array<T>(&mut self, name: &str, of: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.name(name);
        self.within(('[', ']'), |json| {
            for item in of {
                json.comma();
                json.within(('{', '}'), |json| write(json, item));
            }
        });
    }

    fn numbers(&mut self, name: &str, names: &[&str], numbers: &[u64]) {
        self.object(name, |json| {
            for (name, number) in names.iter().zip(numbers) {
                json.number(name, *number);
            }
        });
    }
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // A page that has it inside of a script would be ended by `</`, and older JavaScript
            // takes two of the others for ends of lines.
            '<' | '>' | '&' | '\u{7f}' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The whole status.
pub fn status(snapshot: &Snapshot) -> String {
    let mut json = Json { out: String::new(), is_begun: false };
    json.within(('{', '}'), |json| write_all(json, snapshot));
    json.out.push('\n');
    json.out
}

fn write_all(json: &mut Json, snapshot: &Snapshot) {
    json.text("version", snapshot.version);
    json.number("time", snapshot.time);
    json.array("findings", &findings(snapshot), |json, finding| {
        json.flag("bad", finding.weight == Weight::Bad);
        json.text("text", &finding.text);
    });
    json.array("requests", &snapshot.requests, |json, request| {
        write_request(json, snapshot, request);
    });
    json.number("workers_wanted", snapshot.wanted as u64);
    json.number("earlier_workers", snapshot.earlier as u64);
    json.array("workers", &snapshot.workers, |json, worker| write_worker(json, snapshot, worker));
    json.array("series", &snapshot.series, write_series);
    json.numbers("replacements", &Cause::NAMES, &snapshot.replaced);
    json.numbers("checks", &["failed", "good"], &snapshot.checks);
    if let Some(check) = &snapshot.check {
        json.object("last_check", |json| {
            json.number("time", check.at);
            json.flag("good", check.is_good);
            json.text("said", &check.said);
        });
    }
}

fn write_request(json: &mut Json, snapshot: &Snapshot, request: &Request) {
    let row = &request.row;
    json.text("state", request.phase().label());
    json.number("age_ms", request.age);
    json.number("queue_ms", request.waited);
    for (name, text) in
        [("method", &row.method), ("host", &row.host), ("path", &row.path), ("client", &row.client)]
    {
        json.text(name, text);
    }
    if !row.query.is_empty() {
        json.text("query", &row.query);
    }
    json.text("app", snapshot.app(row.app));
    json.text("pool", snapshot.pool(row.pool));
    json.number("worker", request.slot as u64);
    json.number("pid", request.pid.into());
    if row.there > 0 {
        json.number("runs_in", row.there);
    }
    if request.phase().has_thread() {
        json.number("thread", row.thread);
    }
    json.number("bytes_sent", row.sent);
    if snapshot.has_stacks {
        json.array("stack", &request.stack, write_frame);
    }
}

fn write_frame(json: &mut Json, frame: &Frame) {
    json.text("file", &frame.file);
    json.number("line", frame.line);
    json.text("function", &frame.function);
    json.text("source", &frame.source);
}

fn write_worker(json: &mut Json, snapshot: &Snapshot, worker: &Worker) {
    json.number("worker", worker.slot as u64);
    json.number("pid", worker.pid.into());
    json.number("generation", worker.generation);
    json.number("started", worker.started);
    if let Some(resident) = worker.resident {
        json.number("resident_bytes", resident);
    }
    json.number("requests", worker.requests);
    json.number("handed_over", worker.handed_over);
    json.number("taken_over", worker.guests);
    json.number("requests_hidden", worker.hidden);
    json.number("websocket_threads", worker.own_threads);
    json.number("websocket_threads_busy", worker.own_busy);
    if let Some(silent) = worker.silent {
        json.number("silent_ms", silent);
    }
    let pools: Vec<_> = snapshot.pools.iter().zip(&worker.pools).collect();
    json.array("pools", &pools, |json, (name, pool)| {
        json.text("pool", name);
        json.number("threads", pool.threads);
        json.number("busy", pool.busy);
        json.number("stuck", pool.stuck);
        json.number("waiting", pool.waiting);
        json.number("room", pool.room);
    });
    let apps: Vec<_> = snapshot.apps.iter().zip(&worker.apps).collect();
    json.array("apps", &apps, |json, (name, app)| {
        json.text("app", name);
        json.text("state", app.state.name());
        json.number("import_ms", app.took);
        json.number("websockets", app.websockets);
        if !app.error.is_empty() {
            json.text("error", &app.error);
        }
    });
    match &worker.stacks {
        Stacks::Unasked => (),
        Stacks::Shown => json.text("stacks", "shown"),
        Stacks::Silent => json.text("stacks", "does not answer"),
        Stacks::Unreachable => json.text("stacks", "cannot be asked"),
        Stacks::Held(threads) => {
            json.text("stacks", "the GIL is held");
            json.array("threads", threads, |json, frames| {
                json.array("stack", frames, write_frame);
            });
        }
    }
}

fn write_series(json: &mut Json, series: &Series) {
    let totals = &series.totals;
    json.text("app", &series.app);
    json.text("pool", &series.pool);
    json.number("requests", totals.requests());
    json.numbers("codes", &["1xx", "2xx", "3xx", "4xx", "5xx"], &totals.codes);
    json.number("duration_us", totals.duration.sum);
    json.number("queue_us", totals.queued.sum);
    json.numbers("rejected", &Rejected::NAMES, &totals.rejected);
    json.numbers("timeouts", &Timeout::NAMES, &totals.timeouts);
    json.number("exceptions", totals.exceptions);
    json.number("handed_over", totals.handed_over);
    json.number("import_failures", totals.import_failures);
}
