//! The request as uwsgi vars: names in one column, values in another.
//!
//! Written by `src/nginx/request/vars.rs` once per request, read by
//! `src/python/request/environ.rs`. The fields are those of the uwsgi protocol, but for the width
//! of a value's length: a `u16` (little endian) and the name, a `u32` (little endian) and the
//! value. The 64 KiB limits of the wire protocol do not apply inside a process. Names have a column
//! of their own because requests differ in values, seldom in names: one comparison tells.
//! Runs on: either.

use std::sync::Arc;

use crate::wsgi::error::VarsError;

/// Bytes that are kept for other vars.
const MOST_KEPT: usize = 16 * 1024;

/// Complete vars. Only [`VarsWriter`] makes them, or [`Vars::from_columns`] has checked them, so
/// reading them cannot fail. A clone is the same memory.
#[derive(Debug, Clone, Default)]
pub struct Vars(Arc<Columns>);

#[derive(Debug, Default)]
struct Columns {
    names: Vec<u8>,
    values: Vec<u8>,
}

impl Vars {
    /// A copy of columns that another process has written; `None` unless both consist of as many
    /// whole fields, and of nothing else.
    pub fn from_columns(names: &[u8], values: &[u8]) -> Option<Self> {
        let mut vars = VarsIter::new(names, values);
        vars.by_ref().for_each(drop);
        let is_whole = vars.names.is_empty() && vars.values.is_empty();
        is_whole.then(|| Self(Arc::new(Columns { names: names.to_vec(), values: values.to_vec() })))
    }

    /// Names and values with their lengths.
    pub fn columns(&self) -> (&[u8], &[u8]) {
        (&self.0.names, &self.0.values)
    }

    /// Names and values in the order they were written; a name may be there twice.
    pub fn iter(&self) -> VarsIter<'_> {
        VarsIter::new(&self.0.names, &self.0.values)
    }

    /// The values alone.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0.values[..];
        std::iter::from_fn(move || take_value(&mut rest))
    }

    /// The first value written under `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The names with their lengths: equal for vars with the same names in the same order.
    pub fn names(&self) -> &[u8] {
        &self.0.names
    }

    /// Whether nobody else has them, so that [`VarsWriter::over`] can use their memory, and that is
    /// not too much to be kept.
    pub fn is_free(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some_and(|columns| {
            columns.names.capacity() + columns.values.capacity() <= MOST_KEPT
        })
    }
}

/// Iterator over (name, value).
pub struct VarsIter<'a> {
    names: &'a [u8],
    values: &'a [u8],
}

impl<'a> VarsIter<'a> {
    /// The columns may be any bytes: reading ends in front of the first variable that is not whole.
    pub fn new(names: &'a [u8], values: &'a [u8]) -> Self {
        Self { names, values }
    }
}

/// Splits off one field; `len` reads its length prefix.
fn take<'a, const N: usize>(
    column: &mut &'a [u8],
    len: impl Fn([u8; N]) -> usize,
) -> Option<&'a [u8]> {
    let (prefix, rest) = column.split_first_chunk::<N>()?;
    let (field, rest) = rest.split_at_checked(len(*prefix))?;
    *column = rest;
    Some(field)
}

fn take_value<'a>(values: &mut &'a [u8]) -> Option<&'a [u8]> {
    take(values, |p: [u8; 4]| u32::from_le_bytes(p) as usize)
}

impl<'a> Iterator for VarsIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut names, mut values) = (self.names, self.values);
        let name = take(&mut names, |p: [u8; 2]| usize::from(u16::from_le_bytes(p)))?;
        let value = take_value(&mut values)?;
        (self.names, self.values) = (names, values);
        Some((name, value))
    }
}

/// Writes vars.
#[derive(Debug, Default)]
pub struct VarsWriter {
    columns: Columns,
    /// Where they were, and will be.
    place: Arc<Columns>,
}

impl VarsWriter {
    /// Uses the memory of vars that nobody else has.
    pub fn over(mut old: Vars) -> Self {
        let mut columns = Arc::get_mut(&mut old.0).map(std::mem::take).unwrap_or_default();
        columns.names.clear();
        columns.values.clear();
        Self { columns, place: old.0 }
    }

    /// Makes room for as many bytes of names and of values.
    pub fn reserve(&mut self, names: usize, values: usize) {
        self.columns.names.reserve(names);
        self.columns.values.reserve(values);
    }

    /// Appends one variable.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), VarsError> {
        let name_len = u16::try_from(name.len()).map_err(|_| VarsError::NameTooLong(name.len()))?;
        self.columns.names.extend_from_slice(&name_len.to_le_bytes());
        self.columns.names.extend_from_slice(name);
        self.value(value)
    }

    /// The same with a name that is known here: its length costs nothing.
    #[inline]
    pub fn push_known<const N: usize>(
        &mut self,
        name: &[u8; N],
        value: &[u8],
    ) -> Result<(), VarsError> {
        const { assert!(N <= 0xffff) };
        self.columns.names.extend_from_slice(&(N as u16).to_le_bytes());
        self.columns.names.extend_from_slice(name);
        self.value(value)
    }

    /// Appends one variable that came as a request header: `HTTP_` in front, upper case, and `_`
    /// for every `-` (RFC 3875 section 4.1.18).
    pub fn push_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), VarsError> {
        let len = name.len() + b"HTTP_".len();
        let name_len = u16::try_from(len).map_err(|_| VarsError::NameTooLong(len))?;
        let names = &mut self.columns.names;
        names.extend_from_slice(&name_len.to_le_bytes());
        names.extend_from_slice(b"HTTP_");
        names.extend(name.iter().map(|b| header_byte(*b)));
        self.value(value)
    }

    #[inline]
    fn value(&mut self, value: &[u8]) -> Result<(), VarsError> {
        let len = u32::try_from(value.len()).map_err(|_| VarsError::ValueTooLong(value.len()))?;
        self.columns.values.extend_from_slice(&len.to_le_bytes());
        self.columns.values.extend_from_slice(value);
        Ok(())
    }

    /// The finished vars.
    pub fn finish(mut self) -> Vars {
        match Arc::get_mut(&mut self.place) {
            Some(place) => *place = self.columns,
            None => self.place = Arc::new(self.columns),
        }
        Vars(self.place)
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
        let mut w = VarsWriter::default();
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
