//! Generations: the workers of one configuration, from the reload that started them to the next.
//!
//! A new worker leaves new connections to others as long as its applications are being imported and
//! somebody else serves. A worker that a reload has told to quit goes on serving until the newest
//! generation has loaded. Both see it in one [`Table`], in memory that master and workers share and
//! that outlives reloads. A worker may die at any time: what it has written counts only as long as
//! its process lives, which the caller looks up. `src/nginx/worker/generation.rs` has the table,
//! `accepting.rs` and `hold.rs` there act on what it says.
//! Runs on: event loop; [`Table::raise`] in the master.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// nginx has at most so many processes (NGX_MAX_PROCESSES).
const MAX_WORKERS: usize = 1024;

/// The master starts a worker in place of a dead one at once. A successor that has not come after
/// so long will not come.
const NEVER_CAME: Duration = Duration::from_secs(5);
/// How often it is looked up whether a process that others wait for still lives.
const LOOK: Duration = Duration::from_secs(1);

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The applications are being imported.
    Loading,
    /// The imports have ended, well or badly; new connections are left to other workers.
    Settled,
    /// The imports have ended, and connections are accepted.
    Serving,
    /// The listening sockets are about to be closed, or have been, or nobody is to rely on them.
    Leaving,
}

impl Stage {
    fn has_loaded(self) -> bool {
        matches!(self, Self::Settled | Self::Serving)
    }
}

/// What a worker tells the others of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    pub generation: u32,
    /// ngx_worker, which the successor of a dead worker has too.
    pub worker: u16,
    pub stage: Stage,
}

impl Seat {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.worker) << 8 | self.stage as u64
    }

    fn unpack(word: u64) -> Self {
        let stage = match word & 0xff {
            0 => Stage::Loading,
            1 => Stage::Settled,
            2 => Stage::Serving,
            _ => Stage::Leaving,
        };
        Self { generation: (word >> 32) as u32, worker: (word >> 8) as u16, stage }
    }
}

/// The place of one worker in the table.
pub struct Member {
    /// Which process it is; 0: nobody's place so far.
    who: AtomicU64,
    /// A packed [`Seat`], written by this process alone.
    seat: AtomicU64,
}

impl Member {
    pub fn seat(&self) -> Seat {
        Seat::unpack(self.seat.load(Ordering::Acquire))
    }

    pub fn reach(&self, stage: Stage) {
        self.seat.store(Seat { stage, ..self.seat() }.pack(), Ordering::Release);
    }
}

/// How far the newest generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All imports have ended.
    Loaded,
    Loading,
    /// Workers that have not loaded are dead, and no others have come in their place so far.
    Missing,
}

/// One listening socket of a new worker.
#[derive(Debug, Clone, Copy)]
pub struct Socket {
    /// No other worker of its generation has it (`reuseport`).
    pub is_own: bool,
    /// Its configuration has opened it.
    pub is_new: bool,
}

/// Whether a worker that has loaded waits for the others of its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Awaited,
    /// It has waited long enough.
    GivenUp,
}

/// The listening sockets that a new worker may accept on, since nobody else serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sockets {
    pub all: bool,
    /// Those that no worker but this one has, and the ones before it (`reuseport`).
    own: bool,
    /// Those that no other generation has.
    new: bool,
}

impl Sockets {
    const ALL: Self = Self { all: true, own: true, new: true };

    pub fn include(self, socket: Socket) -> bool {
        self.all || socket.is_own && self.own || socket.is_new && self.new
    }
}

/// What a reload has changed of the listening sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Sockets are there that were not.
    pub opened: bool,
    /// Sockets are to be closed.
    pub dropped: bool,
}

/// What a worker sees that has been told to quit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// No generation follows.
    Last,
    /// This generation follows, and imports its applications.
    Pending(u32),
    /// A newer generation has loaded.
    Loaded,
    /// A newer generation has dropped sockets, which others may want.
    Dropped,
    /// The generation that follows has been told to quit with no other behind it.
    Ended,
}

/// What master and workers share. All zero at first.
pub struct Table {
    /// The newest generation and, in the lower half, how many workers it has.
    newest: AtomicU64,
    /// The newest generation that has loaded.
    loaded: AtomicU32,
    /// The newest generation that was told to quit with no other behind it.
    ended: AtomicU32,
    /// The newest generation that has opened listening sockets.
    opened: AtomicU32,
    /// The newest generation that has dropped listening sockets.
    dropped: AtomicU32,
    members: [Member; MAX_WORKERS],
}

impl Table {
    /// The master is about to start so many workers: the number of their generation.
    pub fn raise(&self, workers: usize, change: Change) -> u32 {
        let generation = self.newest().0 + 1;
        if change.opened {
            self.opened.store(generation, Ordering::Release);
        }
        if change.dropped {
            self.dropped.store(generation, Ordering::Release);
        }
        let workers = workers.min(MAX_WORKERS) as u64;
        self.newest.store(u64::from(generation) << 32 | workers, Ordering::Release);
        generation
    }

    fn newest(&self) -> (u32, usize) {
        let newest = self.newest.load(Ordering::Acquire);
        ((newest >> 32) as u32, newest as u32 as usize)
    }

