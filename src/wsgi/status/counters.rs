//! What is counted of requests, and stays when workers are replaced and configurations reloaded.
//!
//! It lies in shared memory that every cycle takes over from the one before. A *series* is an
//! application on a pool, known by their names: the table of names only grows, and what comes when
//! it is full is counted as [`OTHER`]. Each worker adds to the cells of its slot, so that no two
//! wait for a cache line; the sum over all slots is what counts. Old and new workers of one slot may
//! add at the same time, and one may be killed at any time.
//! Runs on: event loop; [`Counters::register`] in the master.

use std::array;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::cell::{Cell, Packer, Unpacker};

/// Workers beyond so many share cells.
pub const SLOTS: usize = 32;
/// Applications on pools.
pub const SERIES: usize = 64;
/// The series of those that have found no room.
pub const OTHER: usize = SERIES - 1;

/// Upper bounds of what a histogram counts, in milliseconds: OpenTelemetry's.
pub const BOUNDS: [u64; 14] =
    [5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Why a request has not come to its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    QueueFull,
    QueueTimeout,
    ClientGone,
    NotLoaded,
    /// All threads of the pool are stuck.
    Stuck,
}

impl Rejected {
    pub const NAMES: [&str; 5] =
        ["queue_full", "queue_timeout", "client_gone", "not_loaded", "stuck"];
}

/// What was not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// `wsgi_request_timeout`.
    Request,
    /// `wsgi_read_timeout`.
    Read,
    /// nginx's `send_timeout`.
    Send,
}

impl Timeout {
    pub const NAMES: [&str; 3] = ["request", "read", "send"];
}

/// Why another worker comes in the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    MaxRequests,
    MaxRss,
    /// Threads that do not come back, or an interpreter that does not respond.
    Stuck,
    /// An import is to be tried again.
    Import,
    /// `wsgi_reload`.
    Changed,
    /// The process has ended without being asked to.
    Died,
}

impl Cause {
    pub const NAMES: [&str; 6] = ["max_requests", "max_rss", "stuck", "import", "reload", "died"];
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

fn add(to: &AtomicU64, number: u64) {
    to.fetch_add(number, Ordering::Relaxed);
}

fn read<const N: usize>(of: &[AtomicU64; N]) -> [u64; N] {
    array::from_fn(|n| of[n].load(Ordering::Relaxed))
}

#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Microseconds.
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: zeros(), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn observe(&self, micros: u64) {
        let bucket = BOUNDS.iter().position(|bound| micros <= bound * 1000);
        add(&self.buckets[bucket.unwrap_or(BOUNDS.len())], 1);
        add(&self.sum, micros);
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// 0: the client had gone before there was one.
    pub status: usize,
    /// From when it was queued, in microseconds.
    pub duration: u64,
    /// Until a thread took it; `None`: none has.
    pub queued: Option<u64>,
    pub is_handed_over: bool,
    /// The application has raised an exception.
    pub has_raised: bool,
    /// Processor time of its thread in microseconds, if that is measured.
    pub cpu: Option<u64>,
}

/// What one slot has counted of a series.
#[derive(Debug)]
#[repr(align(64))]
pub struct Cells {
    /// 1xx to 5xx.
    codes: [AtomicU64; 5],
    duration: Histogram,
    queued: Histogram,
    rejected: [AtomicU64; 5],
    timeouts: [AtomicU64; 3],
    exceptions: AtomicU64,
    /// Microseconds.
    cpu: AtomicU64,
    handed_over: AtomicU64,
    import_failures: AtomicU64,
    /// When a queue was last full, in milliseconds of nginx's clock.
    full_at: AtomicU64,
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            codes: zeros(),
            duration: Histogram::default(),
            queued: Histogram::default(),
            rejected: zeros(),
            timeouts: zeros(),
            exceptions: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            import_failures: AtomicU64::new(0),
            full_at: AtomicU64::new(0),
        }
    }
}

impl Cells {
    pub fn done(&self, done: Done) {
        // nginx logs 499 for a client that has gone.
        let status = if done.status == 0 { 499 } else { done.status };
        add(&self.codes[(status / 100).clamp(1, 5) - 1], 1);
        self.duration.observe(done.duration);
        match done.queued {
            Some(micros) => self.queued.observe(micros),
            None if done.status == 0 => self.rejected(Rejected::ClientGone),
            None => (),
        }
        if done.is_handed_over {
            add(&self.handed_over, 1);
        }
        if done.has_raised {
            add(&self.exceptions, 1);
        }
        if let Some(cpu) = done.cpu {
            add(&self.cpu, cpu);
        }
    }

    pub fn rejected(&self, why: Rejected) {
        add(&self.rejected[why as usize], 1);
    }

    /// A queue is full at this time, in milliseconds of nginx's clock.
    pub fn full(&self, now: u64) {
        self.rejected(Rejected::QueueFull);
        self.full_at.fetch_max(now, Ordering::Relaxed);
    }

