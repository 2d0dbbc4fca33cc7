//! A WebSocket between the event loop, which has the client, and threads of the application.
//!
//! Each side has its half of the functions. What the client sends waits in memory up to a limit,
//! then the event loop stops reading; what the application sends does too, then its thread waits,
//! detached from Python. Whoever ends the conversation wakes all who wait.
//! Runs on: either; each function says which.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::wsgi::fork;
use crate::wsgi::lock::lock;

use super::handshake::{Accepted, Offer, Refusal};
use super::message::{End, Kind, Message, Outcome, Unable};
use super::ping::{Interval, Pings};
use super::state::State;

/// What the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `wsgi_websocket_max_message`, in bytes.
    pub max_message: usize,
    /// `wsgi_websocket_ping`; none: no pings.
    pub ping: Option<Interval>,
}

/// What the event loop is to do next.
#[derive(Debug, Default)]
pub struct Look {
    /// The handshake has just been done: the head goes out in front of `output`.
    pub accepted: Option<Accepted>,
    /// To be sent to the client; [`Conversation::sent`] is told of it.
    pub output: Vec<u8>,
    /// The client is to be read from.
    pub reads: bool,
    /// Everything has been sent, and nothing will come: the connection is to be closed.
    pub done: bool,
}

struct Shared {
    state: State,
    /// Threads that wait for a message, and for room.
    receivers: usize,
    senders: usize,
}

/// See the file.
pub struct Conversation {
    wake: Box<dyn Fn() + Send + Sync>,
    shared: Mutex<Shared>,
    incoming: Condvar,
    room: Condvar,
    /// Held for a whole message. Never waited for with the GIL.
    turn: Mutex<()>,
}