    /// A worker has started: its place, that of its dead predecessor if there is one.
    pub fn join(
        &self,
        who: u64,
        generation: u32,
        worker: u16,
        is_alive: impl Fn(u64) -> bool,
    ) -> Option<&Member> {
        let is_predecessor = |member: &&Member| {
            let seat = member.seat();
            (seat.generation, seat.worker) == (generation, worker)
        };
        let members = self.members.iter().filter(is_predecessor).chain(self.members.iter());
        for member in members {
            let before = member.who.load(Ordering::Acquire);
            if (before == 0 || !is_alive(before))
                && member
                    .who
                    .compare_exchange(before, who, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                let seat = Seat { generation, worker, stage: Stage::Loading };
                member.seat.store(seat.pack(), Ordering::Release);
                return Some(member);
            }
        }
        None
    }

    fn seats(&self) -> impl Iterator<Item = (u64, Seat)> {
        let members = self.members.iter();
        members
            .map(|member| (member.who.load(Ordering::Acquire), member.seat()))
            .filter(|(who, _)| *who != 0)
    }

    /// Workers of other generations than this one that have not gone.
    pub fn earlier(&self, generation: u32, is_alive: impl Fn(u64) -> bool) -> usize {
        let others = self.seats().filter(|(_, seat)| seat.generation != generation);
        others.filter(|(who, _)| is_alive(*who)).count()
    }

    /// How far the newest generation is.
    pub fn progress(&self, is_alive: impl Fn(u64) -> bool) -> Progress {
        let (newest, workers) = self.newest();
        let own = || self.seats().filter(|(_, seat)| seat.generation == newest);
        let mut settled = [false; MAX_WORKERS];
        for (_, seat) in own().filter(|(_, seat)| seat.stage.has_loaded()) {
            if let Some(settled) = settled.get_mut(usize::from(seat.worker)) {
                *settled = true;
            }
        }
        let is_settled = |worker: u16| settled.get(usize::from(worker)).copied().unwrap_or(true);
        if settled.iter().take(workers).all(|settled| *settled) {
            Progress::Loaded
        } else if own().any(|(who, seat)| {
            // The successor of one that leaves comes when it has gone.
            !is_settled(seat.worker) && is_alive(who)
        }) {
            Progress::Loading
        } else {
            Progress::Missing
        }
    }

    /// What the worker in `own` may accept on. `runs`: whether a process runs, which one that is
    /// stopped does not.
    pub fn sockets(&self, own: &Member, others: Others, runs: impl Fn(u64) -> bool) -> Sockets {
        let (me, seat) = (own.who.load(Ordering::Acquire), own.seat());
        // Nobody else's process is looked up unless the answer depends on it.
        let is_served = |by: &dyn Fn(&Seat) -> bool| {
            self.seats().any(|(who, seat)| {
                who != me && seat.stage == Stage::Serving && by(&seat) && runs(who)
            })
        };
        if seat.stage.has_loaded() {
            self.note_loaded(seat.generation, others);
            if self.is_loaded(seat.generation)
                || is_served(&|other| other.generation == seat.generation)
            {
                return Sockets::ALL;
            }
        }
        // Whoever serves may lack sockets that a generation has opened which was overtaken before it
        // had loaded, and which they are is not known any more.
        let opened = self.opened.load(Ordering::Acquire);
        let is_overtaken = opened < seat.generation && !self.is_loaded(opened);
        if !is_served(&|other| !is_overtaken || other.generation >= opened) {
            return Sockets::ALL;
        }
        Sockets {
            all: false,
            own: !is_served(&|other| other.worker == seat.worker),
            new: !is_served(&|other| other.generation == seat.generation),
        }
    }

    /// A worker of this generation has loaded. All of them begin together, so that old code and new
    /// code do not answer in turn: others may wait for this one.
    pub fn note_loaded(&self, generation: u32, others: Others) {
        if others == Others::GivenUp || self.progress(|_| true) == Progress::Loaded {
            self.loaded.fetch_max(generation, Ordering::AcqRel);
        }
    }

    fn is_loaded(&self, generation: u32) -> bool {
        self.loaded.load(Ordering::Acquire) >= generation
    }

    /// What a worker of this generation has before it that has been told to quit.
    pub fn outlook(&self, generation: u32) -> Outlook {
        let (newest, _) = self.newest();
        if newest <= generation {
            Outlook::Last
        } else if self.is_loaded(generation + 1) {
            Outlook::Loaded
        } else if self.dropped.load(Ordering::Acquire) > generation {
            Outlook::Dropped
        } else if self.ended.load(Ordering::Acquire) >= newest {
            Outlook::Ended
        } else {
            Outlook::Pending(newest)
        }
    }

    /// This generation has been told to quit with no other behind it.
    pub fn end(&self, generation: u32) {
        self.ended.fetch_max(generation, Ordering::AcqRel);
    }
}

/// How long workers have been missing that others wait for.
#[derive(Debug, Clone, Copy)]
pub struct Vacancy {
    looked: Instant,
    since: Option<Instant>,
}

impl Vacancy {
    pub fn new(now: Instant) -> Self {
        Self { looked: now, since: None }
    }

    /// Whether nobody will come any more. Looks once in a while.
    pub fn is_final(&mut self, now: Instant, progress: impl FnOnce() -> Progress) -> bool {
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.since = match progress() {
                Progress::Missing => self.since.or(Some(now)),
                _ => None,
            };
        }
        self.since.is_some_and(|since| now.duration_since(since) >= NEVER_CAME)
    }
}

#[cfg(test)]
mod tests;
