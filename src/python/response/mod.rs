//! The way of head and chunks from the application into the [`ResponseSender`].
//!
//! Owned by the request's `start_response` object, driven by it (write()) and by `call` (what the
//! application returns). Holds back the head until the first non-empty chunk, keeps the body to
//! what head and method allow, and waits, detached, while the client is slower.
//! Runs on: pool thread. PEP 3333, "Buffering and Streaming", "Handling the Content-Length Header".

pub mod deferred_release;
pub mod file_wrapper;
pub mod start_response;

use std::fs::File;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::python::interpreter::log;
use crate::wsgi::error::{Cancelled, Failure};
use crate::wsgi::exchange::{End, Follows, ResponseSender, Room, Sink};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::Level;
use crate::wsgi::segment::Segment;

pub const TOO_LONG: &str = "application returned more than Content-Length";

/// Why a chunk cannot be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// start_response has not been called.
    NoHead,
    Cancelled(Cancelled),
}

/// Whether the application should be asked for more.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    More,
    /// The client must not or cannot get anything that would follow.
    Nothing,
}

pub struct Response {
    sender: ResponseSender,
    /// The request's method is HEAD.
    head_only: bool,
    head: Option<ResponseHead>,
    started: bool,
    head_sent: bool,
    /// No body: HEAD, 204 and so on. Known once the head is sent.
    bodyless: bool,
    /// Bytes of the body that Content-Length leaves.
    left: Option<u64>,
    overrun: bool,
    full: bool,
}

