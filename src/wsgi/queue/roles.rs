//! What each runner of a pool is at, and how many are at what.
//!
//! [`Roles`] owns the roles and the counts of them, so that they cannot disagree: [`Roles::set`]
//! alone changes a role. What is asked for each request costs the same with 1,000 threads as with
//! one.
//! Runs on: either, under the queue's lock.

use std::time::{Duration, Instant};

use crate::wsgi::mailbox::ExchangeId;

/// A runner's place among those of its pool. The runner that leaves makes room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(usize);

impl Seat {
    pub fn index(self) -> usize {
        self.0
    }

    /// From 1 to the pool's number of threads.
    pub fn number(self) -> usize {
        self.0 + 1
    }
}

/// Why a runner comes for the GIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The event loop wants it, and has a timer armed for what the runner leaves.
    Timed,
    /// Another runner wants it, which had no timer armed either: its call was `Own` or `Untimed`.
    Untimed,
    /// It has found a job on its way to sleep. No timer is armed.
    Own,
    /// It was at work, and has left the GIL to others for a moment. The event loop looks at what
    /// waits meanwhile.
    Yield,
}

impl Call {
    pub fn is_timed(self) -> bool {
        matches!(self, Self::Timed | Self::Yield)
    }
}

/// What a runner is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// There is no runner.
    Vacant,
    /// A thread has been asked for, and the runner has not begun.
    Starting,
    /// The runner is at no request: it tidies, or is between `pop` and `wait`.
    Awake { since: Instant },
    /// The runner takes no job until it is called. One that is surplus may not have come to `wait`.
    Asleep,
    /// The runner is to wake.
    Called(Call),
    /// The runner comes for the GIL, to `pop`.
    Attaching { since: Instant, call: Call },
    /// The runner is at this request, which it took then.
    Working { job: ExchangeId, since: Instant },
}

/// How many runners are at what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub vacant: usize,
    pub starting: usize,
    pub awake: usize,
    pub asleep: usize,
    pub called: usize,
    pub attaching: usize,
    pub working: usize,
}

impl Counts {
    fn of(&mut self, role: Role) -> &mut usize {
        match role {
            Role::Vacant => &mut self.vacant,
            Role::Starting => &mut self.starting,
            Role::Awake { .. } => &mut self.awake,
            Role::Asleep => &mut self.asleep,
            Role::Called(_) => &mut self.called,
            Role::Attaching { .. } => &mut self.attaching,
            Role::Working { .. } => &mut self.working,
        }
    }

    /// Stand-bys: runners on their way from `wait` or their beginning to `pop`.
    pub fn coming(&self) -> usize {
        self.called + self.attaching
    }

    /// Whether some runner has the GIL, or wants it.
    pub fn is_up(&self) -> bool {
        self.awake + self.attaching + self.working > 0
    }
}

/// A request that was not long when that was last asked.
#[derive(Debug, Clone, Copy)]
struct Short {
    seat: Seat,
    since: Instant,
}

/// The runners of one pool.
pub struct Roles {
    /// One for each thread of the pool.
    all: Vec<Role>,
    counts: Counts,
    /// Who is asleep, the longest first.
    asleep: Vec<Seat>,
    /// Who was called last, if it has not woken.
    called: Option<Seat>,
    /// The oldest first.
    short: Vec<Short>,
}

