//! A descriptor that is readable while there is something to receive, for an application that waits
//! for several things at once (`uwsgi.connection_fd()`).
//!
//! Made when it is asked for: most applications never do.
//! Runs on: either.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Holds at most one byte, and neither end ever blocks: the application might read it away.
#[derive(Debug)]
pub struct Bell {
    reader: UnixStream,
    writer: UnixStream,
    rung: bool,
}

impl Bell {
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer, rung: false })
    }

    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Says whether there is something to receive.
    pub fn ring(&mut self, on: bool) {
        if on != self.rung {
            self.rung = on;
            // Neither can fail but after a read by somebody else.
            let _ = if on { self.writer.write(b"!") } else { self.reader.read(&mut [0]) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_holds_one_byte_while_it_is_rung() {
        let mut bell = Bell::new().unwrap();
        for (on, want) in [(true, Some(1)), (true, Some(1)), (false, None), (true, Some(1))] {
            bell.ring(on);
            let there = bell.reader.read(&mut [0; 9]).ok();
            assert_eq!(there, want);
            if let Some(len) = there {
                bell.writer.write_all(&b"!!"[..len]).unwrap();
            }
        }
        // Who has taken the byte away harms nobody.
        bell.reader.read_exact(&mut [0]).unwrap();
        bell.ring(false);
        bell.ring(true);
        assert_eq!(bell.reader.read(&mut [0; 9]).unwrap(), 1);
    }
}