impl Response {
    pub fn new(sender: ResponseSender, head_only: bool) -> Self {
        Self {
            sender,
            head_only,
            head: None,
            started: false,
            head_sent: false,
            bodyless: false,
            left: None,
            overrun: false,
            full: false,
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.sender.is_cancelled()
    }

    /// See [`ResponseSender::take_head_block`].
    pub fn take_head_block(&mut self) -> Vec<u8> {
        self.sender.take_head_block()
    }

    /// start_response has been called with success.
    pub fn is_started(&self) -> bool {
        self.started
    }

    pub fn is_head_sent(&self) -> bool {
        self.head_sent
    }

    /// Sets or replaces the head; only before [`Self::is_head_sent`].
    pub fn start(&mut self, head: ResponseHead) {
        self.head = Some(head);
        self.started = true;
    }

    /// The whole body will have `length` bytes, if the application has not said so itself.
    pub fn know_length(&mut self, length: u64) {
        if let Some(head) = &mut self.head
            && !self.head_only
            && head.allows_body()
            && head.content_length().is_none()
        {
            head.set_content_length(length);
        }
    }

    /// Sends a file's `rest`, as far as Content-Length goes; the end follows at once. `file` has
    /// these bytes from `offset` on.
    pub fn send_file(
        &mut self,
        py: Python<'_>,
        file: File,
        offset: u64,
        rest: u64,
    ) -> Result<(), Refused> {
        if self.sender.is_cancelled() {
            return Err(Refused::Cancelled(Cancelled));
        }
        if let Some(head) = &mut self.head
            && head.allows_body()
        {
            let length = head.content_length().unwrap_or(rest);
            head.set_content_length(length);
            if length <= rest {
                head.set_file();
            }
        }
        self.open_body(py)?;
        let len = self.left.map_or(rest, |left| left.min(rest));
        if self.bodyless || len == 0 {
            return Ok(());
        }
        if let Some(left) = &mut self.left {
            *left -= len;
        }
        // It needs no room, and the thread is not needed any more.
        let sent = self.sender.send(Segment::File { file, offset, len }, Follows::AtOnce);
        sent.map(drop).map_err(Refused::Cancelled)
    }

    /// Sends a chunk.
    pub fn send(&mut self, chunk: &Bound<'_, PyBytes>, next: Follows) -> Result<Wanted, Refused> {
        let (py, bytes) = (chunk.py(), chunk.as_bytes());
        if self.sender.is_cancelled() {
            return Err(Refused::Cancelled(Cancelled));
        }
        if bytes.is_empty() {
            return Ok(Wanted::More);
        }
        self.open_body(py)?;
        if self.bodyless || self.overrun {
            return Ok(Wanted::Nothing);
        }
        let allowed = self.within_length(py, bytes.len());
        let sent = match allowed {
            ..deferred_release::MIN => self.send_pieces(py, &bytes[..allowed], next),
            _ => self.send_whole(chunk, allowed, next),
        };
        sent.map_err(Refused::Cancelled)?;
        Ok(if self.overrun { Wanted::Nothing } else { Wanted::More })
    }

    /// Whether the body has all of its Content-Length with `len` bytes more.
    pub fn is_whole_with(&self, len: usize) -> bool {
        let left = match &self.head {
            Some(head) => head.content_length(),
            None => self.left,
        };
        left.is_some_and(|left| left > 0 && left <= len as u64)
    }

    /// Sends the head, because a part of the body is there. One that nobody will get is worth a
    /// word.
    fn open_body(&mut self, py: Python<'_>) -> Result<(), Refused> {
        if !self.started {
            return Err(Refused::NoHead);
        }
        if let Some(head) = &self.head
            && !(self.head_only || head.allows_body() || head.is_redirect())
        {
            let line = format!("application returned a body with status {}", head.code());
            log::record(py, Some(self.sender.id()), Level::Warn, line);
        }
        self.send_head();
        Ok(())
    }

    fn send_head(&mut self) {
        if let Some(head) = self.head.take() {
            self.bodyless = self.head_only || !head.allows_body();
            self.left = head.content_length();
            self.head_sent = true;
            self.sender.head(head);
        }
    }

    /// Cuts what Content-Length does not allow: on a kept connection the client would take it for
    /// the next response.
    fn within_length(&mut self, py: Python<'_>, len: usize) -> usize {
        let Some(left) = &mut self.left else { return len };
        let allowed = usize::try_from(*left).unwrap_or(usize::MAX).min(len);
        *left -= allowed as u64;
        if allowed < len {
            self.overrun = true;
            log::record(py, Some(self.sender.id()), Level::Error, TOO_LONG.to_owned());
        }
        allowed
    }

    /// What is shared is in memory anyway, however much it is: its first `len` bytes go as a whole.
    fn send_whole(
        &mut self,
        chunk: &Bound<'_, PyBytes>,
        len: usize,
        next: Follows,
    ) -> Result<(), Cancelled> {
        if !self.is_spooled(chunk.py(), &chunk.as_bytes()[..len])? {
            // A long response would pile them up, if every thread is busy with one.
            deferred_release::release();
            let chunk = deferred_release::share(chunk).slice(..len);
            self.full = self.sender.send(Segment::Memory(chunk), next)? == Room::Full;
        }
        Ok(())
    }

    /// Copies, in pieces no larger than the window: else one chunk would make it meaningless.
    fn send_pieces(
        &mut self,
        py: Python<'_>,
        chunk: &[u8],
        next: Follows,
    ) -> Result<(), Cancelled> {
        let mut rest = chunk;
        while !rest.is_empty() && !self.is_spooled(py, rest)? {
            let (piece, after) = rest.split_at(rest.len().min(self.sender.piece()));
            let piece = self.sender.copy(piece);
            self.full = self.sender.send(piece, next)? == Room::Full;
            rest = after;
        }
        Ok(())
    }

    /// Whether the chunk has gone to the temporary file; if not, there is room for it in memory.
    fn is_spooled(&mut self, py: Python<'_>, chunk: &[u8]) -> Result<bool, Cancelled> {
        if !self.full {
            return Ok(false);
        }
        if self.sender.append(chunk) {
            return Ok(true);
        }
        Ok(py.detach(|| self.sender.make_room(chunk))? == Sink::File)
    }

    /// The application has returned everything: sends what is held back, and says how the
    /// exchange is to end.
    pub fn complete(&mut self) -> End {
        if !self.started {
            return Err(Failure::Protocol);
        }
        if self.head.as_ref().is_some_and(|head| self.lacks_body(head)) {
            return Err(Failure::Underrun);
        }
        self.send_head();
        let underrun = !self.bodyless && self.left.is_some_and(|left| left > 0);
        if underrun { Err(Failure::Underrun) } else { Ok(()) }
    }

    /// Nothing has been sent for a head that promises something.
    fn lacks_body(&self, head: &ResponseHead) -> bool {
        !self.head_only && head.allows_body() && head.content_length().is_some_and(|len| len > 0)
    }
}
