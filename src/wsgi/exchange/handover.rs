//! What an exchange knows of two workers: the owner has the client, the peer runs the request.
//!
//! The peer has an exchange of its own, an ordinary one but for the offer that its thread has to
//! take. The owner's is written to by the event loop in the name of that thread, and notes what the
//! peer is to be told: whoever reads a response, or stops reading, need not know of another worker.
//! Runs on: event loop.

use std::time::{Duration, Instant};

#[cfg(test)]
use super::InFlight;
use super::owed::{HandedOver, Owed};
use super::{Account, Exchange, Progress, ResponseSender};
use crate::wsgi::mailbox::{Level, LogRecord, Mail};
use crate::wsgi::offer::Offer;

impl Exchange {
    /// Peer: the thread has to take this offer before it begins. Called before the request is
    /// queued.
    pub fn require(&self, offer: Offer) {
        self.lock().offer = Some(offer);
    }

    /// Owner: the request is about to be offered to the worker with this pid. From now on
    /// [`Mail::Relay`] comes whenever that worker is to be told something.
    pub fn hand_over(&self, offer: Offer, pid: u32) {
        self.lock().over = Some(Box::new(HandedOver::new(offer, pid)));
    }

    /// Owner: takes the request back, to be queued in this worker. False if a thread of the peer
    /// has the request already.
    pub fn take_back(&self) -> bool {
        let mut state = self.lock();
        let is_back = state.take_back();
        if is_back {
            state.over = None;
        }
        is_back
    }

    /// Owner: the pid of the worker that the request is offered to, or runs in.
    pub fn handed_over(&self) -> Option<u32> {
        self.lock().over.as_ref().map(|over| over.pid)
    }

    /// What is counted of the request when it has ended. Event loop.
    pub fn account(&self) -> Account {
        let state = self.lock();
        Account { taken: state.taken, is_handed_over: state.over.is_some(), cpu: state.cpu }
    }

    /// Owner: what the peer is to be told, once.
    pub fn take_owed(&self) -> Option<Owed> {
        self.lock().over.as_mut()?.take_owed()
    }

    pub(super) fn tell_peer(&self) {
        self.mailbox.post_soon(Mail::Relay(self.id));
    }

    /// Peer: [`Exchange::cpu`], once.
    pub fn take_cpu(&self) -> Option<Duration> {
        self.lock().cpu.take()
    }

    /// Peer: bytes of memory that the owner may have of the response.
    pub fn window(&self) -> usize {
        self.lock().buffering.window()
    }

    /// What was sent, and is not consumed.
    #[cfg(test)]
    pub fn ahead(&self) -> InFlight {
        self.lock().ahead
    }

    /// Peer: a chunk has been divided, and is passed on as two.
    pub fn divided(&self) {
        self.lock().ahead.chunks += 1;
    }
}

impl ResponseSender {
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Owner: the peer says that its application, or what the application has sent, waits for the
    /// client. A client that has taken half of the window meanwhile is not waited for: the peer
    /// will be told.
    pub fn blocked(&mut self) {
        let mut state = self.exchange.lock();
        if state.progress != Progress::Ended {
            let goes_on = state.is_half_free();
            state.progress =
                if goes_on { Progress::Silent(Instant::now()) } else { Progress::Blocked };
            self.exchange.announce(state);
        }
    }

    /// Owner: the peer's thread has used so much processor time.
    pub fn spent(&self, cpu: Duration) {
        self.exchange.lock().cpu = Some(cpu);
    }

    /// Owner: lines that the peer's thread has logged.
    pub fn log(&self, level: Level, text: String) {
        // The writer has waited for room, if it had to, in its own worker.
        self.exchange.mailbox.log(LogRecord { exchange: Some(self.id()), level, text });
    }
}
