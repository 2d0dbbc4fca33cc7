//! What the exchange of an owner notes of the peer that has its request: see `handover.rs`.
//!
//! Runs on: event loop.

use super::in_flight::InFlight;
use crate::wsgi::offer::Offer;

/// What the owner is to tell the peer. What comes later in this list makes up for what is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// nginx has passed on so much.
    Credit(InFlight),
    /// See [`Exchange::discard`].
    Discard,
    /// See [`Exchange::cancel`]; the offer may have been withdrawn.
    Cancel,
}

/// The request is offered to another worker, or runs there.
#[derive(Debug)]
pub struct HandedOver {
    offer: Offer,
    /// The process that it is handed over to.
    pub pid: u32,
    owed: Option<Owed>,
}

impl HandedOver {
    pub fn new(offer: Offer, pid: u32) -> Self {
        Self { offer, pid, owed: None }
    }

    /// False if a thread of the peer has taken the request.
    pub fn withdraw(&self) -> bool {
        self.offer.withdraw()
    }

    /// True if nothing was owed before.
    pub fn owe(&mut self, owed: Owed) -> bool {
        let is_first = self.owed.is_none();
        self.owed = Some(match (self.owed, owed) {
            (Some(Owed::Credit(before)), Owed::Credit(more)) => Owed::Credit(before.plus(more)),
            (Some(Owed::Discard), Owed::Credit(_)) => Owed::Discard,
            (Some(Owed::Cancel), _) => Owed::Cancel,
            (_, owed) => owed,
        });
        is_first
    }

    pub fn take_owed(&mut self) -> Option<Owed> {
        self.owed.take()
    }
}
