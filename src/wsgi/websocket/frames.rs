//! The frames of RFC 6455, read and written by the crate tungstenite over plain memory.
//!
//! What comes in is a message, a sign of life or an end; answers that the protocol asks for (pong,
//! close) are written at once. After the first error nothing more is read.
//! Runs on: event loop; headers of messages either.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tungstenite::error::Error;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::message::{Kind, Message};

/// Bytes of a close frame's reason at most: a control frame holds 125, two are the code.
pub const MAX_REASON: usize = 123;

/// Memory of an idle connection for what comes, in bytes. More is taken in steps of as much.
const BUFFER: usize = 2048;

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Message(Message),
    /// A ping, which is answered, or the answer to one.
    Alive,
    /// A close frame with this code, 1005 if there was none in it. It has been answered, unless it
    /// is itself an answer.
    Close(u16),
    /// The client has broken the protocol or a limit: a close frame with this code has been written.
    Broken(u16),
}

/// The state of one connection.
#[derive(Debug)]
pub struct Frames {
    context: WebSocketContext,
    /// Nothing is read any more.
    over: bool,
}

/// Memory to read from and to write to.
struct Memory<'a, 'b> {
    input: &'a mut &'b [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Memory<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for Memory<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Frames {
    /// `max_message`: bytes of a message, and of a frame, at most.
    pub fn new(max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message.max(MAX_REASON + 2)));
        Self { context: WebSocketContext::new(Role::Server, Some(config)), over: false }
    }

    /// What comes next in the input, whose bytes are used up. None: nothing until there is more.
    pub fn read(&mut self, input: &mut &[u8], output: &mut Vec<u8>) -> Option<Event> {
        if self.over {
            *input = &[];
            return None;
        }
        let mut memory = Memory { input, output };
        match self.context.read(&mut memory) {
            Ok(tungstenite::Message::Text(text)) => {
                Some(Event::Message(Message { kind: Kind::Text, data: text.into() }))
            }
            Ok(tungstenite::Message::Binary(data)) => {
                Some(Event::Message(Message { kind: Kind::Binary, data }))
            }
            Ok(tungstenite::Message::Close(frame)) => {
                self.over = true;
                // The answer, if there is one to give; the error says that all is over.
                let _ = self.context.flush(&mut memory);
                Some(Event::Close(frame.map_or(1005, |frame| frame.code.into())))
            }
            Ok(_) => {
                // The pong: a later read would write it too, but may be a long time off.
                let _ = self.context.flush(&mut memory);
                Some(Event::Alive)
            }
            Err(Error::Io(err)) if err.kind() == io::ErrorKind::WouldBlock => None,
            Err(err) => {
                self.over = true;
                let code = match err {
                    Error::Capacity(_) => 1009,
                    Error::Utf8(_) => 1007,
                    _ => 1002,
                };
                self.close(code, "", output);
                Some(Event::Broken(code))
            }
        }
    }

    /// Writes a close frame, unless there was one already. The client may still send; its answer is
    /// an [`Event::Close`].
    pub fn close(&mut self, code: u16, reason: &str, output: &mut Vec<u8>) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        let mut memory = Memory { input: &mut &[][..], output };
        // Memory takes everything; the other errors say that there was a close frame.
        let _ = self.context.close(&mut memory, Some(frame));
    }
}

/// The header of a message's one frame.
pub fn header(kind: Kind, len: usize, output: &mut Vec<u8>) {
    let data = match kind {
        Kind::Text => Data::Text,
        Kind::Binary => Data::Binary,
    };
    let header = FrameHeader { opcode: OpCode::Data(data), ..FrameHeader::default() };
    // Memory takes everything.
    let _ = header.format(len as u64, output);
}

pub fn ping(output: &mut Vec<u8>) {
    let _ = Frame::ping(Bytes::new()).format(output);
}

/// Whether a close frame may have this code: RFC 6455 section 7.4, and what is registered since.
pub fn may_send(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
