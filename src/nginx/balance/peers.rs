//! Who takes a request: the other workers as this one sees them.
//!
//! Runs on: event loop.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::zone::{Slot, Table};
use crate::nginx::config::Forced;
use crate::nginx::worker::identity::is_alive;
use crate::wsgi::board::Clock;
use crate::wsgi::queue::Claim;

/// For so long a worker is left alone that had no room after all, or has closed a link.
const REST: Duration = Duration::from_millis(5);
/// The same if it has let an offer lie, since its interpreter may be held by one thread for long; or
/// if there can be no link to it: nginx logs each try of a worker without a free connection.
const LONG_REST: Duration = Duration::from_secs(1);

/// An interpreter that has been idle for so long is not about to be used.
pub const IDLE: Duration = Duration::from_micros(200);

/// What another worker is to have.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub claim: Claim,
    /// An interpreter counts as idle after this time.
    pub idle: Duration,
}

/// A free thread, idle interpreter or not.
pub const ROOM: Wanted = Wanted { claim: Claim::Room, idle: IDLE };

/// What this worker knows of another one.
#[derive(Default)]
struct Peer {
    /// Offers that it has neither taken nor refused.
    untaken: Cell<usize>,
    /// The holder of the slot that is left alone, and until when.
    rests: Cell<Option<(u64, Instant)>>,
    /// It has let an offer lie, and said nothing since.
    is_silent: Cell<bool>,
    /// The holder of the slot that is not to be reckoned with any more, see [`Slot::holder`].
    gone: Cell<u64>,
}

impl Peer {
    fn is_resting(&self, holder: u64, now: Instant) -> bool {
        let rests = self.rests.get().is_some_and(|(who, until)| who == holder && now < until);
        self.is_silent.get() || rests
    }
}

/// All slots.
pub struct Peers {
    own: usize,
    table: Table,
    clock: Clock,
    forced: Option<Forced>,
    all: Vec<Peer>,
}

impl Peers {
    pub fn new(own: usize, table: Table, clock: Clock, forced: Option<Forced>) -> Self {
        let all = table.slots().iter().map(|_| Peer::default()).collect();
        Self { own, table, clock, forced, all }
    }

    /// It is left alone for a moment.
    pub fn rest(&self, slot: usize, now: Instant) {
        self.rest_for(slot, now, REST);
    }

    /// There can be no link to it now: it is left alone for longer.
    pub fn unlinked(&self, slot: usize, now: Instant) {
        self.rest_for(slot, now, LONG_REST);
    }

    fn rest_for(&self, slot: usize, now: Instant, time: Duration) {
        self.all[slot].rests.set(Some((self.holder(slot), now + time)));
    }

    fn holder(&self, slot: usize) -> u64 {
        self.table.slots()[slot].holder.load(Ordering::Acquire)
    }

    /// It has let an offer lie; true if it was not known to be silent.
    pub fn let_lie(&self, slot: usize, now: Instant) -> bool {
        self.rest_for(slot, now, LONG_REST);
        !self.all[slot].is_silent.replace(true)
    }

    /// It has said something.
    pub fn has_spoken(&self, slot: usize) {
        self.all[slot].is_silent.set(false);
    }

    /// It has been made an offer.
    pub fn offered(&self, slot: usize) {
        let untaken = &self.all[slot].untaken;
        untaken.set(untaken.get() + 1);
    }

    /// An offer has been taken or refused, or is withdrawn.
    pub fn settled(&self, slot: usize) {
        let untaken = &self.all[slot].untaken;
        untaken.set(untaken.get().saturating_sub(1));
    }

    /// The pid of its worker.
    pub fn pid(&self, slot: usize) -> u32 {
        (self.holder(slot) >> 32) as u32
    }

    /// The link to it has ended. Its worker is left alone for a moment, or, if the worker is dead or
    /// `is_broken`, until another one has its slot. For longer if nothing `was_said`: it has not got
    /// its end of the link.
    pub fn ended(&self, slot: usize, is_broken: bool, was_said: bool, now: Instant) {
        let holder = self.holder(slot);
        if is_broken || !is_alive(holder) {
            self.all[slot].gone.set(holder);
        }
        self.rest_for(slot, now, if was_said { REST } else { LONG_REST });
        self.has_spoken(slot);
    }

    /// Whether a request may be handed to the worker of this slot at all.
    fn may_take(&self, slot: usize) -> bool {
        match self.forced {
            Some(Forced::ToSelf) => slot == self.own,
            _ => slot != self.own,
        }
    }

    /// The slots whose workers serve this application.
    fn serving(&self, app: usize) -> impl Iterator<Item = usize> {
        (0..self.all.len()).filter(move |slot| {
            let Slot { holder, is_open } = &self.table.slots()[*slot];
            self.may_take(*slot)
                && is_open.load(Ordering::Acquire)
                && holder.load(Ordering::Acquire) != self.all[*slot].gone.get()
                && self.table.loaded(*slot)[app].load(Ordering::Acquire)
        })
    }

    /// Whether anybody serves this application, with room or without.
    pub fn is_served(&self, app: usize) -> bool {
        self.serving(app).next().is_some()
    }

    fn room(&self, slot: usize, pool: usize) -> usize {
        self.table.boards(slot)[pool].room().saturating_sub(self.all[slot].untaken.get())
    }

    /// Whether anybody could take one more request, now or in a moment.
    pub fn has_room(&self, pool: usize, app: usize) -> bool {
        // A short rest is a moment.
        let soon = Instant::now() + REST;
        let mut able =
            self.serving(app).filter(|slot| !self.all[*slot].is_resting(self.holder(*slot), soon));
        able.any(|slot| self.room(slot, pool) > 0)
    }

    /// The slot whose worker is best for a request: one with an idle interpreter, and with the most
    /// room. `None`: nobody has what is wanted.
    pub fn choose(&self, pool: usize, app: usize, wanted: Wanted, now: Instant) -> Option<usize> {
        let able = self.serving(app).filter_map(|slot| {
            let peer = &self.all[slot];
            let boards = self.table.boards(slot);
            let room = self.room(slot, pool);
            if room == 0 || peer.is_resting(self.holder(slot), now) {
                return None;
            }
            let is_idle = peer.untaken.get() == 0
                && boards.iter().all(|board| board.is_idle(self.clock, now, wanted.idle));
            (is_idle || wanted.claim == Claim::Room).then_some((is_idle, room, slot))
        });
        let (.., slot) = able.max()?;
        Some(slot)
    }
}
