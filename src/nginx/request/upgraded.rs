//! What a request keeps that asks for a WebSocket: the event loop's end of a pair of sockets, and
//! what is on its way between that and the client.
//!
//! `nginx/websocket` passes it on. Runs on: event loop.

use std::sync::Arc;
use std::time::Instant;

use ngx::ffi::ngx_connection_t;

use crate::nginx::sys::bits;
use crate::nginx::sys::connection::send;
use crate::nginx::sys::pair::{self, Received, Sent};
use crate::nginx::sys::process;
use crate::nginx::sys::socket::Socket;
use crate::nginx::worker::retire;
use crate::wsgi::upgrade::Upgrade;
use crate::wsgi::upgrade::buffer::Buffer;
use crate::wsgi::websocket::Look;

/// How the application answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It has not yet.
    Undecided,
    /// By start_response, as any other request.
    Wsgi,
    /// By a 101 of its own: what follows is between the application and the client.
    Switched,
    /// By the handshake of a WebSocket: the server makes frames of its messages.
    Frames,
    /// By another response of its own, which goes to the client as it is.
    Verbatim,
}

pub struct Upgraded {
    pub upgrade: Arc<Upgrade>,
    pub way: Way,
    /// `None`: closed.
    socket: Option<Socket>,
    pub to_app: Buffer,
    pub to_client: Buffer,
    /// The application may have written something.
    pub is_readable: bool,
    /// Nothing is written there any more.
    pub has_ended: bool,
    /// The application has returned.
    pub has_returned: bool,
    /// The client sends no more, and whether the application knows.
    pub client_ended: bool,
    pub is_told: bool,
    /// What the conversation has said last.
    pub look: Look,
    /// What the timer is armed for.
    pub due: Option<Instant>,
}

impl Upgraded {
    pub fn new(upgrade: Arc<Upgrade>, socket: Socket) -> Self {
        Self {
            upgrade,
            way: Way::Undecided,
            socket: Some(socket),
            to_app: Buffer::default(),
            to_client: Buffer::default(),
            is_readable: false,
            has_ended: false,
            has_returned: false,
            client_ended: false,
            is_told: false,
            look: Look::default(),
            due: None,
        }
    }

    /// Receives from the application, into a buffer that has room.
    pub fn receive(&mut self) -> Received {
        let Some(socket) = &self.socket else { return Received::End };
        let into = self.to_client.room();
        let received = self.upgrade.raw.receive(|| {
            let received = pair::receive(socket, into);
            let len = if let Received::Bytes(len) = received { len } else { 0 };
            (len, received)
        });
        match received {
            Received::Bytes(len) => self.to_client.filled(len),
            Received::Nothing => self.is_readable = false,
            Received::End => (self.is_readable, self.has_ended) = (false, true),
        }
        received
    }

    /// Sends to the application what is in the buffer for it.
    pub fn send(&mut self) -> Sent {
        let sent = match &self.socket {
            Some(socket) => pair::send(socket, self.to_app.bytes()),
            None => Sent::Gone,
        };
        match sent {
            Sent::Bytes(len) => self.to_app.passed(len),
            Sent::Full => (),
            Sent::Gone => self.to_app.clear(),
        }
        sent
    }

    /// Be told when there is room for more; false if that cannot be.
    pub fn watch_room(&self) -> bool {
        self.socket.as_ref().is_none_or(Socket::watch_room)
    }

    /// The application receives what has been sent so far, and then the end.
    pub fn end(&mut self) {
        self.is_told = true;
        if let Some(socket) = &self.socket {
            pair::end(socket);
        }
    }

    /// The application receives the end, and can send no more.
    pub fn hang_up(&self) {
        if let Some(socket) = &self.socket {
            pair::hang_up(socket);
        }
    }

    /// The application has no client any more. If that is because the worker leaves, the client is
    /// told, as far as that needs no waiting.
    ///
    /// # Safety
    ///
    /// `c` is the client's connection, and open.
    pub unsafe fn part(&mut self, c: *mut ngx_connection_t) {
        let frames = &self.upgrade.frames;
        let leaves = process::is_leaving() || retire::is_outdated() || retire::is_gone();
        if self.way == Way::Frames && leaves {
            frames.leave();
            // What nginx still has, the head for one, goes first.
            // SAFETY: the connection is open, as the caller says.
            let is_free = unsafe { bits::connection::buffered(c) } == 0;
            for look in [false, true].into_iter().filter(|_| is_free) {
                if look && self.to_client.is_empty() {
                    self.to_client.exchange(|spare| frames.look(spare, Instant::now()).output);
                }
                if self.to_client.is_empty() {
                    continue;
                }
                // SAFETY: the connection is open, as the caller says.
                match usize::try_from(unsafe { send(c, self.to_client.bytes_mut()) }) {
                    Ok(len) => self.to_client.passed(len),
                    Err(_) => break,
                }
            }
        }
        frames.gone();
        if self.way != Way::Undecided && !self.to_client.is_empty() {
            // With TLS nothing can follow what has been sent in part, not even the end.
            // SAFETY: the connection is open, as the caller says.
            unsafe { bits::connection::set_error(c, true) };
        }
    }

    /// Nothing goes there or comes from there any more. Calling it again does nothing.
    pub fn close(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        pair::hang_up(&socket);
        self.upgrade.raw.close(|| {
            // Else the application would receive an error in place of the end.
            let mut left = [0; 4096];
            while let Received::Bytes(_) = pair::receive(&socket, &mut left) {}
            socket.close();
        });
    }
}
