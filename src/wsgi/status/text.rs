//! The status as plain text, a line each: for `curl`, `grep` and `watch`.
//!
//! Runs on: event loop.

use std::fmt::{self, Write};

use super::counters::{Cause, Rejected, Timeout};
use super::findings::{all_is_well, findings};
use super::records::Phase;
use super::snapshot::{Request, Snapshot, Stacks, Worker};
use super::stack::Frame;
use super::visible::{size, time, visible};

/// The whole status.
pub fn status(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut out, snapshot);
    out
}

/// Whether every application is loaded in some worker, in a line each that is not.
pub fn ready(snapshot: &Snapshot) -> Result<String, String> {
    let missing = snapshot.not_ready();
    if snapshot.workers.is_empty() && !snapshot.apps.is_empty() {
        return Err(String::from("no worker is there\n"));
    }
    if missing.is_empty() {
        return Ok(String::from("ready\n"));
    }
    let line = |(name, why): &(&str, &str)| format!("{}: {why}\n", visible(name));
    Err(missing.iter().map(line).collect())
}

fn write_all(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let found = findings(snapshot);
    if found.is_empty() {
        writeln!(out, "{}", visible(&all_is_well(snapshot)))?;
    }
    for finding in &found {
        writeln!(out, "! {}", visible(&finding.text))?;
    }
    writeln!(out, "\nrequests in flight: {}", snapshot.requests.len())?;
    for request in &snapshot.requests {
        write_request(out, snapshot, request)?;
    }
    let hidden: u64 = snapshot.workers.iter().map(|worker| worker.hidden).sum();
    if hidden > 0 {
        writeln!(out, "  and {hidden} more")?;
    }
    writeln!(out, "\nworkers: {} of {}", snapshot.workers.len(), snapshot.wanted)?;
    for worker in &snapshot.workers {
        write_worker(out, snapshot, worker)?;
    }
    if snapshot.earlier > 0 {
        writeln!(out, "  and {} of earlier configurations", snapshot.earlier)?;
    }
    writeln!(out, "\napplications:")?;
    for (index, name) in snapshot.apps.iter().enumerate() {
        for (worker, app) in snapshot.app_of_all(index) {
            let (state, took) = (app.state.name(), time(app.took));
            write!(out, "  {} in worker {}: {state}", visible(name), worker.slot)?;
            if app.took > 0 {
                write!(out, ", import took {took}")?;
            }
            if app.websockets > 0 {
                write!(out, ", websockets {}", app.websockets)?;
            }
            if !app.error.is_empty() {
                write!(out, ", last error: {}", visible(&app.error))?;
            }
            writeln!(out)?;
        }
    }
    write_counts(out, snapshot)
}

fn write_request(out: &mut String, snapshot: &Snapshot, request: &Request) -> fmt::Result {
    let row = &request.row;
    write!(out, "  {} {}", time(request.age), request.phase().label())?;
    write!(out, ", waited {}", time(request.waited))?;
    write!(out, ": {} host {}", visible(&request.line()), visible(&row.host))?;
    write!(out, " client {}", visible(&row.client))?;
    write!(out, " app {}", visible(snapshot.app(row.app)))?;
    write!(out, " worker {} ({})", request.slot, request.pid)?;
    if row.there > 0 {
        write!(out, " runs in process {}", row.there)?;
    }
    let pool = visible(snapshot.pool(row.pool));
    if request.phase() == Phase::Queued {
        write!(out, " pool {pool}")?;
    } else {
        write!(out, " thread {pool}:{}", row.thread)?;
    }
    writeln!(out, " sent {}", size(row.sent))?;
    write_stack(out, &request.stack)
}

fn write_stack(out: &mut String, stack: &[Frame]) -> fmt::Result {
    for Frame { file, line, function, source } in stack {
        writeln!(
            out,
            "    {}:{line} in {}: {}",
            visible(file),
            visible(function),
            visible(source)
        )?;
    }
    Ok(())
}

fn write_worker(out: &mut String, snapshot: &Snapshot, worker: &Worker) -> fmt::Result {
    let Worker { slot, pid, generation, age, requests, handed_over, guests, .. } = worker;
    write!(out, "  worker {slot} process {pid} generation {generation} since {}", time(*age))?;
    let resident = worker.resident.map_or_else(|| "?".to_owned(), size);
    writeln!(
        out,
        " resident {resident} requests {requests} handed over {handed_over} taken over {guests}"
    )?;
    for (index, pool) in worker.pools.iter().enumerate() {
        writeln!(
            out,
            "    pool {}: {} of {} threads busy, {} stuck, {} waiting, room for {}",
            visible(snapshot.pool(index as u64)),
            pool.busy,
            pool.threads,
            pool.stuck,
            pool.waiting,
            pool.room
        )?;
    }
    if worker.own_threads > 0 {
        let (threads, busy) = (worker.own_threads, worker.own_busy);
        writeln!(out, "    websockets: {busy} of {threads} threads busy")?;
    }
    match &worker.stacks {
        Stacks::Unasked | Stacks::Shown => Ok(()),
        Stacks::Silent => writeln!(out, "    stacks: does not answer"),
        Stacks::Unreachable => writeln!(out, "    stacks: cannot be asked (wsgi_balance is off)"),
        Stacks::Held(threads) => {
            writeln!(out, "    the GIL is held, the stacks of all threads:")?;
            for thread in threads {
                writeln!(out, "    thread")?;
                write_stack(out, thread)?;
            }
            Ok(())
        }
    }
}

fn write_counts(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    writeln!(out, "\ncounted:")?;
    for series in &snapshot.series {
        let totals = &series.totals;
        write!(out, "  {} on {}:", visible(&series.app), visible(&series.pool))?;
        write!(out, " requests {}", totals.requests())?;
        for (class, count) in totals.codes.iter().enumerate() {
            write!(out, " {}xx {count}", class + 1)?;
        }
        for (name, count) in Rejected::NAMES.iter().zip(totals.rejected) {
            write!(out, " {name} {count}")?;
        }
        for (name, count) in Timeout::NAMES.iter().zip(totals.timeouts) {
            write!(out, " {name}_timeout {count}")?;
        }
        write!(out, " exceptions {}", totals.exceptions)?;
        write!(out, " handed_over {}", totals.handed_over)?;
        writeln!(out, " import_failures {}", totals.import_failures)?;
    }
    write!(out, "  replaced:")?;
    for (name, count) in Cause::NAMES.iter().zip(snapshot.replaced) {
        write!(out, " {name} {count}")?;
    }
    let [failed, good] = snapshot.checks;
    writeln!(out, "\n  checks: good {good} failed {failed}")?;
    if let Some(check) = &snapshot.check {
        let ago = time(snapshot.time.saturating_sub(check.at) * 1000);
        let said = if check.is_good { "good" } else { &check.said };
        writeln!(out, "  last check {ago} ago: {}", visible(said))?;
    }
    Ok(())
}
