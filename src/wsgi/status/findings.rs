//! What is wrong, in words: the first thing somebody wants to know who is woken at night.
//!
//! Each finding names what is to blame as far as it is known: a line, a pool, a client. The worst
//! comes first.
//! Runs on: event loop.

use super::counters::Rejected;
use super::records::{OWN_THREAD, Phase, State};
use super::snapshot::{Request, Snapshot, Stacks, Worker};
use super::visible::{size, time};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Clients are refused, or are about to be.
    Bad,
    /// It may become bad.
    Odd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub weight: Weight,
    pub text: String,
}

/// A request or a client that takes longer than this is worth a word.
const LONG: u64 = 5_000;
/// A queue that was full so long ago is news.
const NEWS: u64 = 60_000;
/// A worker that has grown by so much, and to twice its size, may have a leak.
const GROWTH: u64 = 64 << 20;

fn bad(text: String) -> Finding {
    Finding { weight: Weight::Bad, text }
}

fn odd(text: String) -> Finding {
    Finding { weight: Weight::Odd, text }
}

/// All that is wrong.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    if snapshot.apps.is_empty() {
        return vec![odd(String::from("no location has an application (wsgi_app)"))];
    }
    workers(snapshot, &mut found);
    imports(snapshot, &mut found);
    pools(snapshot, &mut found);
    own_threads(snapshot, &mut found);
    requests(snapshot, &mut found);
    growth(snapshot, &mut found);
    if let Some(check) = snapshot.check.as_ref().filter(|check| !check.is_good) {
        let ago = time(snapshot.time.saturating_sub(check.at) * 1000);
        found.push(odd(format!(
            "the last configuration was refused {ago} ago, the one before is served: {}",
            check.said
        )));
    }
    found.sort_by_key(|finding| finding.weight);
    found
}

/// One sentence when nothing is wrong.
pub fn all_is_well(snapshot: &Snapshot) -> String {
    let pools = (0..snapshot.pools.len()).map(|index| snapshot.pool_of_all(index));
    let (busy, threads) =
        pools.fold((0, 0), |(busy, threads), pool| (busy + pool.busy, threads + pool.threads));
    let workers = number(snapshot.workers.len() as u64, "worker");
    format!("all is well: {workers}, {busy} of {} busy", number(threads, "thread"))
}

fn number(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn them(n: u64) -> (&'static str, &'static str) {
    if n == 1 { ("", "s") } else { ("s", "") }
}

fn workers(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let there = snapshot.workers.len();
    if there < snapshot.wanted {
        found.push(bad(format!("{there} of {} workers are there", snapshot.wanted)));
    }
    for Worker { slot, pid, silent, stacks, .. } in &snapshot.workers {
        if let Some(silent) = silent {
            found.push(bad(format!(
                "worker {slot} (process {pid}) has not been heard of for {}: it is stopped, or its \
                 event loop is blocked",
                time(*silent)
            )));
        }
        match stacks {
            Stacks::Held(threads) => {
                let tops = threads.iter().filter_map(|frames| Some(frames.last()?.short()));
                let tops = most(tops.collect());
                let tops = tops.first().map(|(_, top)| format!("; a thread is in {top}"));
                found.push(bad(format!(
                    "python of worker {slot} (process {pid}) does not respond: the GIL is held{}",
                    tops.unwrap_or_default()
                )));
            }
            Stacks::Silent => {
                found.push(bad(format!("worker {slot} (process {pid}) does not answer")));
            }
            _ => (),
        }
    }
}

fn imports(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    for (index, name) in snapshot.apps.iter().enumerate() {
        let failed = |(_, app): &(_, &super::records::App)| app.state == State::Failed;
        let all: Vec<_> = snapshot.app_of_all(index).filter(failed).collect();
        if let Some((_, app)) = all.first() {
            let count = number(all.len() as u64, "worker");
            let why = if app.error.is_empty() { "its import was put off" } else { &app.error };
            found.push(bad(format!("\"{name}\" is not loaded in {count}: {why}")));
        }
        for (worker, app) in snapshot.app_of_all(index) {
            let since = snapshot.now.saturating_sub(app.begun);
            if app.state == State::Importing && since >= LONG {
                let since = time(since);
                found.push(odd(format!(
                    "worker {} imports \"{name}\" for {since} so far",
                    worker.slot
                )));
            }
        }
    }
}

/// Threads of requests for a WebSocket.
fn own_threads(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let own = snapshot.requests.iter().filter(|request| request.row.pool == OWN_THREAD);
    let stuck: Vec<_> = own.filter(|request| request.phase() == Phase::Stuck).collect();
    if let Some(first) = stuck.first() {
        let is = if stuck.len() == 1 { "is" } else { "are" };
        let threads = number(stuck.len() as u64, "websocket thread");
        found.push(bad(format!("{threads} {is} stuck: {}", named(first))));
    }
}

fn pools(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    for (index, name) in snapshot.pools.iter().enumerate() {
        let pool = snapshot.pool_of_all(index);
        let of_pool = || snapshot.requests.iter().filter(move |r| r.row.pool == index as u64);
        if pool.stuck > 0 {
            let (threads, them) = (number(pool.threads, "thread"), them(pool.stuck));
            let is = if them.0.is_empty() { "is" } else { "are" };
            let who = of_pool().find(|request| request.phase() == Phase::Stuck);
            let who = who.map(|request| format!(": {}", named(request))).unwrap_or_default();
            let text = format!("{} of {threads} of pool {name} {is} stuck{who}", pool.stuck);
            found.push(bad(text));
        }
        let waiting: Vec<&Request> =
            of_pool().filter(|request| request.phase() == Phase::Queued).collect();
        let oldest = waiting.iter().map(|request| request.age).max().unwrap_or_default();
        // Requests of an application that is just being imported wait without a thread at work.
        if pool.waiting > 0 && pool.busy >= pool.threads {
            let (many, oldest) = (number(pool.waiting, "request"), time(oldest));
            let (_, s) = them(pool.waiting);
            let threads = if pool.threads == 1 {
                "the only thread".to_owned()
            } else {
                format!("all {} threads", pool.threads)
            };
            let is = if pool.threads == 1 { "is" } else { "are" };
            found.push(bad(format!(
                "{threads} of pool {name} {is} busy, {many} wait{s}, the oldest for {oldest}{}",
                culprit(of_pool())
            )));
        } else if pool.waiting > 0 && oldest >= 1000 {
            let (many, oldest) = (number(pool.waiting, "request"), time(oldest));
            found.push(odd(format!(
                "{many} of pool {name} wait{}, the oldest for {oldest}, while {} of {} threads are \
                 busy",
                them(pool.waiting).1,
                pool.busy,
                pool.threads
            )));
        }
        let series = || snapshot.series.iter().filter(|series| series.pool == *name);
        let full_at = series().map(|series| series.totals.full_at).max().unwrap_or_default();
        let ago = snapshot.now.saturating_sub(full_at);
        if full_at > 0 && ago < NEWS {
            let full = Rejected::QueueFull as usize;
            let many = series().map(|series| series.totals.rejected[full]).sum();
            found.push(bad(format!(
                "the queue of pool {name} was full {} ago, {} refused so far",
                time(ago),
                number(many, "request")
            )));
        }
    }
}

/// Where the threads are, or what they are at.
fn culprit<'a>(requests: impl Iterator<Item = &'a Request>) -> String {
    let at_work: Vec<&Request> = requests.filter(|request| request.phase().has_thread()).collect();
    let tops = at_work.iter().filter_map(|request| Some(request.stack.last()?.short()));
    if let Some((count, top)) = most(tops.collect()).first() {
        return format!("; {count} of {} in {top}", at_work.len());
    }
    let lines =
        at_work.iter().map(|request| format!("{} {}", request.row.method, request.row.path));
    match most(lines.collect()).first() {
        Some((count, line)) => format!("; {count} of {} at {line}", at_work.len()),
        None => String::new(),
    }
}

