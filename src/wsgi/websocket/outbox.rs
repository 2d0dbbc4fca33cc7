//! What is to be sent to a client: whole frames, with nothing in between.
//!
//! The application's thread puts a message in piece by piece, as there is room; what the event loop
//! has to say meanwhile (pong, ping, close) follows the message, since a frame can only stand
//! between two others.
//! Runs on: either, with the lock of the conversation.

use std::mem;

/// The bytes of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Control frames that have to wait for the end of a message.
    control: Vec<u8>,
    /// A message has begun and has not ended.
    open: bool,
    /// A message has begun and never ends: nothing can follow.
    torn: bool,
    /// With the event loop, and not sent yet.
    taken: usize,
    /// All bytes that have ever been put into `bytes`.
    put: u64,
    ping: Ping,
}

/// Where the last ping is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ping {
    #[default]
    None,
    /// Among `control`.
    Waits,
    /// It is sent when so many bytes are.
    At(u64),
}

impl Outbox {
    /// How many bytes have not been sent.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.control.len() + self.taken
    }

    /// Everything has been sent, unless more is put in.
    pub fn is_over(&self) -> bool {
        self.len() == 0 && (self.torn || !self.open)
    }

    /// A message has begun and has not ended.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// A frame begins with its header; [`Self::piece`] follows.
    pub fn begin(&mut self, header: impl FnOnce(&mut Vec<u8>)) {
        self.write(header);
        self.open = true;
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.put += (self.bytes.len() - before) as u64;
    }

    /// The next piece of the frame.
    pub fn piece(&mut self, bytes: &[u8]) {
        self.write(|to| to.extend_from_slice(bytes));
    }

    /// The frame is complete.
    pub fn end(&mut self) {
        self.open = false;
        let control = mem::take(&mut self.control);
        self.write(|to| to.extend_from_slice(&control));
        if self.ping == Ping::Waits {
            self.ping = Ping::At(self.put);
        }
    }

    /// The frame will never be complete.
    pub fn tear(&mut self) {
        self.torn = self.open;
        self.control = Vec::new();
    }

    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Where whole control frames are to be written; dropped behind a frame that has no end.
    pub fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.torn {
            write(&mut Vec::new());
        } else if self.open {
            write(&mut self.control);
        } else {
            self.write(write);
        }
    }

    /// As [`Self::control`], and [`Self::is_ping_sent`] says when the frame has left.
    pub fn ping(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.control(write);
        self.ping = if self.open { Ping::Waits } else { Ping::At(self.put) };
    }

    /// True once after each [`Self::ping`].
    pub fn is_ping_sent(&mut self) -> bool {
        let unsent = (self.bytes.len() + self.taken) as u64;
        let sent = matches!(self.ping, Ping::At(at) if self.put - unsent >= at);
        if sent {
            self.ping = Ping::None;
        }
        sent
    }

    /// All that can be sent, in exchange for the empty buffer of the last time.
    pub fn take(&mut self, spare: Vec<u8>) -> Vec<u8> {
        self.taken += self.bytes.len();
        mem::replace(&mut self.bytes, spare)
    }

    /// So much of what was taken has been sent.
    pub fn sent(&mut self, len: usize) {
        self.taken = self.taken.saturating_sub(len);
    }

    /// Nobody will take anything any more.
    pub fn clear(&mut self) {
        *self = Self { torn: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &'static [u8]) -> impl FnOnce(&mut Vec<u8>) {
        move |to| to.extend_from_slice(text)
    }

    #[test]
    fn control_frames_stand_between_messages() {
        let mut out = Outbox::default();
        out.control(write(b"ping "));
        out.begin(write(b"[3]"));
        out.piece(b"a");
        out.control(write(b" pong"));
        assert_eq!(out.take(Vec::new()), b"ping [3]a");
        assert_eq!(out.take(Vec::new()), b"");
        assert_eq!(out.len(), 14);
        out.piece(b"bc");
        out.end();
        out.control(write(b" close"));
        assert_eq!(out.take(Vec::new()), b"bc pong close");
        out.sent(9);
        assert_eq!(out.len(), 13);
        assert!(!out.is_over());
        out.sent(13);
        assert!(out.is_over());
    }

    #[test]
    fn a_ping_is_sent_when_all_in_front_of_it_is() {
        let mut out = Outbox::default();
        out.begin(write(b"[2]"));
        out.ping(write(b"ping"));
        out.piece(b"a");
        let taken = out.take(Vec::new());
        out.sent(taken.len());
        assert!(!out.is_ping_sent());
        out.piece(b"b");
        out.end();
        out.control(write(b"pong"));
        assert_eq!(out.take(Vec::new()), b"bpingpong");
        out.sent(4);
        assert!(!out.is_ping_sent());
        out.sent(1);
        assert!(out.is_ping_sent());
        assert!(!out.is_ping_sent());
    }

    #[test]
    fn nothing_follows_a_message_without_an_end() {
        let mut out = Outbox::default();
        out.tear();
        assert!(!out.is_torn());
        out.begin(write(b"[9]"));
        out.control(write(b"pong"));
        out.tear();
        out.control(write(b"close"));
        assert!(out.is_torn());
        assert_eq!(out.take(Vec::new()), b"[9]");
        assert!(!out.is_over());
        out.sent(3);
        assert!(out.is_over());
    }
}
