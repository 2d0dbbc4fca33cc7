//! The links of this worker, and how they are made: who first needs another worker puts one end of
//! a new pair into its inbox.
//!
//! Two workers may have two links, if each made one at the same time; each serves both.
//! Runs on: event loop.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use ngx::ffi::ngx_log_t;

use super::link::{Link, Said};
use crate::nginx::config::MainConf;
use crate::nginx::sys::log;
use crate::nginx::sys::seqpacket::{Received, Sent, Seqpacket};
use crate::nginx::sys::socket::Ready;
use crate::nginx::sys::timer::Posted;
use crate::nginx::worker::worker;
use crate::wsgi::mailbox::Level;
use crate::wsgi::numbers::NumberMap;
use crate::wsgi::relay::message::Message;

/// Bytes that may be on a link's way, in each direction.
const BUFFER: usize = 256 * 1024;

/// What the inviting worker sends with its end: its slot.
type Invitation = [u8; size_of::<u32>()];

/// Who hears what links say.
type Listener = Box<dyn Fn(&Link, Said)>;

/// All links of this worker.
pub struct Links {
    own: usize,
    main: &'static MainConf,
    all: RefCell<NumberMap<Rc<Link>>>,
    last: Cell<u64>,
    /// By slot, the number of the link that this worker uses.
    by_slot: Vec<Cell<Option<u64>>>,
    /// The numbers of links that have something to send.
    unsent: RefCell<Vec<u64>>,
    /// What is sent and what is received is written over these.
    out: RefCell<Vec<u8>>,
    incoming: RefCell<Vec<u8>>,
    flush: Posted,
    listener: OnceCell<Listener>,
    read_mail: fn(),
    log: *mut ngx_log_t,
}

impl Links {
    /// `read_mail` reads what has been posted so far.
    pub fn leak(
        own: usize,
        main: &'static MainConf,
        read_mail: fn(),
        log: *mut ngx_log_t,
    ) -> &'static Self {
        let this: &'static Self = Box::leak(Box::new(Self {
            own,
            main,
            all: RefCell::default(),
            last: Cell::new(0),
            by_slot: main.balance.inboxes.iter().map(|_| Cell::new(None)).collect(),
            unsent: RefCell::default(),
            out: RefCell::default(),
            incoming: RefCell::default(),
            flush: Posted::new(log),
            listener: OnceCell::new(),
            read_mail,
            log,
        }));
        this.flush.calls(|| this.flush());
        this
    }

    /// Who hears what links say. Only the first call counts.
    pub fn says_to(&self, listener: impl Fn(&Link, Said) + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Where invitations come.
    pub fn inbox(&self) -> Option<BorrowedFd<'static>> {
        let [inbox, _] = self.main.balance.inboxes.get(self.own)?;
        Some(inbox.as_fd())
    }

    pub fn get(&self, number: u64) -> Option<Rc<Link>> {
        self.all.borrow().get(&number).cloned()
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.all.borrow().keys().copied().collect()
    }

    /// The link to the worker of a slot, made if there is none; an error if that is not possible
    /// now.
    pub fn to(&'static self, slot: usize) -> io::Result<Rc<Link>> {
        if let Some(link) = self.by_slot[slot].get().and_then(|number| self.get(number)) {
            return Ok(link);
        }
        let [mine, theirs] = Seqpacket::pair(BUFFER)?;
        let [_, inbox] = &self.main.balance.inboxes[slot];
        let invitation: Invitation = (self.own as u32).to_le_bytes();
        match inbox.send(&invitation, &[theirs.as_fd()]) {
            Sent::Whole => self.open(slot, mine.into()).ok_or_else(|| io::ErrorKind::Other.into()),
            Sent::Refused(err) => Err(err),
            Sent::Full | Sent::Gone => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Reads the invitations that have come.
    pub fn read_inbox(&'static self) {
        let Some([inbox, _]) = self.main.balance.inboxes.get(self.own) else { return };
        loop {
            // One byte more than is expected, which would show.
            let mut buffer = [0; size_of::<Invitation>() + 1];
            match inbox.receive(&mut buffer) {
                Received::Message(len, fds) => self.accept(&buffer[..len], fds),
                // The end that is lost tells the other worker.
                Received::Cut(_) | Received::Truncated => (),
                Received::Nothing | Received::End | Received::Failed(_) => return,
            }
        }
    }

    fn accept(&'static self, invitation: &[u8], fds: Vec<OwnedFd>) {
        let slot = <Invitation>::try_from(invitation).ok().map(u32::from_le_bytes);
        let slot = slot.map(|slot| slot as usize).filter(|slot| *slot < self.by_slot.len());
        match (slot, <[OwnedFd; 1]>::try_from(fds)) {
            (Some(slot), Ok([end])) => drop(self.open(slot, end)),
            _ => log::write_worker(Level::Alert, "got a malformed invitation of another worker"),
        }
    }

    fn open(&'static self, slot: usize, end: OwnedFd) -> Option<Rc<Link>> {
        let number = self.last.get() + 1;
        self.last.set(number);
        let link = Link::open(number, slot, end, self.log, move |ready| self.ready(number, ready))?;
        self.all.borrow_mut().insert(number, Rc::clone(&link));
        if self.by_slot[slot].get().is_none() {
            self.by_slot[slot].set(Some(number));
        }
        Some(link)
    }

    fn ready(&self, number: u64, ready: Ready) {
        let Some(link) = self.get(number) else { return };
        match ready {
            Ready::Reading => {
                let Some(worker) = worker() else { return };
                // What the messages post is read below.
                worker.mailbox.will_collect();
                let mut incoming = self.incoming.take();
                link.receive(&mut incoming, |said| self.say(&link, said));
                self.incoming.replace(incoming);
                (self.read_mail)();
            }
            Ready::Writing => {
                link.has_room();
                self.flush_later(number);
            }
            Ready::Closing => self.say(&link, Said::End(None)),
        }
    }

    fn say(&self, link: &Link, said: Said) {
        if let Some(listener) = self.listener.get() {
            listener(link, said);
        }
    }

    /// Sends a message at the end of this turn of the event loop.
    pub fn send(&self, link: &Link, message: Message) {
        if link.send(message) {
            self.flush_later(link.number);
        }
    }

    fn flush_later(&self, number: u64) {
        self.unsent.borrow_mut().push(number);
        self.flush.post();
    }

    fn flush(&self) {
        for link in self.unsent.take().into_iter().filter_map(|number| self.get(number)) {
            let mut out = self.out.take();
            while let Err(said) = link.flush(&mut out) {
                self.say(&link, said);
            }
            self.out.replace(out);
            if !link.has_unsent() {
                self.say(&link, Said::Sent);
            }
        }
    }

    /// Whether something waits until another worker takes it in.
    pub fn has_unsent(&self) -> bool {
        self.all.borrow().values().any(|link| link.has_unsent())
    }

    /// The link is not used any more.
    pub fn close(&self, number: u64) {
        let link = self.all.borrow_mut().remove(&number);
        if let Some(link) = link {
            link.close();
            let used = &self.by_slot[link.slot];
            if used.get() == Some(number) {
                // Another one may be there.
                let mut all = self.numbers();
                all.retain(|number| self.get(*number).is_some_and(|other| other.slot == link.slot));
                used.set(all.pop());
            }
        }
    }
}
