//! The pair of sockets between an application and its client.
//!
//! The application has one end, as a `socket.socket` of its own; the event loop has the other one
//! and passes on what comes. Both ask here whether the application has written anything.
//! Runs on: either; each function says which.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard};

use crate::wsgi::lock::lock;

/// Says whether there is something to receive from a descriptor.
pub type HasBytes = fn(RawFd) -> bool;

#[derive(Debug)]
struct State {
    /// The application's end, until its thread takes it.
    theirs: Option<OwnedFd>,
    /// The event loop's end while it is open.
    ours: Option<RawFd>,
    is_used: bool,
}

/// Both ends, as far as they are not elsewhere.
#[derive(Debug)]
pub struct Raw {
    state: Mutex<State>,
    has_bytes: HasBytes,
}

impl Raw {
    /// `ours` stays open until [`Self::close`].
    pub fn new(theirs: OwnedFd, ours: RawFd, has_bytes: HasBytes) -> Self {
        let state = State { theirs: Some(theirs), ours: Some(ours), is_used: false };
        Self { state: Mutex::new(state), has_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The application's end, once. Its thread.
    pub fn take(&self) -> Option<OwnedFd> {
        self.lock().theirs.take()
    }

    /// Whether the application has written something, received or not. Either.
    pub fn is_used(&self) -> bool {
        let state = self.lock();
        state.is_used || state.ours.is_some_and(self.has_bytes)
    }

    /// Receives by `receive`, which says how many bytes it has got. Event loop.
    pub fn receive<R>(&self, receive: impl FnOnce() -> (usize, R)) -> R {
        // With the lock: else what is received would be seen neither there nor here.
        let mut state = self.lock();
        let (len, received) = receive();
        state.is_used |= len > 0;
        received
    }

    /// Closes the event loop's end by `close`. Event loop.
    pub fn close(&self, close: impl FnOnce()) {
        let mut state = self.lock();
        if let Some(fd) = state.ours.take() {
            state.is_used |= (self.has_bytes)(fd);
            close();
        }
        // The thread may be about to take its end: all it finds there is that this is over.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn what_is_written_counts_before_it_is_received_and_afterwards() {
        let (mut ours, theirs) = pair();
        let nothing = Raw::new(theirs.into(), ours.as_raw_fd(), |_| false);
        assert!(!nothing.is_used());
        let mut theirs = UnixStream::from(nothing.take().unwrap());
        assert!(nothing.take().is_none());
        theirs.write_all(b"HTTP").unwrap();
        let mut bytes = [0; 8];
        let len = nothing.receive(|| {
            let len = ours.read(&mut bytes).unwrap();
            (len, len)
        });
        assert_eq!((&bytes[..len], nothing.is_used()), (&b"HTTP"[..], true));
        let (ours, theirs) = pair();
        let something = Raw::new(theirs.into(), ours.as_raw_fd(), |_| true);
        assert!(something.is_used());
    }

    #[test]
    fn the_end_is_closed_once_and_what_was_left_in_it_counts() {
        let (ours, theirs) = pair();
        let mut ours = Some(ours);
        let fd = ours.as_ref().unwrap().as_raw_fd();
        let raw = Raw::new(theirs.into(), fd, |_| true);
        for _ in 0..2 {
            raw.close(|| drop(ours.take().unwrap()));
        }
        assert!(raw.is_used());
        // Who takes the other end now is told so.
        let mut theirs = UnixStream::from(raw.take().unwrap());
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }
}
