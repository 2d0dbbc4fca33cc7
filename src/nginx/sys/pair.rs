//! A pair of connected sockets for a stream of bytes: one end of ours that never waits, and one
//! that waits, for a thread.
//!
//! Runs on: event loop, but for [`has_bytes`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// Nothing comes any more.
    End,
}

/// What became of bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    Bytes(usize),
    /// There is no room for them now.
    Full,
    /// Nobody receives them.
    Gone,
}

/// Our end, and the other one. Both are closed in programs that are started.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has the two elements that socketpair fills, and nobody else owns what it
    // made.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        if libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) == -1 {
            return Err(io::Error::last_os_error());
        }
        let [ours, theirs] = ends.map(|fd| OwnedFd::from_raw_fd(fd));
        if libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok((ours, theirs))
    }
}

/// Receives into a buffer that is not empty.
pub fn receive(end: impl AsFd, into: &mut [u8]) -> Received {
    let fd = end.as_fd().as_raw_fd();
    loop {
        // SAFETY: pointer and length of a live buffer.
        let len = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), 0) };
        match usize::try_from(len) {
            Ok(0) => return Received::End,
            Ok(len) => return Received::Bytes(len),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => (),
                Some(libc::EAGAIN) => return Received::Nothing,
                _ => return Received::End,
            },
        }
    }
}

/// Sends as much as there is room for.
pub fn send(end: impl AsFd, bytes: &[u8]) -> Sent {
    let fd = end.as_fd().as_raw_fd();
    loop {
        // SAFETY: pointer and length of live bytes.
        let len = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(len) {
            Ok(len) => return Sent::Bytes(len),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => (),
                Some(libc::EAGAIN) => return Sent::Full,
                _ => return Sent::Gone,
            },
        }
    }
}

/// The other end receives what has been sent, and then the end.
pub fn end(end: impl AsFd) {
    shut(end, libc::SHUT_WR);
}

/// The same, and nothing is received any more: the other end cannot send.
pub fn hang_up(end: impl AsFd) {
    shut(end, libc::SHUT_RDWR);
}

fn shut(end: impl AsFd, how: c_int) {
    // SAFETY: a descriptor that is open, being borrowed. It fails only when nothing is left to do.
    unsafe { libc::shutdown(end.as_fd().as_raw_fd(), how) };
}

/// Whether there is something to receive. False for a descriptor that is not open. Runs on: any
/// thread.
pub fn has_bytes(fd: RawFd) -> bool {
    let mut len: c_int = 0;
    // SAFETY: the call writes an int.
    let rc = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut len) };
    rc == 0 && len > 0
}
