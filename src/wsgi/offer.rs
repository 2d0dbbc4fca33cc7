//! What two workers agree on by words of memory that they share, without waiting for each other.
//!
//! A request that is handed over has a word, its [`Offer`]: the runner makes it taken before the
//! application is called, or its owner makes it withdrawn to queue the request again. Whichever is
//! first, and however either dies, the application is never called twice.
//!
//! Runs on: pool thread (take), event loop (the rest).

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

/// A word of shared memory. Tests put a model of one in its place.
pub trait Word {
    fn load(&self) -> u32;
    fn store(&self, value: u32);
    /// False if the word was not `from`.
    fn replace(&self, from: u32, to: u32) -> bool;
}

impl Word for AtomicU32 {
    fn load(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }

    fn store(&self, value: u32) {
        self.store(value, Ordering::Relaxed);
    }

    fn replace(&self, from: u32, to: u32) -> bool {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// What the last two bits of a word say; the others count its offers.
const STATE_BITS: u32 = 2;
const OFFERED: u32 = 1;
const TAKEN: u32 = 2;
const WITHDRAWN: u32 = 3;

/// One offer of one request. A worker that is stopped and wakes up much later cannot take another
/// request that is offered by the same word meanwhile.
#[derive(Debug, Clone)]
pub struct Offer<W = &'static AtomicU32> {
    word: W,
    epoch: u32,
}

impl<W: Deref<Target: Word>> Offer<W> {
    /// Owner: offers something by a word, by which nothing is offered any more.
    pub fn make(word: W) -> Self {
        let offer = Self { epoch: (word.load() >> STATE_BITS).wrapping_add(1), word };
        offer.word.store(offer.value(OFFERED));
        offer
    }

    /// Peer: the offer that it was told of.
    pub fn told(word: W, epoch: u32) -> Self {
        Self { word, epoch }
    }

    /// Which of the offers by this word it is.
    pub fn epoch(&self) -> u32 {
        self.value(0) >> STATE_BITS
    }

    /// Runner: true if the request is this worker's now, to be run once.
    pub fn take(&self) -> bool {
        self.word.replace(self.value(OFFERED), self.value(TAKEN))
    }

    /// Owner: true if nobody takes it from now on; false if it has been taken. The answer stays the
    /// same until the word is used again.
    pub fn withdraw(&self) -> bool {
        let withdrawn = self.value(WITHDRAWN);
        self.word.replace(self.value(OFFERED), withdrawn) || self.word.load() == withdrawn
    }

    /// The highest bits of the number are lost: it is used again after 2^30 offers.
    fn value(&self, state: u32) -> u32 {
        self.epoch << STATE_BITS | state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as Model;
    use loom::thread;

    impl Word for Model {
        fn load(&self) -> u32 {
            self.load(Ordering::Relaxed)
        }

        fn store(&self, value: u32) {
            self.store(value, Ordering::Relaxed);
        }

        fn replace(&self, from: u32, to: u32) -> bool {
            self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        }
    }

    #[test]
    fn an_offer_is_taken_or_withdrawn_and_never_both() {
        loom::model(|| {
            let word = Arc::new(Model::new(0));
            let offer = Offer::make(Arc::clone(&word));
            let told = Offer::told(word, offer.epoch());
            let runner = thread::spawn(move || told.take());
            let withdrawn = offer.withdraw();
            assert_eq!(runner.join().unwrap(), !withdrawn);
            assert_eq!((offer.withdraw(), offer.take()), (withdrawn, false));
        });
    }

    /// The runner of a worker that was stopped in between.
    #[test]
    fn a_late_runner_takes_no_other_offer_by_the_same_word() {
        loom::model(|| {
            let word = Arc::new(Model::new(0));
            let first = Offer::make(Arc::clone(&word));
            let told = Offer::told(Arc::clone(&word), first.epoch());
            let runner = thread::spawn(move || told.take());
            if first.withdraw() {
                let second = Offer::make(word);
                assert!(second.withdraw());
                assert!(!runner.join().unwrap());
            }
        });
    }

    #[test]
    fn the_count_of_offers_starts_again() {
        let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(u32::MAX)));
        let offer = Offer::make(word);
        assert_eq!(offer.epoch(), 0);
        assert!(Offer::told(word, 0).take() && !offer.withdraw());
        assert_eq!(Offer::make(word).epoch(), 1);
        assert!(!Offer::told(word, 0).take());
    }
}
