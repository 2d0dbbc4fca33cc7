//! The stacks of all Python threads, written without the GIL.
//!
//! faulthandler writes them on a signal; a copy of the process raises it, see
//! [`children::raise_in_child`].
//! Runs on: any thread.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::nginx::sys::{children, process};

/// The stacks are written in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The signal that writes all stacks into the file.
pub struct StackDump {
    signal: i32,
    file: OwnedFd,
}

impl StackDump {
    /// `None` if the system gives no file.
    pub fn new() -> Option<Self> {
        let file = process::memory_file(c"wsgi-stacks").ok()?;
        Some(Self { signal: process::stack_signal(), file })
    }

    /// What Python is to set up.
    pub fn target(&self) -> (i32, RawFd) {
        (self.signal, self.file.as_raw_fd())
    }

    /// The stacks, a line each.
    pub fn lines(&self) -> Vec<String> {
        let file = self.file.try_clone().map(File::from);
        let emptied = file.and_then(|mut file| {
            file.set_len(0)?;
            file.rewind()?;
            Ok(file)
        });
        // The handler, Python's faulthandler, needs no GIL, but it walks frames that running
        // threads would change under it.
        children::raise_in_child(self.signal, TIMEOUT);
        let mut text = Vec::new();
        let read = emptied.and_then(|mut file| {
            file.rewind()?;
            file.read_to_end(&mut text)
        });
        match read {
            Ok(_) => {
                let text = String::from_utf8_lossy(&text);
                text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            Err(err) => vec![format!("the stacks cannot be read: {err}")],
        }
    }
}