impl Conversation {
    /// `wake` makes the event loop call [`Self::look`] soon; it must not block. Event loop.
    pub fn new(limits: Limits, now: Instant, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let state = State::new(limits.max_message, Pings::new(limits.ping, now));
        Self {
            wake: Box::new(wake),
            shared: Mutex::new(Shared { state, receivers: 0, senders: 0 }),
            incoming: Condvar::new(),
            room: Condvar::new(),
            turn: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// Changes the state, and wakes the threads that this concerns.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut shared = self.lock();
        let result = change(&mut shared.state);
        let ended = shared.state.is_closed();
        if shared.receivers > 0 && (ended || shared.state.has_message()) {
            self.incoming.notify_all();
        }
        if shared.senders > 0 && (ended || shared.state.has_room_again()) {
            self.room.notify_all();
        }
        result
    }

    fn tell(&self, mut shared: MutexGuard<'_, Shared>) {
        let tells = shared.state.announce();
        drop(shared);
        if tells {
            (self.wake)();
        }
    }

    // The event loop's part.

    /// The application speaks through its raw socket, or has sent a response: the handshake fails
    /// from now on. False, and what it says there is to be ignored, if it has done the handshake.
    /// Event loop.
    pub fn withdraw(&self) -> bool {
        self.change(State::withdraw)
    }

    /// Why the application could not do the handshake, if it has tried. Event loop.
    pub fn refusal(&self) -> Option<Refusal> {
        self.lock().state.refusal()
    }

    /// What is to be done; `spare` is an empty buffer that is used again. To be called after each
    /// wake-up, and after each of the functions below. Event loop.
    pub fn look(&self, spare: Vec<u8>, now: Instant) -> Look {
        self.change(|state| {
            let accepted = state.take_accepted();
            let (output, reads, done) = state.look(spare, now);
            Look { accepted, output, reads, done }
        })
    }

    /// [`Look::reads`] alone, while the output of the last look is still on its way. Event loop.
    pub fn reads(&self, now: Instant) -> bool {
        self.change(|state| state.resume(now))
    }

    /// So many bytes of the output have been sent. Event loop.
    pub fn sent(&self, len: usize, now: Instant) {
        self.change(|state| state.sent(len, now));
    }

    /// The client has sent this. Returns how much of it has been used; the rest is to come again
    /// when the client may be read from. Event loop.
    pub fn feed(&self, input: &[u8], now: Instant) -> usize {
        self.change(|state| input.len() - state.feed(input, now).len())
    }

    /// When [`Self::tick`] is to be called. Event loop.
    pub fn deadline(&self) -> Option<Instant> {
        self.lock().state.deadline()
    }

    /// It is so late now. Event loop.
    pub fn tick(&self, now: Instant) {
        self.change(|state| state.tick(now));
    }

    /// The client has closed the connection, or takes nothing. Event loop.
    pub fn gone(&self) {
        self.change(|state| state.cut(End::Gone));
    }

    /// The worker leaves: close code 1001. Event loop.
    pub fn leave(&self) {
        self.change(State::leave);
    }

    /// The handshake has been done. Either.
    pub fn is_accepted(&self) -> bool {
        self.lock().state.is_open()
    }

    /// Why nothing more comes from the client.
    pub fn end(&self) -> Option<End> {
        self.lock().state.end()
    }

    // The application's part.

    /// Whether the application has tried the handshake when nothing more could come. Application.
    pub fn has_missed(&self) -> bool {
        self.lock().state.has_missed()
    }

    /// Does the handshake, once, with the subprotocol of the application's choice. Application.
    pub fn accept(&self, offer: &Offer<'_>, protocol: Option<&str>) -> Result<(), Unable> {
        if fork::is_child() {
            return Err(Unable::Forked);
        }
        let now = Instant::now();
        self.change(|state| state.accept(|| offer.accept(protocol), now))?;
        self.tell(self.lock());
        Ok(())
    }

    /// Whether nothing can be sent any more. Application.
    pub fn is_closed(&self) -> bool {
        fork::is_child() || self.lock().state.is_closed()
    }

    /// Whether nothing can be sent any more, and nothing is left to be received. Application.
    pub fn is_exhausted(&self) -> bool {
        fork::is_child() || self.lock().state.is_exhausted()
    }

    /// The next message, if there is one, or why none will come. Application.
    pub fn poll(&self) -> Option<Result<Message, Unable>> {
        if fork::is_child() {
            return Some(Err(Unable::Forked));
        }
        self.next(&mut self.lock())
    }

    fn next(&self, shared: &mut MutexGuard<'_, Shared>) -> Option<Result<Message, Unable>> {
        let (message, tells) = shared.state.receive()?;
        if tells {
            (self.wake)();
        }
        Some(message)
    }

    /// The next message; waits for it, so never call it with the GIL. Application.
    pub fn receive(&self) -> Result<Message, Unable> {
        if fork::is_child() {
            return Err(Unable::Forked);
        }
        let mut shared = self.lock();
        loop {
            if let Some(message) = self.next(&mut shared) {
                return message;
            }
            shared.receivers += 1;
            shared = self.incoming.wait(shared).unwrap_or_else(PoisonError::into_inner);
            shared.receivers -= 1;
        }
    }

    /// Sends a message if that needs no waiting. Application.
    pub fn send_now(&self, kind: Kind, data: &[u8]) -> Option<Result<(), Unable>> {
        if fork::is_child() {
            return Some(Err(Unable::Forked));
        }
        let _turn = self.turn.try_lock().ok()?;
        let mut shared = self.lock();
        if !shared.state.has_room_for(data.len()) {
            return None;
        }
        if let Err(unable) = shared.state.begin(kind, data.len()) {
            return Some(Err(unable));
        }
        let put = shared.state.piece(data);
        shared.state.finish();
        self.tell(shared);
        Some(put)
    }

    /// Sends a message; waits for room, so never call it with the GIL. Application.
    pub fn send(&self, kind: Kind, data: &[u8]) -> Result<(), Unable> {
        if fork::is_child() {
            return Err(Unable::Forked);
        }
        let _turn = lock(&self.turn);
        let mut shared = self.wait_for_room(self.lock());
        shared.state.begin(kind, data.len())?;
        let mut rest = data;
        loop {
            let (piece, later) = rest.split_at(rest.len().min(shared.state.room()));
            shared.state.piece(piece)?;
            rest = later;
            if rest.is_empty() {
                shared.state.finish();
                self.tell(shared);
                return Ok(());
            }
            self.tell(shared);
            shared = self.wait_for_room(self.lock());
        }
    }

    /// Waits until a sender may go on, or learns that it cannot.
    fn wait_for_room<'a>(&self, mut shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
        if shared.state.room() == 0 {
            shared.senders += 1;
            while !shared.state.has_room_again() && !shared.state.is_stuck() {
                shared = self.room.wait(shared).unwrap_or_else(PoisonError::into_inner);
            }
            shared.senders -= 1;
        }
        shared
    }

    /// Sends a close frame; nothing can be sent or received afterwards. Application.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), Unable> {
        if fork::is_child() {
            return Err(Unable::Forked);
        }
        let now = Instant::now();
        let closed = self.change(|state| state.close(code, reason, now));
        self.tell(self.lock());
        closed
    }

    /// The application has ended. Application.
    pub fn ended(&self, outcome: Outcome) {
        if !fork::is_child() {
            let now = Instant::now();
            self.change(|state| state.ended(outcome, now));
            self.tell(self.lock());
        }
    }

    /// A descriptor that is readable while [`Self::poll`] has something; it is closed with the
    /// conversation. Application.
    pub fn bell(&self) -> io::Result<RawFd> {
        if fork::is_child() {
            return Err(io::Error::other(Unable::Forked.to_string()));
        }
        self.lock().state.bell()
    }
}
