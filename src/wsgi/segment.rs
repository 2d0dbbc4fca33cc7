//! Pieces of bodies: in memory, or in a file.
//!
//! A response body crosses as [`Segment`]s one by one, a request body is made of them. A file is a
//! descriptor of its own (duplicated), so it stays readable whatever its first owner does.
//! Runs on: either.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

/// One piece of a body.
#[derive(Debug)]
pub enum Segment {
    Memory(Bytes),
    /// The same as a copy made for the response, whose memory can be used again.
    Copied(Vec<u8>),
    /// `len` bytes of `file` from `offset` on.
    File {
        file: File,
        offset: u64,
        len: u64,
    },
    /// The same in the temporary file of a response, which it shares with other pieces.
    Spooled {
        file: Arc<File>,
        offset: u64,
        len: u64,
    },
}

/// Several, or, most often, one.
pub type Segments = SmallVec<[Segment; 1]>;

impl Default for Segment {
    fn default() -> Self {
        Self::Memory(Bytes::new())
    }
}

impl Segment {
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(_) | Self::Copied(_) => self.held() as u64,
            Self::File { len, .. } | Self::Spooled { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it holds.
    pub fn held(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
    }

    /// Its bytes, if they are in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::Copied(block) => Some(block),
            Self::File { .. } | Self::Spooled { .. } => None,
        }
    }

    /// Reads all of `part` from its byte `skip` on, which has to be there.
    pub(in crate::wsgi) fn read_exact_at(&self, part: &mut [u8], skip: u64) -> io::Result<()> {
        match self {
            Self::Memory(_) | Self::Copied(_) => {
                let (bytes, skip) = (self.bytes().unwrap_or_default(), skip as usize);
                part.copy_from_slice(&bytes[skip..skip + part.len()]);
                Ok(())
            }
            Self::File { file, offset, .. } => file.read_exact_at(part, offset + skip),
            Self::Spooled { file, offset, .. } => file.read_exact_at(part, offset + skip),
        }
    }

    /// Takes in `next` if that follows in the same temporary file.
    pub fn extend(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Spooled { offset, len, .. }, Self::Spooled { offset: at, len: more, .. })
                if *offset + *len == *at =>
            {
                *len += more;
                true
            }
            _ => false,
        }
    }
}
