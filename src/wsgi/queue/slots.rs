//! Which request each runner is at, and which runners are lost: stuck in a request that was to end.
//!
//! A runner writes its own [`RunnerSlot`], the event loop reads all of them. A lost runner that
//! comes back is not lost any more. Runs on: pool thread (`RunnerSlot`), event loop (the rest).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::ExchangeId;

/// In a slot beside the number of the exchange.
const LOST: u64 = 1 << 63;

/// What one runner is at; 0: nothing.
#[derive(Debug, Default)]
pub struct RunnerSlot(AtomicU64);

impl RunnerSlot {
    /// The runner takes a request.
    pub fn enter(&self, id: ExchangeId) {
        self.0.store(id, Ordering::Relaxed);
    }

    /// The runner is done with it; true if it had been lost.
    pub fn leave(&self) -> bool {
        self.0.swap(0, Ordering::AcqRel) & LOST != 0
    }

    fn is_at(&self, id: ExchangeId) -> bool {
        self.0.load(Ordering::Acquire) & !LOST == id
    }

    fn lose(&self, id: ExchangeId) -> bool {
        self.0.compare_exchange(id, id | LOST, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The slots of one pool.
#[derive(Debug, Default)]
pub struct RunnerSlots {
    all: Mutex<Vec<Arc<RunnerSlot>>>,
    lost: AtomicUsize,
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

    /// The runner at this exchange counts as lost from now on; false if there is none.
    pub fn lose(&self, id: ExchangeId) -> bool {
        let all = self.lock();
        let lost = all.iter().any(|slot| slot.lose(id));
        if lost {
            self.lost.fetch_add(1, Ordering::AcqRel);
        }
        lost
    }

    /// A lost runner has come back.
    pub fn found(&self) {
        // Under the lock: it cannot be counted out before it has been counted.
        let _all = self.lock();
        self.lost.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many runners are lost.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_lost_once_and_found_when_it_leaves() {
        let slots = RunnerSlots::default();
        let (one, other) = (slots.add(), slots.add());
        one.enter(5);
        other.enter(6);
        assert!(slots.is_at(5) && slots.is_at(6) && !slots.is_at(7));
        assert!(slots.lose(5));
        assert!(!slots.lose(5) && !slots.lose(7));
        assert_eq!(slots.lost(), 1);
        assert!(slots.is_at(5));
        assert!(!other.leave());
        assert!(one.leave());
        slots.found();
        assert_eq!(slots.lost(), 0);
        assert!(!slots.is_at(5) && !slots.is_at(6));
        one.enter(8);
        assert!(!one.leave());
        slots.remove(&one);
        one.enter(9);
        assert!(!slots.is_at(9));
    }
}