    /// A request was answered with this status before it was queued.
    pub fn refused(&self, status: usize) {
        add(&self.codes[(status / 100).clamp(1, 5) - 1], 1);
    }

    pub fn timeout(&self, what: Timeout) {
        add(&self.timeouts[what as usize], 1);
    }

    pub fn import_failed(&self) {
        add(&self.import_failures, 1);
    }

    pub(super) fn totals(&self) -> Totals {
        let (duration, queued) = (&self.duration, &self.queued);
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Totals {
            codes: read(&self.codes),
            duration: Observed { buckets: read(&duration.buckets), sum: number(&duration.sum) },
            queued: Observed { buckets: read(&queued.buckets), sum: number(&queued.sum) },
            rejected: read(&self.rejected),
            timeouts: read(&self.timeouts),
            exceptions: number(&self.exceptions),
            cpu: number(&self.cpu),
            handed_over: number(&self.handed_over),
            import_failures: number(&self.import_failures),
            full_at: number(&self.full_at),
        }
    }
}

/// A histogram as it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    pub buckets: [u64; BUCKETS],
    /// Microseconds.
    pub sum: u64,
}

impl Observed {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// [`Cells`] as they were read, of one slot or all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub codes: [u64; 5],
    pub duration: Observed,
    pub queued: Observed,
    pub rejected: [u64; 5],
    pub timeouts: [u64; 3],
    pub exceptions: u64,
    /// Microseconds; 0 unless it is measured.
    pub cpu: u64,
    pub handed_over: u64,
    pub import_failures: u64,
    pub full_at: u64,
}

impl Totals {
    pub fn requests(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        fn sum<const N: usize>(a: [u64; N], b: [u64; N]) -> [u64; N] {
            array::from_fn(|n| a[n].wrapping_add(b[n]))
        }
        let observed = |a: Observed, b: Observed| Observed {
            buckets: sum(a.buckets, b.buckets),
            sum: a.sum.wrapping_add(b.sum),
        };
        Self {
            codes: sum(self.codes, other.codes),
            duration: observed(self.duration, other.duration),
            queued: observed(self.queued, other.queued),
            rejected: sum(self.rejected, other.rejected),
            timeouts: sum(self.timeouts, other.timeouts),
            exceptions: self.exceptions + other.exceptions,
            cpu: self.cpu + other.cpu,
            handed_over: self.handed_over + other.handed_over,
            import_failures: self.import_failures + other.import_failures,
            full_at: self.full_at.max(other.full_at),
        }
    }
}

/// Words of the name of an application and of a pool, and of both with their lengths and a hash.
const APP: usize = 16;
const POOL: usize = 8;
const NAME: usize = 1 + 1 + APP + 1 + POOL;

/// Words of what a check has said.
const SAID: usize = 32;

/// What `wsgi_check` has said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Seconds since 1970.
    pub at: u64,
    pub is_good: bool,
    /// What is wrong.
    pub said: String,
}

/// All that is counted. All zero at first.
#[derive(Debug)]
pub struct Counters {
    /// How many series have names.
    known: AtomicUsize,
    names: [Cell<NAME>; SERIES],
    replaced: [AtomicU64; 6],
    /// Checks that have failed, and that have not.
    checks: [AtomicU64; 2],
    check: Cell<{ 2 + 1 + SAID }>,
    slots: [[Cells; SERIES]; SLOTS],
}

impl Counters {
    /// The number of a series, which is given one if there is room. The master alone calls this.
    pub fn register(&self, app: &str, pool: &str) -> usize {
        let words = name(app, pool);
        let known = self.known.load(Ordering::Acquire);
        let found = self.names.iter().take(known).position(|name| name.read() == Some(words));
        found.unwrap_or_else(|| {
            if known >= OTHER {
                return OTHER;
            }
            self.names[known].write(&words);
            self.known.store(known + 1, Ordering::Release);
            known
        })
    }

    /// The cells of a worker's slot.
    pub fn cells(&self, worker: usize) -> &[Cells; SERIES] {
        &self.slots[worker % SLOTS]
    }

    /// What the workers of a slot have handed over.
    pub fn handed_over(&self, worker: usize) -> u64 {
        self.cells(worker).iter().map(|cells| cells.handed_over.load(Ordering::Relaxed)).sum()
    }

    pub fn replaced(&self, cause: Cause) {
        add(&self.replaced[cause as usize], 1);
    }

    pub fn replacements(&self) -> [u64; 6] {
        read(&self.replaced)
    }

    /// A check has been made. The master alone calls this.
    pub fn checked(&self, check: &Check) {
        let good = u64::from(check.is_good);
        let words = Packer::<{ 2 + 1 + SAID }>::default().number(check.at).number(good);
        self.check.write(&words.text(check.said.as_bytes(), SAID).words());
        add(&self.checks[usize::from(check.is_good)], 1);
    }

