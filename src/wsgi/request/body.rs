//! A whole request body, made of pieces in memory, in a file, or both.
//!
//! Built by `src/nginx/request/body.rs` when nginx has read it, and read at random positions by
//! `src/python/request/input.rs`.
//! Runs on: pool thread (reads), event loop (construction).

use std::io;
use std::os::unix::io::{AsRawFd, RawFd};

use crate::wsgi::segment::Segment;

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

    /// Its pieces in their order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
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
    use bytes::Bytes;
    use std::fs::File;
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