impl Roles {
    pub fn new(threads: usize) -> Self {
        Self {
            all: vec![Role::Vacant; threads],
            counts: Counts { vacant: threads, ..Counts::default() },
            asleep: Vec::new(),
            called: None,
            short: Vec::new(),
        }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Threads that are at no request, with a runner or without: the room for requests.
    pub fn free(&self) -> usize {
        self.all.len() - self.counts.working
    }

    pub fn get(&self, seat: Seat) -> Role {
        self.all[seat.0]
    }

    #[cfg(test)]
    pub fn seats(&self) -> impl Iterator<Item = (Seat, Role)> {
        self.all.iter().enumerate().map(|(index, role)| (Seat(index), *role))
    }

    /// Returns what the runner was at before. Inlined, since the new role is known at each call.
    #[inline(always)]
    pub fn set(&mut self, seat: Seat, role: Role) -> Role {
        let before = std::mem::replace(&mut self.all[seat.0], role);
        *self.counts.of(before) -= 1;
        *self.counts.of(role) += 1;
        match before {
            Role::Asleep if self.asleep.last() == Some(&seat) => drop(self.asleep.pop()),
            Role::Asleep => self.asleep.retain(|asleep| *asleep != seat),
            Role::Called(_) => self.called = None,
            Role::Working { .. } => self.end_short(seat),
            _ => (),
        }
        match role {
            Role::Asleep => self.asleep.push(seat),
            Role::Called(_) => self.called = Some(seat),
            Role::Working { since, .. } => self.begin_short(Short { seat, since }),
            _ => (),
        }
        debug_assert!(self.agree(), "{:?} {:?}", self.all, self.counts);
        before
    }

    /// Runners read the clock before they have the lock: the last one may not be the latest.
    fn begin_short(&mut self, short: Short) {
        let before = self.short.iter().rposition(|other| other.since <= short.since);
        self.short.insert(before.map_or(0, |before| before + 1), short);
    }

    fn end_short(&mut self, seat: Seat) {
        let last = self.short.len().wrapping_sub(1);
        match self.short.iter().rposition(|short| short.seat == seat) {
            // Mostly there is no other: then nothing is to be moved.
            Some(at) if at == last => drop(self.short.pop()),
            Some(at) => drop(self.short.remove(at)),
            None => (),
        }
    }

    /// How many other runners are at requests that they have not been at for `long` yet.
    pub fn short_beside(&mut self, seat: Seat, now: Instant, long: Duration) -> usize {
        // Mostly there is no other: then nothing is to be compared.
        if self.short.iter().all(|short| short.seat == seat) {
            return 0;
        }
        let is_long = |short: &Short| now - short.since >= long;
        if self.short.first().is_some_and(is_long) {
            let shorter = self.short.iter().position(|short| !is_long(short));
            self.short.drain(..shorter.unwrap_or(self.short.len()));
        }
        self.short.iter().filter(|short| short.seat != seat).count()
    }

    /// Calls the runner that was up last: what it needs is most likely in a processor's caches.
    pub fn call(&mut self, call: Call) -> Option<Seat> {
        let seat = *self.asleep.last()?;
        self.set(seat, Role::Called(call));
        Some(seat)
    }

    /// Who has been called and has not woken.
    pub fn called(&self) -> Option<Seat> {
        self.called
    }

    fn first(&self, role: Role) -> Option<Seat> {
        self.all.iter().position(|other| *other == role).map(Seat)
    }

    /// A runner is about to be started.
    pub fn start(&mut self) {
        if let Some(seat) = self.first(Role::Vacant) {
            self.set(seat, Role::Starting);
        }
    }

    /// The runner that was to be started does not begin.
    pub fn not_started(&mut self) {
        if let Some(seat) = self.first(Role::Starting) {
            self.set(seat, Role::Vacant);
        }
    }

    /// A runner begins, and comes for its first job. `None`: there are as many as threads.
    pub fn begin(&mut self, since: Instant) -> Option<Seat> {
        let seat = self.first(Role::Starting).or_else(|| self.first(Role::Vacant))?;
        self.set(seat, Role::Attaching { since, call: Call::Timed });
        Some(seat)
    }

    /// Whether what is kept beside the roles is what they are.
    fn agree(&self) -> bool {
        let mut counts = Counts::default();
        self.all.iter().for_each(|role| *counts.of(*role) += 1);
        let is_asleep = |seat: &Seat| matches!(self.get(*seat), Role::Asleep);
        let is_at = |short: &Short| match self.get(short.seat) {
            Role::Working { since, .. } => since == short.since,
            _ => false,
        };
        let is_called = |seat| matches!(self.get(seat), Role::Called(_));
        counts == self.counts
            && self.asleep.len() == counts.asleep
            && self.asleep.iter().all(is_asleep)
            && self.short.iter().all(is_at)
            && self.short.is_sorted_by_key(|short| short.since)
            && counts.called == usize::from(self.called.is_some())
            && self.called.is_none_or(is_called)
    }
}