    /// Checks that have failed, and that have not.
    pub fn checks(&self) -> [u64; 2] {
        read(&self.checks)
    }

    pub fn last_check(&self) -> Option<Check> {
        let words = self.check.read()?;
        let mut from = Unpacker::new(&words);
        let (at, is_good) = (from.number(), from.number() != 0);
        (at > 0).then(|| Check { at, is_good, said: from.text(SAID) })
    }

    /// The series that have names or something to show, with application and pool.
    pub fn series(&self) -> Vec<(String, String, Totals)> {
        let totals = |series: usize| {
            self.slots.iter().fold(Totals::default(), |sum, slot| sum.plus(&slot[series].totals()))
        };
        let known = self.known.load(Ordering::Acquire).min(OTHER);
        let mut all: Vec<_> = (0..known)
            .filter_map(|series| {
                let words = self.names[series].read()?;
                let mut from = Unpacker::new(&words[1..]);
                Some((from.text(APP), from.text(POOL), totals(series)))
            })
            .collect();
        let other = totals(OTHER);
        if other != Totals::default() {
            all.push((String::from("other"), String::from("other"), other));
        }
        all
    }
}

/// Names that are too long differ by their hash.
fn name(app: &str, pool: &str) -> [u64; NAME] {
    let hash = [app, "\0", pool].concat().bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        // FNV-1a.
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let words = Packer::<NAME>::default().number(hash);
    words.text(app.as_bytes(), APP).text(pool.as_bytes(), POOL).words()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Box<Counters> {
        // Too large for the stack of a test's thread.
        let slots: Vec<[Cells; SERIES]> =
            (0..SLOTS).map(|_| array::from_fn(|_| Cells::default())).collect();
        let slots: Box<[[Cells; SERIES]; SLOTS]> = slots.into_boxed_slice().try_into().unwrap();
        Box::new(Counters {
            known: AtomicUsize::new(0),
            names: array::from_fn(|_| Cell::default()),
            replaced: zeros(),
            checks: zeros(),
            check: Cell::default(),
            slots: *slots,
        })
    }

    const DONE: Done = Done {
        status: 200,
        duration: 5000,
        queued: Some(10),
        is_handed_over: false,
        has_raised: false,
        cpu: None,
    };

    fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_series_keeps_its_number_and_the_last_one_takes_what_is_left() {
        on_a_large_stack(|| {
            let counters = counters();
            let pools: Vec<String> = (0..SERIES + 5).map(|n| format!("pool{n}")).collect();
            let numbers = |_| pools.iter().map(|pool| counters.register("app", pool)).collect();
            let first: Vec<usize> = numbers(0);
            assert_eq!(first[..OTHER], (0..OTHER).collect::<Vec<_>>());
            assert!(first[OTHER..].iter().all(|series| *series == OTHER));
            assert_eq!(first, numbers(1));
            assert_eq!(counters.series().len(), OTHER);
            counters.cells(3)[OTHER].done(DONE);
            assert_eq!(counters.series()[OTHER].0, "other");
        });
    }

    #[test]
    fn long_names_are_told_apart() {
        on_a_large_stack(|| {
            let counters = counters();
            let long = "x".repeat(500);
            assert_eq!(counters.register(&format!("{long}a"), "p"), 0);
            assert_eq!(counters.register(&format!("{long}b"), "p"), 1);
            assert_eq!(counters.register(&format!("{long}a"), "p"), 0);
            assert_eq!(counters.register("a", "bp"), 2);
            assert_eq!(counters.register("ab", "p"), 3);
        });
    }

    #[test]
    fn slots_are_summed() {
        on_a_large_stack(|| {
            let counters = counters();
            let series = counters.register("app", "pool");
            for worker in 0..2 * SLOTS {
                counters.cells(worker)[series].done(DONE);
            }
            counters.cells(0)[series].done(Done { status: 0, queued: None, ..DONE });
            counters.cells(1)[series].full(77);
            let (_, _, totals) = counters.series().remove(0);
            assert_eq!(totals.codes, [0, 2 * SLOTS as u64, 0, 1, 0]);
            assert_eq!(totals.requests(), 2 * SLOTS as u64 + 1);
            assert_eq!(totals.rejected, [1, 0, 1, 0, 0]);
            assert_eq!((totals.queued.count(), totals.queued.sum), (64, 640));
            // A bound belongs to what is below it.
            assert_eq!(totals.duration.buckets[0], totals.duration.count());
            assert_eq!(totals.full_at, 77);
        });
    }

    #[test]
    fn a_check_is_remembered() {
        on_a_large_stack(|| {
            let counters = counters();
            assert_eq!(counters.last_check(), None);
            let check = Check { at: 5, is_good: false, said: "no module".into() };
            counters.checked(&check);
            assert_eq!((counters.last_check(), counters.checks()), (Some(check), [1, 0]));
        });
    }
}
