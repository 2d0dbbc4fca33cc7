//! One end of a pair of sockets that carry whole messages, in order, with descriptors.
//!
//! SOCK_SEQPACKET of unix(7), which a worker and another one talk over. Nothing here waits.
//! Runs on: event loop.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, cmsghdr, iovec, msghdr};

use crate::wsgi::relay::message::MAX_DESCRIPTORS;

/// What became of a message.
#[derive(Debug)]
pub enum Sent {
    Whole,
    /// There is no room for it now; the socket becomes writable when there is.
    Full,
    /// The other end is closed.
    Gone,
    /// This message cannot be sent: it is too long (EMSGSIZE), or has descriptors when too many are
    /// on their way (ETOOMANYREFS) or open (EMFILE), or the kernel lacks memory (ENOBUFS).
    Refused(io::Error),
}

/// What came.
#[derive(Debug)]
pub enum Received {
    /// A message of so many bytes, and its descriptors.
    Message(usize, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other end is closed, and all that it had sent has been received.
    End,
    /// The same, but this process cannot open some of its descriptors, or there are more than are
    /// allowed.
    Cut(usize),
    /// A message that is longer than the buffer. What is missing is lost.
    Truncated,
    Failed(io::Error),
}

/// One end, owned or borrowed. Closed in programs that are started.
#[derive(Debug)]
pub struct Seqpacket<T = OwnedFd>(T);

/// Memory for the descriptors of a message, aligned as the kernel's header is.
#[repr(C)]
struct Control {
    align: [cmsghdr; 0],
    bytes: [u8; Control::LEN],
}

impl Control {
    /// The bytes of so many descriptors.
    const fn data(descriptors: usize) -> u32 {
        // At most `MAX_DESCRIPTORS`.
        (descriptors * size_of::<RawFd>()) as u32
    }

    // SAFETY: CMSG_SPACE computes a number from a number.
    const LEN: usize = unsafe { libc::CMSG_SPACE(Self::data(MAX_DESCRIPTORS)) } as usize;

    const fn new() -> Self {
        Self { align: [], bytes: [0; Self::LEN] }
    }
}

impl From<Seqpacket> for OwnedFd {
    fn from(end: Seqpacket) -> Self {
        end.0
    }
}

impl<T: AsFd> AsFd for Seqpacket<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Seqpacket {
    /// Two ends. `buffer`: about so many bytes can be under way in each direction; the kernel has a
    /// limit of its own (net.core.wmem_max), which counts.
    pub fn pair(buffer: usize) -> io::Result<[Self; 2]> {
        let mut ends = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the array has the two elements that socketpair fills.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two new descriptors that nobody else has.
        let ends = ends.map(|fd| Self(unsafe { OwnedFd::from_raw_fd(fd) }));
        let size = c_int::try_from(buffer).unwrap_or(c_int::MAX);
        for end in &ends {
            // SAFETY: the option is an int, whose address and size are given.
            let set = unsafe {
                let (value, len) = ((&raw const size).cast(), size_of::<c_int>() as u32);
                libc::setsockopt(end.fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, value, len)
            };
            if set == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(ends)
    }
}

impl<T: AsFd> Seqpacket<T> {
    /// An end that was made by [`Seqpacket::pair`], in this process or another one.
    pub fn new(end: T) -> Self {
        Self(end)
    }

    fn fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }

    /// Sends one message, which has at least a byte: the other end takes an empty one for the end.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Sent {
        if bytes.is_empty() || fds.len() > MAX_DESCRIPTORS {
            return Sent::Refused(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut part = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = Control::new();
        let mut message = message(&mut part);
        if !fds.is_empty() {
            message.msg_control = (&raw mut control).cast();
            // SAFETY: the numbers fit, and the header and as many descriptors as there are lie
            // within `control`, which is aligned for the header and as long as that many need.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(Control::data(fds.len())) as _;
                let header = libc::CMSG_FIRSTHDR(&message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(Control::data(fds.len())) as _;
                let data: *mut RawFd = libc::CMSG_DATA(header).cast();
                for (n, fd) in fds.iter().enumerate() {
                    data.add(n).write_unaligned(fd.as_raw_fd());
                }
            }
        }
        loop {
            // SAFETY: the message points to `part` and `control`, both live, and sendmsg only reads
            // the bytes; the descriptors are open, being borrowed.
            let sent = unsafe { libc::sendmsg(self.fd(), &message, libc::MSG_NOSIGNAL) };
            if sent != -1 {
                return Sent::Whole;
            }
            let err = io::Error::last_os_error();
            match err.raw_os_error() {
                Some(libc::EINTR) => (),
                Some(libc::EAGAIN) => return Sent::Full,
                Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => return Sent::Gone,
                _ => return Sent::Refused(err),
            }
        }
    }

    /// Receives one message into `buffer`. Its descriptors are closed in programs that are started.
    pub fn receive(&self, buffer: &mut [u8]) -> Received {
        let mut part = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = Control::new();
        loop {
            let mut message = message(&mut part);
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = Control::LEN as _;
            // SAFETY: the message points to `part`, which is the buffer, and to `control`, with
            // their lengths; all are live.
            let len = unsafe { libc::recvmsg(self.fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
            let Ok(len) = usize::try_from(len) else {
                let err = io::Error::last_os_error();
                match err.raw_os_error() {
                    // Reset: it has not received all that was sent to it. What it has sent follows.
                    Some(libc::EINTR | libc::ECONNRESET) => continue,
                    Some(libc::EAGAIN) => return Received::Nothing,
                    _ => return Received::Failed(err),
                }
            };
            // SAFETY: recvmsg has filled `message`, and `control` as far as `message` says.
            let fds = unsafe { descriptors(&message) };
            if message.msg_flags & libc::MSG_TRUNC != 0 {
                return Received::Truncated;
            }
            if message.msg_flags & libc::MSG_CTRUNC != 0 {
                return Received::Cut(len);
            }
            return if len == 0 { Received::End } else { Received::Message(len, fds) };
        }
    }
}

/// A message without descriptors.
fn message(part: &mut iovec) -> msghdr {
    // SAFETY: all-zero bytes are a valid value of this plain C structure.
    let mut message: msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

/// Takes the descriptors that came with a message: nobody else knows their numbers.
///
/// # Safety
///
/// recvmsg has filled the message, whose control memory is live. Called once for each message.
unsafe fn descriptors(message: &msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the CMSG functions stay within the control memory as far as it was filled. The kernel
    // has opened each descriptor in it for this process.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data: *const RawFd = libc::CMSG_DATA(header).cast();
                let len = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for n in 0..len / size_of::<RawFd>() {
                    let fd = data.add(n).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}
