//! The request as a block of uwsgi vars: names and values, each with a length in front.
//!
//! Written by `src/nginx/vars.rs` once per request, read by `src/python/environ.rs`. The layout is
//! that of the uwsgi protocol but for the width of a value's length: a `u16` (little endian) and
//! the name, a `u32` (little endian) and the value. The 64 KiB limits of the wire protocol do not
//! apply inside a process.
//! Runs on: either.

use std::sync::Arc;

use super::error::VarsError;

/// A complete block. Only [`VarsWriter`] makes one, so reading it cannot fail. A clone is the same
/// block.
#[derive(Debug, Clone, Default)]
pub struct Vars(Arc<Vec<u8>>);

impl Vars {
    /// Names and values in the order they were written; a name may be there twice.
    pub fn iter(&self) -> VarsIter<'_> {
        VarsIter::new(&self.0)
    }

    /// The first value written under `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

/// Iterator over (name, value).
pub struct VarsIter<'a> {
    rest: &'a [u8],
}

impl<'a> VarsIter<'a> {
    /// `block` may be any bytes: reading ends in front of the first variable that is not whole.
    pub fn new(block: &'a [u8]) -> Self {
        Self { rest: block }
    }
}

/// Splits off one field; `len` reads its length prefix.
fn field<const N: usize>(block: &[u8], len: impl Fn([u8; N]) -> usize) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = block.split_first_chunk::<N>()?;
    rest.split_at_checked(len(*prefix))
}

impl<'a> Iterator for VarsIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = field(self.rest, |p: [u8; 2]| usize::from(u16::from_le_bytes(p)))?;
        let (value, rest) = field(rest, |p: [u8; 4]| u32::from_le_bytes(p) as usize)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Writes a block.
#[derive(Debug, Default)]
pub struct VarsWriter {
    block: Vec<u8>,
}

impl VarsWriter {
    /// `capacity`: the expected size of the block in bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { block: Vec::with_capacity(capacity) }
    }

    /// Appends one variable.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), VarsError> {
        let name_len = u16::try_from(name.len()).map_err(|_| VarsError::NameTooLong(name.len()))?;
        self.block.extend_from_slice(&name_len.to_le_bytes());
        self.block.extend_from_slice(name);
        self.value(value)
    }

    /// Appends one variable that came as a request header: `HTTP_` in front, upper case, and `_`
    /// for every `-` (RFC 3875 section 4.1.18).
    pub fn push_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), VarsError> {
        let len = name.len() + b"HTTP_".len();
        let name_len = u16::try_from(len).map_err(|_| VarsError::NameTooLong(len))?;
        self.block.extend_from_slice(&name_len.to_le_bytes());
        self.block.extend_from_slice(b"HTTP_");
        self.block.extend(name.iter().map(|b| header_byte(*b)));
        self.value(value)
    }

    fn value(&mut self, value: &[u8]) -> Result<(), VarsError> {
        let len = u32::try_from(value.len()).map_err(|_| VarsError::ValueTooLong(value.len()))?;
        self.block.extend_from_slice(&len.to_le_bytes());
        self.block.extend_from_slice(value);
        Ok(())
    }

    /// The finished block.
    pub fn finish(self) -> Vars {
        Vars(Arc::new(self.block))
    }
}

/// One byte of a header's name as it stands in `HTTP_*`.
pub fn header_byte(b: u8) -> u8 {
    match b {
        b'-' => b'_',
        b => b.to_ascii_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_order() {
        let mut w = VarsWriter::with_capacity(16);
        w.push(b"A", b"1").unwrap();
        w.push(b"", b"").unwrap();
        w.push_header(b"x-Forwarded-for", b"\xff\0").unwrap();
        let vars = w.finish();
        let all: Vec<_> = vars.iter().collect();
        assert_eq!(
            all,
            [
                (&b"A"[..], &b"1"[..]),
                (&b""[..], &b""[..]),
                (&b"HTTP_X_FORWARDED_FOR"[..], &b"\xff\0"[..])
            ]
        );
        assert_eq!(vars.get(b"A"), Some(&b"1"[..]));
        assert_eq!(vars.get(b"B"), None);
    }

    #[test]
    fn lengths_around_the_16_bit_boundary_survive() {
        for len in [255, 256, 65534, 65535, 65536, 65537, 200_000] {
            let value = vec![b'v'; len];
            let mut w = VarsWriter::default();
            w.push(b"N", &value).unwrap();
            assert_eq!(w.finish().get(b"N"), Some(&value[..]));
        }
        for len in [255, 256, 65534, 65535] {
            let name = vec![b'N'; len];
            let mut w = VarsWriter::default();
            w.push(&name, b"v").unwrap();
            assert_eq!(w.finish().get(&name), Some(&b"v"[..]));
        }
    }

    #[test]
    fn a_name_over_64k_is_refused_and_not_truncated() {
        let name = vec![b'N'; 65536];
        assert_eq!(VarsWriter::default().push(&name, b""), Err(VarsError::NameTooLong(65536)));
        let header = vec![b'n'; 65531];
        assert_eq!(
            VarsWriter::default().push_header(&header, b""),
            Err(VarsError::NameTooLong(65536))
        );
    }
}
