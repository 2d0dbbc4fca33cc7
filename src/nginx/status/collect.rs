//! What all workers show, as one snapshot.
//!
//! Runs on: event loop.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::nginx::config::MainConf;
use crate::nginx::sys::process;
use crate::nginx::worker::counters;
use crate::nginx::worker::display::{self, Table};
use crate::nginx::worker::generation::membership;
use crate::nginx::worker::identity::is_alive;
use crate::wsgi::status::records::{App, Pool, Row, Worker as Record};
use crate::wsgi::status::snapshot::{Request, Series, Snapshot, Worker};
use crate::wsgi::status::wanted::Wanted;

/// A worker that has not written for so long, and was to, is worth a word.
const SILENCE: u64 = 1000;

/// How everything stands.
pub fn snapshot(main: &MainConf, wanted: Wanted) -> Snapshot {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut snapshot = Snapshot {
        version: env!("CARGO_PKG_VERSION"),
        time: now.map_or(0, |now| now.as_secs()),
        now: display::now(),
        wanted: main.status.slots,
        pools: main.pools.iter().map(|pool| pool.name.clone()).collect(),
        apps: main.apps.iter().map(|(target, ..)| target.to_string()).collect(),
        offers_stacks: wanted.stacks,
        ..Snapshot::default()
    };
    if let Some(membership) = membership() {
        snapshot.earlier = membership.table.earlier(membership.generation, is_alive);
    }
    if let Some(counters) = counters::of(main) {
        let series = counters.series().into_iter();
        snapshot.series = series.map(|(app, pool, totals)| Series { app, pool, totals }).collect();
        snapshot.replaced = counters.replacements();
        snapshot.checks = counters.checks();
        snapshot.check = counters.last_check();
    }
    if let Some(table) = display::of(main) {
        for slot in 0..table.workers().len() {
            add_worker(&mut snapshot, main, table, slot, wanted);
        }
    }
    snapshot.requests.sort_by_key(|request| std::cmp::Reverse(request.age));
    snapshot
}

fn add_worker(snapshot: &mut Snapshot, main: &MainConf, table: Table, slot: usize, wanted: Wanted) {
    let Some(record) = table.workers()[slot].read().map(|words| Record::unpack(&words)) else {
        return;
    };
    if record.holder == 0 || !is_alive(record.holder) {
        return;
    }
    let pid = (record.holder >> 32) as u32;
    let read = |pool: &[u64; _]| Pool::unpack(pool);
    let quiet = snapshot.now.saturating_sub(record.beat);
    let handed_over = counters::of(main).map_or(0, |counters| counters.handed_over(slot));
    snapshot.workers.push(Worker {
        slot,
        pid,
        generation: record.generation,
        age: 1000 * snapshot.time.saturating_sub(record.started),
        started: record.started,
        resident: process::resident_set(pid),
        requests: record.requests,
        guests: record.guests,
        handed_over,
        own_threads: record.own_threads,
        own_busy: record.own_busy,
        hidden: record.hidden,
        silent: (record.is_ticking && quiet >= SILENCE).then_some(quiet),
        pools: table.pools(slot).iter().filter_map(|pool| pool.read().as_ref().map(read)).collect(),
        apps: table.apps(slot).iter().filter_map(|app| Some(App::unpack(&app.read()?))).collect(),
        ..Worker::default()
    });
    let used = usize::try_from(record.rows).unwrap_or(0).min(display::ROWS);
    for row in table.rows(slot).iter().take(used).filter_map(|row| row.read()) {
        let mut row = Row::unpack(&row);
        if row.id == 0 {
            continue;
        }
        if !wanted.query {
            row.query.clear();
        }
        let age = snapshot.now.saturating_sub(row.since);
        let waited = if row.taken == 0 { age } else { row.taken.saturating_sub(row.since) };
        snapshot.requests.push(Request { slot, pid, age, waited, row, ..Request::default() });
    }
}
