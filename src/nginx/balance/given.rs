//! Requests of this worker's clients that are offered to other workers, or run there.
//!
//! All of a request is kept until it is taken: then it can be queued here again.
//! Runs on: event loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wsgi::application::AppSlot;
use crate::wsgi::mailbox::ExchangeId;
use crate::wsgi::numbers::NumberMap;
use crate::wsgi::queue::{Job, Place};
use crate::wsgi::relay::OwnerEnd;
use crate::wsgi::request::Request;

/// An offer that nobody takes for so long is withdrawn.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is needed to queue a request again.
pub struct Back {
    pub app: &'static AppSlot,
    pub request: Request,
    pub place: Place,
}

/// A request that is handed over.
pub struct Entry {
    pub end: OwnerEnd,
    /// The link's number.
    pub link: u64,
    pub slot: usize,
    pub pool: usize,
    /// The index of the offer's word. It is not used again before this is dropped.
    pub word: usize,
    /// Until it is taken.
    pub back: Option<Back>,
    pub offered: Instant,
}

/// A request that was handed over and is to be queued here again.
pub struct Returned {
    pub job: Job,
    pub place: Place,
    pub pool: usize,
    /// Whom it was offered to.
    pub slot: usize,
}

/// All of them, by the numbers of their exchanges.
#[derive(Default)]
pub struct Given {
    pub all: RefCell<NumberMap<Entry>>,
    /// Words that are not in use.
    words: RefCell<Vec<usize>>,
    /// What may not be taken yet, and since when: the oldest first.
    untaken: RefCell<VecDeque<(ExchangeId, Instant)>>,
}

impl Given {
    /// With so many words.
    pub fn new(words: usize) -> Self {
        Self { words: RefCell::new((0..words).rev().collect()), ..Self::default() }
    }

    /// A word for one more offer. `None`: too many requests are handed over already.
    pub fn take_word(&self) -> Option<usize> {
        self.words.borrow_mut().pop()
    }

    /// A word that [`Self::take_word`] has given is not needed.
    pub fn free_word(&self, word: usize) {
        self.words.borrow_mut().push(word);
    }

    pub fn insert(&self, id: ExchangeId, entry: Entry) {
        self.untaken.borrow_mut().push_back((id, entry.offered));
        self.all.borrow_mut().insert(id, entry);
    }

    /// The request has an end, or is this worker's again. Returns its entry, whose word is free.
    pub fn remove(&self, id: ExchangeId) -> Option<Entry> {
        let entry = self.all.borrow_mut().remove(&id)?;
        self.free_word(entry.word);
        Some(entry)
    }

    /// The request is this worker's again, unless a thread has taken it.
    pub fn take_back(&self, id: ExchangeId) -> Option<Returned> {
        let all = self.all.borrow();
        let entry = all.get(&id)?;
        if entry.back.is_none() || !entry.end.exchange().take_back() {
            return None;
        }
        drop(all);
        let Entry { end, pool, slot, back, .. } = self.remove(id)?;
        let Back { app, request, place } = back?;
        let job = Job::Call { app, request, response: end.into_sender() };
        Some(Returned { job, place, pool, slot })
    }

    /// What has been handed over by this link.
    pub fn of_link(&self, link: u64) -> Vec<ExchangeId> {
        let all = self.all.borrow();
        all.iter().filter(|(_, entry)| entry.link == link).map(|(id, _)| *id).collect()
    }

    /// The offers that have lain for too long.
    pub fn overdue(&self, now: Instant) -> Vec<ExchangeId> {
        let (mut untaken, all) = (self.untaken.borrow_mut(), self.all.borrow());
        let mut overdue = Vec::new();
        while let Some((id, since)) = untaken.front().copied() {
            // It may have come back, and been offered once more.
            let is_untaken =
                all.get(&id).is_some_and(|entry| entry.back.is_some() && entry.offered == since);
            if is_untaken && now.saturating_duration_since(since) < PATIENCE {
                break;
            }
            untaken.pop_front();
            if is_untaken {
                overdue.push(id);
            }
        }
        overdue
    }

    /// By which link a request has been offered.
    pub fn link(&self, id: ExchangeId) -> Option<u64> {
        self.all.borrow().get(&id).map(|entry| entry.link)
    }

    /// Whether an offer lies.
    pub fn has_untaken(&self) -> bool {
        !self.untaken.borrow().is_empty()
    }
}
