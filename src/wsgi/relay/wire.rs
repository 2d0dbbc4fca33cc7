//! Numbers, bytes and descriptors of a message. Numbers are little endian.
//!
//! Runs on: event loop.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec;

use smallvec::SmallVec;

use super::message::Malformed;

/// The descriptors that go with a message, in its order.
pub type Descriptors<'a> = SmallVec<[BorrowedFd<'a>; 1]>;

/// Appends to the bytes of a message.
pub struct Writer<'a, 'm> {
    pub out: &'a mut Vec<u8>,
    pub fds: Descriptors<'m>,
}

impl<'m> Writer<'_, 'm> {
    pub fn u8(&mut self, n: u8) {
        self.out.push(n);
    }

    pub fn u32(&mut self, n: u32) {
        self.bytes(&n.to_le_bytes());
    }

    pub fn u64(&mut self, n: u64) {
        self.bytes(&n.to_le_bytes());
    }

    pub fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        const { assert!(N <= 8) };
        self.u8(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Part of a file.
    pub fn file(&mut self, file: &'m File, offset: u64, len: u64) {
        self.fds.push(file.as_fd());
        self.u64(offset);
        self.u64(len);
    }
}

/// Reads what [`Writer`] has written, or anything else. Nothing longer than the message is ever
/// allocated.
pub struct Reader<'a> {
    rest: &'a [u8],
    fds: vec::IntoIter<OwnedFd>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], fds: Vec<OwnedFd>) -> Self {
        Self { rest: bytes, fds: fds.into_iter() }
    }

    /// Nothing may be left.
    pub fn finish<T>(mut self, read: T) -> Result<T, Malformed> {
        if self.fds.next().is_some() {
            return Err(Malformed("too many descriptors"));
        }
        if self.rest.is_empty() { Ok(read) } else { Err(Malformed("too long")) }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.rest()).map_err(|_| Malformed("text"))?;
        Ok(text.to_owned())
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed("too short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed("too short"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn usize(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u64()?).map_err(|_| Malformed("number"))
    }

    pub fn flags<const N: usize>(&mut self) -> Result<[bool; N], Malformed> {
        let bits = u32::from(self.u8()?);
        if bits >> N != 0 {
            return Err(Malformed("flags"));
        }
        Ok(std::array::from_fn(|n| bits >> n & 1 == 1))
    }

    pub fn descriptor(&mut self) -> Result<File, Malformed> {
        self.fds.next().map(File::from).ok_or(Malformed("too few descriptors"))
    }

    /// Offset and length of a part of a file, which nginx's `off_t` can hold.
    pub fn range(&mut self) -> Result<(u64, u64), Malformed> {
        let (offset, len) = (self.u64()?, self.u64()?);
        let end = offset.checked_add(len);
        if end.is_some_and(is_offset) { Ok((offset, len)) } else { Err(Malformed("file")) }
    }
}

/// Whether nginx's `off_t` can hold it.
pub fn is_offset(n: u64) -> bool {
    i64::try_from(n).is_ok()
}
