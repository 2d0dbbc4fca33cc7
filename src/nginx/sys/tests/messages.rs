//! Pairs of sockets for messages: what is sent comes, or the sender is told.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::seqpacket::{Received, Sent, Seqpacket};
use crate::wsgi::relay::message::{MAX_DESCRIPTORS, MAX_MESSAGE};

fn pair() -> [Seqpacket; 2] {
    Seqpacket::pair(4 * MAX_MESSAGE).unwrap()
}

fn send(to: &Seqpacket, bytes: &[u8]) {
    assert!(matches!(to.send(bytes, &[]), Sent::Whole));
}

/// The next message, which is there.
fn receive(from: &Seqpacket) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    match from.receive(&mut buffer) {
        Received::Message(len, fds) => (buffer[..len].to_vec(), fds),
        other => unreachable!("{other:?}"),
    }
}

fn flags(fd: impl AsFd) -> (i32, i32) {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: only asks; the descriptor is borrowed.
    unsafe { (libc::fcntl(fd, libc::F_GETFD), libc::fcntl(fd, libc::F_GETFL)) }
}

#[test]
fn messages_stay_apart_and_in_order_both_ways() {
    let [a, b] = pair();
    send(&a, b"first");
    send(&a, b"2");
    send(&b, b"back");
    assert_eq!(receive(&b).0, b"first");
    assert_eq!(receive(&b).0, b"2");
    assert_eq!(receive(&a).0, b"back");
    assert!(matches!(b.receive(&mut [0; 9]), Received::Nothing));
}

#[test]
fn descriptors_come_with_their_message() {
    let [a, b] = pair();
    let pipes: Vec<_> = (0..MAX_DESCRIPTORS).map(|_| pipe().unwrap()).collect();
    let ends: Vec<BorrowedFd<'_>> = pipes.iter().map(|(_, write)| write.as_fd()).collect();
    send(&a, b"none");
    assert!(matches!(a.send(b"all", &ends), Sent::Whole));
    assert!(matches!(a.send(b"one", &ends[..1]), Sent::Whole));
    assert!(receive(&b).1.is_empty());
    let (bytes, fds) = receive(&b);
    assert_eq!((&bytes[..], fds.len()), (&b"all"[..], MAX_DESCRIPTORS));
    assert_eq!(receive(&b).1.len(), 1);
    for (n, (fd, (mut read, write))) in fds.into_iter().zip(pipes).enumerate() {
        assert_eq!(flags(&fd).0, libc::FD_CLOEXEC);
        drop(write);
        File::from(fd).write_all(&[n as u8]).unwrap();
        let mut found = [0];
        read.read_exact(&mut found).unwrap();
        assert_eq!(found, [n as u8]);
    }
}

#[test]
fn ends_never_block_and_are_closed_in_programs() {
    let [a, b] = pair();
    for end in [&a, &b] {
        let (fd, status) = flags(end);
        assert_eq!((fd, status & libc::O_NONBLOCK), (libc::FD_CLOEXEC, libc::O_NONBLOCK));
    }
}

#[test]
fn an_end_can_be_passed_on() {
    let [inbox, other] = pair();
    let [a, b] = pair();
    assert!(matches!(other.send(b"a link", &[b.as_fd()]), Sent::Whole));
    drop(b);
    let b = Seqpacket::new(receive(&inbox).1.remove(0));
    send(&b, b"over it");
    assert_eq!(receive(&a).0, b"over it");
}

#[test]
fn a_full_socket_takes_more_when_something_was_received() {
    let [a, b] = pair();
    let long = vec![b'x'; MAX_MESSAGE];
    let mut sent = 0;
    let full = loop {
        match a.send(&long, &[]) {
            Sent::Whole => sent += 1,
            other => break other,
        }
    };
    assert!(matches!(full, Sent::Full), "{full:?}");
    assert!(sent >= 2, "{sent} messages");
    assert!(receive(&b).0 == long);
    send(&a, b"the next");
    for _ in 1..sent {
        assert!(receive(&b).0 == long);
    }
    assert_eq!(receive(&b).0, b"the next");
}

#[test]
fn a_message_that_cannot_be_sent_leaves_the_others_alone() {
    let [a, b] = pair();
    let null = File::open("/dev/null").unwrap();
    let too_many = [null.as_fd(); MAX_DESCRIPTORS + 1];
    let refused = |sent: Sent| match sent {
        Sent::Refused(err) => err.raw_os_error(),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(refused(a.send(&vec![0; 16 << 20], &[])), Some(libc::EMSGSIZE));
    assert_eq!(refused(a.send(b"", &[])), Some(libc::EINVAL));
    assert_eq!(refused(a.send(b"x", &too_many)), Some(libc::EINVAL));
    send(&a, b"y");
    assert_eq!(receive(&b).0, b"y");
}

/// Both ends had something to read: the kernel reports that first.
#[test]
fn what_was_sent_before_the_end_is_received() {
    let [a, b] = pair();
    send(&a, b"never read");
    send(&b, b"one");
    send(&b, b"two");
    drop(b);
    assert_eq!(receive(&a).0, b"one");
    assert_eq!(receive(&a).0, b"two");
    assert!(matches!(a.receive(&mut [0; 9]), Received::End));
    assert!(matches!(a.send(b"x", &[]), Sent::Gone));
}

#[test]
fn a_sender_is_told_that_nobody_is_there() {
    for unread in [true, false] {
        let [a, b] = pair();
        if unread {
            send(&a, b"never read");
        }
        drop(b);
        assert!(matches!(a.send(b"x", &[]), Sent::Gone));
        assert!(matches!(a.send(b"x", &[]), Sent::Gone));
    }
}

#[test]
fn what_is_cut_is_no_message_and_leaves_no_descriptor() {
    let [a, b] = pair();
    let (mut read, write) = pipe().unwrap();
    assert!(matches!(a.send(b"too long", &[write.as_fd()]), Sent::Whole));
    assert!(matches!(b.receive(&mut [0; 4]), Received::Truncated));
    send_many(&a, &[write.as_raw_fd(); MAX_DESCRIPTORS + 1]);
    assert!(matches!(b.receive(&mut [0; 4]), Received::Cut(1)));
    drop(write);
    assert_eq!(read.read(&mut [0]).unwrap(), 0, "somebody still has the other end");
    send(&a, b"next");
    assert_eq!(receive(&b).0, b"next");
}

#[test]
fn a_descriptor_that_is_no_socket_is_an_error() {
    let null = Seqpacket::new(OwnedFd::from(File::open("/dev/null").unwrap()));
    let Received::Failed(err) = null.receive(&mut [0]) else { unreachable!() };
    assert_eq!(err.raw_os_error(), Some(libc::ENOTSOCK));
}

/// One byte with more descriptors than `send` allows.
fn send_many(to: &Seqpacket, fds: &[i32]) {
    let mut part = libc::iovec { iov_base: b"x".as_ptr().cast_mut().cast(), iov_len: 1 };
    let mut control = [0u64; 16];
    let len = size_of_val(fds) as u32;
    // SAFETY: all-zero bytes are a valid value of the structure, which points to one byte and to
    // `control`, which is long enough for these descriptors, and aligned for their header.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(len) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len) as _;
        libc::CMSG_DATA(header).cast::<i32>().copy_from(fds.as_ptr(), fds.len());
        assert_eq!(libc::sendmsg(to.as_fd().as_raw_fd(), &message, 0), 1);
    }
}
