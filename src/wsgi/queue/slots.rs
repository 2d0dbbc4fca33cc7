//! Which request each runner is at, and which runners are stuck in a request that was to end.
//!
//! A runner writes its own [`RunnerSlot`], the event loop reads all of them. A stuck runner that
//! comes back has recovered. Runs on: pool thread (`RunnerSlot`), event loop (the rest).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::ExchangeId;

/// In a slot beside the number of the exchange.
const STUCK: u64 = 1 << 63;

/// What one runner is at; 0: nothing.
#[derive(Debug, Default)]
pub struct RunnerSlot(AtomicU64);

impl RunnerSlot {
    /// The runner takes a request.
    pub fn enter(&self, id: ExchangeId) {
        self.0.store(id, Ordering::Relaxed);
    }

    /// The runner is done with its request; true if the runner had been stuck.
    pub fn leave(&self) -> bool {
        self.0.swap(0, Ordering::AcqRel) & STUCK != 0
    }

    fn is_at(&self, id: ExchangeId) -> bool {
        self.0.load(Ordering::Acquire) & !STUCK == id
    }

    fn set_stuck(&self, id: ExchangeId) -> bool {
        self.0.compare_exchange(id, id | STUCK, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The slots of one pool.
#[derive(Debug, Default)]
pub struct RunnerSlots {
    all: Mutex<Vec<Arc<RunnerSlot>>>,
    stuck: AtomicUsize,
}

impl RunnerSlots {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<RunnerSlot>>> {
        lock(&self.all)
    }

    /// A runner begins.
    pub fn add(&self) -> Arc<RunnerSlot> {
        let slot = Arc::new(RunnerSlot::default());
        self.lock().push(Arc::clone(&slot));
        slot
    }

    /// A runner leaves.
    pub fn remove(&self, slot: &Arc<RunnerSlot>) {
        self.lock().retain(|known| !Arc::ptr_eq(known, slot));
    }

    /// Whether a runner is at this exchange.
    pub fn is_at(&self, id: ExchangeId) -> bool {
        self.lock().iter().any(|slot| slot.is_at(id))
    }

    /// Whether a runner is at this exchange, and counts as stuck.
    pub fn is_stuck(&self, id: ExchangeId) -> bool {
        self.lock().iter().any(|slot| slot.0.load(Ordering::Acquire) == id | STUCK)
    }

    /// The runner at this exchange counts as stuck from now on; false if there is none.
    pub fn set_stuck(&self, id: ExchangeId) -> bool {
        let all = self.lock();
        let stuck = all.iter().any(|slot| slot.set_stuck(id));
        if stuck {
            self.stuck.fetch_add(1, Ordering::AcqRel);
        }
        stuck
    }

    /// A stuck runner has come back.
    pub fn recovered(&self) {
        // Under the lock: no runner is counted out before `set_stuck` has counted it.
        let _all = self.lock();
        self.stuck.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many runners are stuck.
    pub fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_stuck_once_and_recovers_when_it_leaves() {
        let slots = RunnerSlots::default();
        let (one, other) = (slots.add(), slots.add());
        one.enter(5);
        other.enter(6);
        assert!(slots.is_at(5) && slots.is_at(6) && !slots.is_at(7));
        assert!(slots.set_stuck(5));
        assert!(!slots.set_stuck(5) && !slots.set_stuck(7));
        assert_eq!(slots.stuck(), 1);
        assert!(slots.is_at(5) && slots.is_stuck(5) && !slots.is_stuck(6));
        assert!(!other.leave());
        assert!(one.leave());
        slots.recovered();
        assert_eq!(slots.stuck(), 0);
        assert!(!slots.is_at(5) && !slots.is_at(6));
        one.enter(8);
        assert!(!one.leave());
        slots.remove(&one);
        one.enter(9);
        assert!(!slots.is_at(9));
    }
}