/// How often each text is there, the most frequent first.
fn most(mut texts: Vec<String>) -> Vec<(usize, String)> {
    texts.sort();
    let groups = texts.chunk_by(|a, b| a == b).map(|group| (group.len(), group[0].clone()));
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.0));
    groups
}

/// `GET /path of client 10.0.0.1, in report.py:88 execute`.
fn named(request: &Request) -> String {
    let place = request.stack.last().map(|frame| format!(", in {}", frame.short()));
    let client = &request.row.client;
    format!("{} of client {client}{}", request.line(), place.unwrap_or_default())
}

fn requests(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let of = |phases: &'static [Phase]| {
        snapshot.requests.iter().filter(|request| phases.contains(&request.phase()))
    };
    let ran = |request: &&Request| request.ran() >= Some(LONG);
    let running: Vec<_> = of(&[Phase::Running]).filter(ran).collect();
    if let Some(oldest) = running.first() {
        let count = number(running.len() as u64, "request");
        let ran = time(oldest.ran().unwrap_or_default());
        let (_, s) = them(running.len() as u64);
        found.push(odd(format!(
            "{count} ha{} been running for long, the oldest for {ran}: {}",
            if s == "s" { "s" } else { "ve" },
            named(oldest)
        )));
    }
    let slow: Vec<_> = of(&[Phase::Sending, Phase::Waiting]).filter(ran).collect();
    if let Some(oldest) = slow.first() {
        let clients = most(slow.iter().map(|request| request.row.client.clone()).collect());
        let who: Vec<String> =
            clients.iter().take(3).map(|(count, client)| format!("{client} ({count})")).collect();
        found.push(odd(format!(
            "{} slow to take {} response{}, the oldest since {}: {}; of {}",
            if slow.len() == 1 { "a client is" } else { "clients are" },
            if slow.len() == 1 { "its".to_owned() } else { slow.len().to_string() },
            them(slow.len() as u64).0,
            time(oldest.age),
            named(oldest),
            who.join(", ")
        )));
    }
    let left: Vec<_> = of(&[Phase::Left]).collect();
    if let Some(oldest) = left.first() {
        let clients = most(left.iter().map(|request| request.row.client.clone()).collect());
        let who: Vec<String> =
            clients.iter().take(3).map(|(count, client)| format!("{client} ({count})")).collect();
        found.push(odd(format!(
            "{} for clients that have gone, the oldest since {}: {}; of {}",
            if left.len() == 1 {
                "a thread works".to_owned()
            } else {
                format!("{} threads work", left.len())
            },
            time(oldest.age),
            named(oldest),
            who.join(", ")
        )));
    }
}

fn growth(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    for worker in &snapshot.workers {
        let (Some(now), first) = (worker.resident, worker.resident_at_first()) else { continue };
        if first > 0 && now >= 2 * first && now - first >= GROWTH {
            found.push(odd(format!(
                "worker {} (process {}) has grown from {} to {} in {}, {} since it loaded {}",
                worker.slot,
                worker.pid,
                size(first),
                size(now),
                time(worker.age),
                number(worker.requests, "request"),
                snapshot.apps.join(", ")
            )));
        }
    }
}
