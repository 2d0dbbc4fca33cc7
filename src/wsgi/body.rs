//! Pieces of bodies, and the request body made of them: in memory, in a file, or both.
//!
//! A request body is built by `src/nginx/body.rs` when nginx has read it whole, and read at random
//! positions by `src/python/input.rs`. A response body crosses as [`Segment`]s one by one. A file
//! is a descriptor of its own (duplicated), so it stays readable whatever its first owner does.
//! Runs on: pool thread (reads), event loop (construction).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::io::{AsRawFd, RawFd};
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
    fn read_exact_at(&self, part: &mut [u8], skip: u64) -> io::Result<()> {
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

/// A whole request body.
#[derive(Debug, Default)]
pub struct RequestBody {
    segments: Vec<Segment>,
    len: u64,
}

impl RequestBody {
    pub fn new(segments: Vec<Segment>) -> Self {
        let len = segments.iter().map(Segment::len).sum();
        Self { segments, len }
    }

    /// Length in bytes, after nginx has removed any transfer coding.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads up to `buf.len()` bytes at `pos`; fewer only at the end of the body.
    ///
    /// Fails with `UnexpectedEof` when the temp file is shorter than nginx said.
    pub fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut done = 0;
        let mut start = 0;
        for segment in &self.segments {
            let len = segment.len();
            let want = pos + done as u64;
            if done < buf.len() && want >= start && want < start + len {
                let skip = want - start;
                let n = (buf.len() - done).min(usize::try_from(len - skip).unwrap_or(usize::MAX));
                let part = &mut buf[done..done + n];
                segment.read_exact_at(part, skip)?;
                done += n;
            }
            start += len;
        }
        Ok(done)
    }

    /// These bytes, if they lie in memory in one piece.
    pub fn in_memory(&self, pos: u64, len: usize) -> Option<&[u8]> {
        let mut skip = pos;
        for segment in &self.segments {
            if skip < segment.len() {
                return segment.bytes()?.get(usize::try_from(skip).ok()?..)?.get(..len);
            }
            skip -= segment.len();
        }
        None
    }

    /// The descriptor that holds the whole body from its offset 0 on, if there is one.
    pub fn as_file(&self) -> Option<RawFd> {
        match &self.segments[..] {
            [Segment::File { file, offset: 0, .. }] => Some(file.as_raw_fd()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let name = format!("wsgi-body-{}-{}", std::process::id(), content.len());
        let path = std::env::temp_dir().join(name);
        let mut f = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        f.write_all(content).unwrap();
        f
    }

    #[test]
    fn reads_run_over_segment_boundaries() {
        let body = RequestBody::new(vec![
            Segment::Memory(Bytes::from_static(b"abc")),
            Segment::File { file: file(b"xxdefgh"), offset: 2, len: 4 },
            Segment::Memory(Bytes::from_static(b"")),
            Segment::Copied(b"hi".to_vec()),
        ]);
        assert_eq!(body.len(), 9);
        for start in 0..=9usize {
            for len in 0..=10usize {
                let mut buf = vec![0; len];
                let n = body.read_at(&mut buf, start as u64).unwrap();
                let end = (start + len).min(9);
                assert_eq!(&buf[..n], &b"abcdefghi"[start..end]);
                let is_memory = (start..start + len).all(|at| at < 3) && start < 3
                    || (start..start + len).all(|at| (7..9).contains(&at))
                        && (7..9).contains(&start);
                let found = body.in_memory(start as u64, len);
                assert_eq!(found, is_memory.then(|| &b"abcdefghi"[start..start + len]));
            }
        }
        assert_eq!(body.read_at(&mut [0; 4], 100).unwrap(), 0);
        assert!(body.as_file().is_none());
    }

    #[test]
    fn a_truncated_file_is_an_error_and_not_an_early_end() {
        let body = RequestBody::new(vec![Segment::File { file: file(b"abc"), offset: 0, len: 10 }]);
        let err = body.read_at(&mut [0; 10], 0).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
        assert!(body.as_file().is_some());
    }
}
