//! A link to another worker: messages in order, both ways.
//!
//! What is sent in one turn of the event loop goes out at its end, in as few packets as it fits.
//! What the other worker does not take in yet waits here, no more than a window of each response.
//! Runs on: event loop.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ngx::ffi::ngx_log_t;

use crate::nginx::sys::seqpacket::{Received, Sent, Seqpacket};
use crate::nginx::sys::socket::{Ready, Socket};
use crate::wsgi::mailbox::ExchangeId;
use crate::wsgi::relay::message::{Malformed, Message};
use crate::wsgi::relay::packet::{MAX_PACKET, cut, pack, unpack};

/// Messages that may wait beside those of responses, which their windows limit.
const MANY: usize = 256;

/// What a link says.
#[derive(Debug)]
pub enum Said {
    Message(Message),
    /// A message about this request has come without its descriptors, which this process cannot
    /// open. `true`: it is an order.
    Cut(ExchangeId, bool),
    /// A message cannot be sent, since the kernel refuses its descriptors or lacks memory. The link
    /// goes on.
    Refused(Message, io::Error),
    /// The other worker has been sent all that waited.
    Sent,
    /// The other worker has gone, or is not to be understood, or this one leaves. Nothing follows.
    End(Option<Malformed>),
}

/// A link. It is open until [`Self::close`].
pub struct Link {
    /// Never used twice in a worker.
    pub number: u64,
    /// Of the other worker.
    pub slot: usize,
    socket: Socket,
    outbox: RefCell<VecDeque<Message>>,
    /// The other worker has not taken in what was sent.
    is_full: Cell<bool>,
    is_open: Cell<bool>,
    /// The other worker has said something.
    was_used: Cell<bool>,
}

impl Link {
    /// Watches one end of a pair. `None` if that is not possible, which nginx has logged.
    pub fn open(
        number: u64,
        slot: usize,
        end: OwnedFd,
        log: *mut ngx_log_t,
        act: impl Fn(Ready) + 'static,
    ) -> Option<Rc<Self>> {
        // SAFETY: on the event loop of a worker, whose cycle's log lives as long.
        let socket = unsafe { Socket::open(end, log, Rc::new(act)) }?;
        Some(Rc::new(Self {
            number,
            slot,
            socket,
            outbox: RefCell::default(),
            is_full: Cell::new(false),
            is_open: Cell::new(true),
            was_used: Cell::new(false),
        }))
    }

    /// Sends a message at the next [`Self::flush`]; true if it is the first for that.
    pub fn send(&self, message: Message) -> bool {
        let mut outbox = self.outbox.borrow_mut();
        outbox.push_back(message);
        outbox.len() == 1
    }

    /// Sends what waits, as far as the other worker takes it in. `scratch` is written over. An error
    /// is to be said, and the call repeated.
    pub fn flush(&self, scratch: &mut Vec<u8>) -> Result<(), Said> {
        while self.is_open.get() && !self.is_full.get() {
            let mut outbox = self.outbox.borrow_mut();
            if outbox.is_empty() {
                break;
            }
            let (count, sent) = {
                let (count, fds) = pack(outbox.iter(), scratch);
                (count, Seqpacket::new(&self.socket).send(scratch, &fds))
            };
            match sent {
                Sent::Whole => drop(outbox.drain(..count)),
                Sent::Full => {
                    self.is_full.set(true);
                    if !self.socket.watch_room() {
                        // Nobody would say when there is room.
                        return Err(Said::End(None));
                    }
                }
                // The end is read, behind what the other worker has said before.
                Sent::Gone => outbox.clear(),
                Sent::Refused(err) => {
                    let last = outbox.remove(count - 1);
                    return last.map_or(Ok(()), |message| Err(Said::Refused(message, err)));
                }
            }
        }
        Ok(())
    }

    /// Whether the other worker has ever said anything.
    pub fn was_used(&self) -> bool {
        self.was_used.get()
    }

    /// Something waits until the other worker takes it in.
    pub fn has_unsent(&self) -> bool {
        !self.outbox.borrow().is_empty()
    }

    /// So much waits that what can go elsewhere is not to wait too.
    pub fn is_behind(&self) -> bool {
        self.is_full.get() && self.outbox.borrow().len() >= MANY
    }

    /// The other worker may take in more.
    pub fn has_room(&self) {
        self.is_full.set(false);
    }

    /// Receives all that has come. `say` may close the link.
    pub fn receive(&self, scratch: &mut Vec<u8>, mut say: impl FnMut(Said)) {
        scratch.resize(MAX_PACKET, 0);
        while self.is_open.get() {
            match Seqpacket::new(&self.socket).receive(scratch) {
                Received::Message(len, fds) => {
                    self.tell(&scratch[..len], fds, &mut say);
                }
                Received::Cut(len) => match cut(&scratch[..len]) {
                    Ok((before, last)) => {
                        self.tell(before, Vec::new(), &mut say);
                        match Message::about(last) {
                            Some((id, is_order)) => say(Said::Cut(id, is_order)),
                            None => say(Said::End(Some(Malformed("packet")))),
                        }
                    }
                    Err(malformed) => say(Said::End(Some(malformed))),
                },
                Received::Nothing => return,
                Received::End | Received::Failed(_) => return say(Said::End(None)),
                Received::Truncated => say(Said::End(Some(Malformed("length of a packet")))),
            }
        }
    }

    fn tell(&self, packet: &[u8], fds: Vec<OwnedFd>, say: &mut impl FnMut(Said)) {
        for message in unpack(packet, fds) {
            if !self.is_open.get() {
                return;
            }
            self.was_used.set(true);
            say(match message {
                Ok(message) => Said::Message(message),
                Err(malformed) => Said::End(Some(malformed)),
            });
        }
    }

    /// Closes the link. The other worker reads what has been sent before.
    pub fn close(&self) {
        if self.is_open.replace(false) {
            self.outbox.borrow_mut().clear();
            self.socket.close();
        }
    }
}
