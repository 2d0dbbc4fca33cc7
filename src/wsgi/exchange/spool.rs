//! How far a response may run ahead of its client, and the file it runs into.
//!
//! Beyond the window in memory the pool thread writes to an unlinked temporary file, from which
//! nginx sends: a slow client costs disk, not a thread. The file belongs to the exchange, which
//! says when everything in it has been sent; then it is used again from its start.
//! Runs on: pool thread (files), event loop (settings).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Bytes an application may be ahead with `wsgi_buffering off`.
const UNBUFFERED: usize = 4096;

/// The temporary files of a location.
#[derive(Debug)]
pub struct Spooling {
    /// `wsgi_temp_path`.
    pub dir: PathBuf,
    /// `wsgi_max_temp_file_size` in bytes, above 0.
    pub limit: u64,
    /// How long a client may take for half of the window before the file is used: one that is
    /// nearly as fast as the application costs no disk.
    pub grace: Duration,
}

/// What the configuration says of buffering.
#[derive(Debug, Clone, Default)]
pub struct Buffering {
    /// `wsgi_buffering`, or X-Accel-Buffering.
    pub on: bool,
    /// X-Accel-Buffering is obeyed.
    pub heeds_header: bool,
    /// `wsgi_buffer_size` in bytes.
    pub size: usize,
    /// `None`: the application waits when memory is full.
    pub spooling: Option<Arc<Spooling>>,
}

impl Buffering {
    /// So many bytes in memory, and no file.
    #[cfg(test)]
    pub fn in_memory(size: usize) -> Self {
        Self { on: true, heeds_header: true, size, spooling: None }
    }

    /// Bytes of memory the application may be ahead.
    pub fn window(&self) -> usize {
        if self.on { self.size } else { self.size.min(UNBUFFERED) }
    }

    /// Bytes of the window for small chunks behind the file.
    pub fn tail(&self) -> usize {
        if self.on && self.spooling.is_some() { self.size / 4 } else { 0 }
    }

    /// The application has its say, by X-Accel-Buffering.
    pub fn heed(&mut self, wanted: Option<bool>) {
        if let (true, Some(on)) = (self.heeds_header, wanted) {
            self.on = on;
        }
    }

    /// A file for this response, not opened yet.
    pub fn spool(&self) -> Option<Spool> {
        let spooling = self.spooling.as_ref().filter(|_| self.on)?;
        Some(Spool { spooling: Arc::clone(spooling), file: None, end: 0 })
    }
}

/// The file of one response.
#[derive(Debug)]
pub struct Spool {
    spooling: Arc<Spooling>,
    file: Option<Arc<File>>,
    /// Where the next chunk goes.
    end: u64,
}

impl Spool {
    pub fn grace(&self) -> Duration {
        self.spooling.grace
    }

    /// Whether the limit leaves room for so many bytes.
    pub fn fits(&self, len: usize) -> bool {
        self.end.saturating_add(len as u64) <= self.spooling.limit
    }

    /// Everything in the file has been sent.
    pub fn rewind(&mut self) {
        self.end = 0;
    }

    /// Appends, and returns where. Blocks on the disk.
    pub fn write(&mut self, parts: &[&[u8]]) -> io::Result<(Arc<File>, u64)> {
        let file = match &self.file {
            Some(file) => {
                if self.end == 0 {
                    // Not overwritten: after sendfile() the kernel may still be sending these very
                    // pages. Cut off, they are its own, and the disk has its space back.
                    file.set_len(0)?;
                }
                file
            }
            None => self.file.insert(Arc::new(tempfile::tempfile_in(&self.spooling.dir)?)),
        };
        let offset = self.end;
        for part in parts {
            file.write_all_at(part, self.end)?;
            self.end += part.len() as u64;
        }
        Ok((Arc::clone(file), offset))
    }

    /// What to say of a failure.
    pub fn explain(&self, err: &io::Error) -> String {
        let dir = self.spooling.dir.display().to_string();
        format!("temporary file in \"{}\": {err}", dir.escape_debug())
    }
}
