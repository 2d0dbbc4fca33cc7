//! All that `wsgi_status` shows, at one moment, as plain values.
//!
//! Texts are as they have come, from clients too: whoever writes them down escapes them.
//! Runs on: event loop.

use super::counters::{Check, Totals};
use super::records;
use super::records::{App, OWN_THREAD, Phase, Pool, State};
use super::stack::Frame;

/// What has come of asking a worker for its stacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stacks {
    /// Nobody has asked.
    #[default]
    Unasked,
    Shown,
    /// Python does not answer, since somebody holds the GIL: these are all threads of the process,
    /// found without it.
    Held(Vec<Vec<Frame>>),
    /// The worker does not answer.
    Silent,
    /// There is no way to ask it.
    Unreachable,
}

/// A worker.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    pub slot: usize,
    pub pid: u32,
    pub generation: u64,
    /// Milliseconds.
    pub age: u64,
    /// Seconds since 1970.
    pub started: u64,
    pub resident: Option<u64>,
    pub requests: u64,
    pub guests: u64,
    /// Requests of its clients that other workers have taken, in this slot.
    pub handed_over: u64,
    /// Threads of requests for a WebSocket, and those among them that are at one.
    pub own_threads: u64,
    pub own_busy: u64,
    /// Requests that are not shown.
    pub hidden: u64,
    /// It was to be heard of long ago: milliseconds.
    pub silent: Option<u64>,
    /// By index.
    pub pools: Vec<Pool>,
    pub apps: Vec<App>,
    pub stacks: Stacks,
}

impl Worker {
    /// Bytes that were resident when the last application had been imported.
    pub fn resident_at_first(&self) -> u64 {
        self.apps.iter().map(|app| app.resident).max().unwrap_or_default()
    }
}

/// A request in flight.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Of the worker that has the client.
    pub slot: usize,
    pub pid: u32,
    /// Milliseconds.
    pub age: u64,
    /// How long it has waited for a thread, or does.
    pub waited: u64,
    pub row: records::Row,
    /// The innermost frame last; empty: unknown.
    pub stack: Vec<Frame>,
}

impl Request {
    pub fn phase(&self) -> Phase {
        self.row.phase
    }

    /// How long a thread has been at it, if one is.
    pub fn ran(&self) -> Option<u64> {
        self.phase().has_thread().then(|| self.age.saturating_sub(self.waited))
    }

    /// `GET /path`, with the query if it is shown.
    pub fn line(&self) -> String {
        let row = &self.row;
        let mark = if row.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", row.method, row.path, row.query)
    }
}

/// What was counted of an application on a pool.
#[derive(Debug, Clone, Default)]
pub struct Series {
    pub app: String,
    pub pool: String,
    pub totals: Totals,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Of the module.
    pub version: &'static str,
    /// Seconds since 1970.
    pub time: u64,
    /// Milliseconds of nginx's clock.
    pub now: u64,
    /// How many workers there are to be.
    pub wanted: usize,
    pub workers: Vec<Worker>,
    /// Workers of earlier configurations that have not gone.
    pub earlier: usize,
    /// Names, by index.
    pub pools: Vec<String>,
    pub apps: Vec<String>,
    /// The oldest first.
    pub requests: Vec<Request>,
    pub series: Vec<Series>,
    /// By [`Cause`](super::counters::Cause).
    pub replaced: [u64; 6],
    /// Checks that have failed, and that have not.
    pub checks: [u64; 2],
    pub check: Option<Check>,
    /// `?stacks` may be asked for.
    pub offers_stacks: bool,
    /// Stacks have been asked for.
    pub has_stacks: bool,
}

impl Snapshot {
    pub fn app(&self, index: u64) -> &str {
        name(&self.apps, index)
    }

    /// Threads that requests have of their own are of no pool, and called after what they are for.
    pub fn pool(&self, index: u64) -> &str {
        if index == OWN_THREAD { "websocket" } else { name(&self.pools, index) }
    }

    /// A pool in all workers.
    pub fn pool_of_all(&self, index: usize) -> Pool {
        let pools = self.workers.iter().filter_map(|worker| worker.pools.get(index));
        pools.fold(Pool::default(), |sum, pool| Pool {
            threads: sum.threads + pool.threads,
            busy: sum.busy + pool.busy,
            stuck: sum.stuck + pool.stuck,
            waiting: sum.waiting + pool.waiting,
            room: sum.room + pool.room,
        })
    }

    /// An application in all workers.
    pub fn app_of_all(&self, index: usize) -> impl Iterator<Item = (&Worker, &App)> {
        self.workers.iter().filter_map(move |worker| Some((worker, worker.apps.get(index)?)))
    }

    /// Those that no worker has loaded, with the reason.
    pub fn not_ready(&self) -> Vec<(&str, &'static str)> {
        let apps = self.apps.iter().enumerate();
        apps.filter_map(|(index, name)| {
            let states = || self.app_of_all(index).map(|(_, app)| app.state);
            if states().any(|state| state == State::Loaded) {
                return None;
            }
            let is_failed = states().any(|state| state == State::Failed);
            Some((name.as_str(), if is_failed { "failed" } else { "not loaded so far" }))
        })
        .collect()
    }
}

fn name(names: &[String], index: u64) -> &str {
    let index = usize::try_from(index).ok();
    index.and_then(|index| names.get(index)).map_or("?", String::as_str)
}
