//! Exchanges are opened in the memory of others that have ended.
//!
//! What one thread takes from the allocator and another gives back never returns to the first
//! one's cache: both would go to the heap, and its lock, for every request.
//! Runs on: event loop.

use std::mem;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::blocks::Blocks;
use super::interrupt::Interruption;
use super::spool::Buffering;
use super::state::State;
use super::{Exchange, ResponseSender};
use crate::wsgi::mailbox::{ExchangeId, Mailbox};

impl Exchange {
    /// `buffering`: how far the application may run ahead.
    pub fn open(
        id: ExchangeId,
        buffering: Buffering,
        mailbox: Arc<Mailbox>,
    ) -> (Arc<Self>, ResponseSender) {
        let piece = buffering.size.max(1);
        let exchange = Arc::new(Self {
            id,
            mailbox,
            cancelled: AtomicBool::new(false),
            interruption: Interruption::default(),
            state: Mutex::new(State::new(buffering)),
            room: Condvar::new(),
        });
        let (blocks, failed) = (Blocks::default(), false);
        let sender = ResponseSender { exchange: Arc::clone(&exchange), piece, blocks, failed };
        (exchange, sender)
    }

    /// As [`Self::open`], in place of one that has ended; its memory is used again unless somebody
    /// else has it still.
    pub fn open_over(
        mut old: Arc<Self>,
        id: ExchangeId,
        buffering: Buffering,
    ) -> (Arc<Self>, ResponseSender) {
        let Some(this) = Arc::get_mut(&mut old) else {
            return Self::open(id, buffering, Arc::clone(&old.mailbox));
        };
        let piece = buffering.size.max(1);
        this.id = id;
        *this.cancelled.get_mut() = false;
        this.interruption = Interruption::default();
        let state = this.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let State { blocks, .. } = mem::replace(state, State::new(buffering));
        let sender = ResponseSender { exchange: Arc::clone(&old), piece, blocks, failed: false };
        (old, sender)
    }

    /// Leaves blocks for whoever is opened over this one; false if somebody else still has it, so
    /// that nothing can be.
    pub fn leave(this: &mut Arc<Self>, blocks: Blocks) -> bool {
        let Some(this) = Arc::get_mut(this) else { return false };
        let state = this.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nothing of the response is kept longer than the request.
        *state = State { blocks: blocks.cleared(), ..State::new(Buffering::default()) };
        true
    }
}
