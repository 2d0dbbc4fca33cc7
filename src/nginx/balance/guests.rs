//! Requests of other workers that run in this one.
//!
//! A guest has an exchange of this worker, which it leaves when its owner need not be told anything
//! more. Its thread may be at it for longer.
//! Runs on: event loop.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ngx::ffi::{ngx_exiting, ngx_log_t, ngx_msec_t};

use super::link::Link;
use super::links::Links;
use super::zone::Table;
use crate::nginx::config::MainConf;
use crate::nginx::request::context;
use crate::nginx::sys::timer::Timer;
use crate::nginx::worker::display::display;
use crate::nginx::worker::{retire, worker};
use crate::wsgi::application::Import;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::mailbox::{ExchangeId, LogRecord};
use crate::wsgi::numbers::NumberMap;
use crate::wsgi::offer::Offer;
use crate::wsgi::own_threads::Threads;
use crate::wsgi::queue::Job;
use crate::wsgi::relay::PeerEnd;
use crate::wsgi::relay::message::{Answer, Kind, Limit, Malformed, Message, Order, Run, Settings};
use crate::wsgi::request::Request;

/// How often a leaving worker asks whether its guests have gone.
const STAY: ngx_msec_t = 1000;

/// A request of another worker.
struct Guest {
    end: PeerEnd,
    /// The link's number.
    link: u64,
    /// Its number in the other worker.
    owners: ExchangeId,
    pool: usize,
    limit: Option<Limit>,
}

impl Guest {
    /// Nobody waits for the answer any more: its thread is interrupted in time.
    fn follow(&self) {
        if let (Some(worker), Some(Limit { time, title })) = (worker(), &self.limit) {
            let threads = Threads::Pool(self.pool);
            worker.watch.follow(self.end.exchange(), threads, *time, || title.clone());
        }
    }

    /// Its stack is logged where its client is.
    fn show(&self, depth: u32) {
        if let Some(worker) = worker() {
            worker.watch.show(self.end.exchange(), depth);
        }
    }
}

/// All of them, by the numbers of their exchanges in this worker.
pub struct Guests {
    own: usize,
    table: Table,
    main: &'static MainConf,
    links: &'static Links,
    all: RefCell<NumberMap<Guest>>,
    /// Of each link: the numbers here by those of the owner.
    by_owner: RefCell<NumberMap<NumberMap<ExchangeId>>>,
    /// Of no thread is it known that it has taken these.
    untaken: RefCell<Vec<ExchangeId>>,
    /// Holds up a leaving worker while it has guests, or their owners have not been sent all.
    stay: Timer,
}

impl Guests {
    /// Of the worker with the slot `own`.
    pub fn leak(
        own: usize,
        table: Table,
        main: &'static MainConf,
        links: &'static Links,
        log: *mut ngx_log_t,
    ) -> &'static Self {
        let this: &'static Self = Box::leak(Box::new(Self {
            own,
            table,
            main,
            links,
            all: RefCell::default(),
            by_owner: RefCell::default(),
            untaken: RefCell::default(),
            stay: Timer::holding(log),
        }));
        this.stay.calls(|| this.stay());
        this
    }

    /// What the owner of a request says.
    pub fn order(&self, link: &Link, owners: ExchangeId, order: Order) -> Result<(), Malformed> {
        if let Order::Run(run) = order {
            return self.run(link, owners, *run);
        }
        let Some(id) = self.find(link.number, owners) else { return Ok(()) };
        if matches!(order, Order::Cancel) {
            if !self.dismiss(id) {
                // Whoever withdraws an offer wants to know that there is life here.
                self.links.send(link, Message::answer(owners, Answer::No));
            }
            return Ok(());
        }
        let mut all = self.all.borrow_mut();
        let Some(guest) = all.get_mut(&id) else { return Ok(()) };
        match order {
            Order::Run(_) | Order::Cancel | Order::Stacks => (),
            Order::Discard => guest.end.discard(),
            Order::Credit(passed) => guest.end.credit(passed)?,
            Order::Stack(depth) => guest.show(depth),
        }
        drop(all);
        self.tell_owner(id);
        Ok(())
    }

    /// A request of another worker is to run here, if there is room.
    fn run(&self, link: &Link, owners: ExchangeId, run: Run) -> Result<(), Malformed> {
        let Run { app, pool, ticket, limit, flags, buffering, vars, body, .. } = run;
        let Some(worker) = worker() else { return Ok(()) };
        let app = worker.app(app as usize).ok_or(Malformed("application"))?;
        let (index, pool) = (pool as usize, worker.pool(pool as usize));
        let pool = pool.ok_or(Malformed("pool"))?;
        let word = self.table.words(link.slot).get(ticket.word as usize);
        let word = word.ok_or(Malformed("word"))?;
        let Settings { on, heeds_header, size, spooling } = buffering;
        let spooling = match spooling {
            Some(index) => {
                let known = self.main.balance.spoolings.get(index as usize);
                Some(Arc::clone(known.ok_or(Malformed("temporary file"))?))
            }
            None => None,
        };
        if is_leaving() {
            self.table.slots()[self.own].is_open.store(false, Ordering::Release);
        }
        if is_leaving() || app.import() != Import::Done || !pool.queue().has_room() {
            self.links.send(link, Message::answer(owners, Answer::No));
            return Ok(());
        }
        let id = context::table().next_id();
        let buffering = Buffering { on, heeds_header, size, spooling };
        let (exchange, response) = Exchange::open(id, buffering, Arc::clone(&worker.mailbox));
        exchange.require(Offer::told(word, ticket.epoch));
        let end = PeerEnd::new(owners, exchange);
        self.insert(id, Guest { end, link: link.number, owners, pool: index, limit });
        if !self.stay.is_set() {
            self.stay.set(STAY);
        }
        retire::count();
        if let Some(display) = display() {
            display.guest_begins();
        }
        let request = Request { vars, body, flags, ..Request::default() };
        // A queue that is closed ends the exchange, which is answered.
        let _ = pool.push(Job::Call { app, request, response }, usize::MAX);
        Ok(())
    }

    /// There is something to take from this exchange, which may be that of a guest.
    pub fn tell_owner(&self, id: ExchangeId) {
        let mut all = self.all.borrow_mut();
        let Some(guest) = all.get_mut(&id) else { return };
        let link = self.links.get(guest.link);
        while let Some(message) = guest.end.answer() {
            if let Some(link) = &link {
                if let Kind::Answer(Answer::End(_)) = message.kind {
                    self.send_last_lines(link, guest.owners, id);
                }
                self.links.send(link, message);
            }
        }
        let is_done = guest.end.is_done();
        drop(all);
        if is_done && let Some(guest) = self.leaves(id) {
            // Its thread may still be in the application.
            guest.follow();
        }
    }

    /// Sends what a guest's thread has said before its end, and no mail has told of yet.
    fn send_last_lines(&self, link: &Link, owners: ExchangeId, id: ExchangeId) {
        if link.is_behind() {
            return;
        }
        let records = worker().map(|worker| worker.mailbox.take_logs(id)).unwrap_or_default();
        records.iter().for_each(|record| self.send_log(link, owners, record));
    }

    fn send_log(&self, link: &Link, owners: ExchangeId, record: &LogRecord) {
        for answer in Answer::log(record.level, &record.text) {
            self.links.send(link, Message::answer(owners, answer));
        }
    }

    /// A guest's thread has logged something; false if it is none, or if its owner has not taken in
    /// what is there already: then this worker writes the lines itself.
    pub fn log(&self, record: &LogRecord) -> bool {
        let Some(id) = record.exchange else { return false };
        let all = self.all.borrow();
        let Some(guest) = all.get(&id) else { return false };
        if let Some(link) = self.links.get(guest.link) {
            if link.is_behind() {
                return false;
            }
            self.send_log(&link, guest.owners, record);
        }
        true
    }

    /// Nobody reads what a guest sends. False if no thread has taken it.
    pub fn dismiss(&self, id: ExchangeId) -> bool {
        let Some(mut guest) = self.leaves(id) else { return false };
        guest.follow();
        let is_taken = guest.end.cancel().is_some();
        if !is_taken && let Some(pool) = worker().and_then(|worker| worker.pool(guest.pool)) {
            pool.remove(id);
        }
        is_taken
    }

    /// A guest need not be minded any more.
    fn leaves(&self, id: ExchangeId) -> Option<Guest> {
        let guest = self.remove(id);
        self.may_leave();
        guest
    }

    /// Nothing of guests may be left here that holds up a leaving worker.
    pub fn may_leave(&self) {
        if self.stay.is_set() && !self.holds() {
            self.stay.clear();
        }
    }

    fn holds(&self) -> bool {
        !self.all.borrow().is_empty() || self.links.has_unsent()
    }

    fn stay(&self) {
        if self.holds() {
            self.stay.set(STAY);
        }
    }

    fn insert(&self, id: ExchangeId, guest: Guest) {
        let mut by_owner = self.by_owner.borrow_mut();
        by_owner.entry(guest.link).or_default().insert(guest.owners, id);
        self.all.borrow_mut().insert(id, guest);
        self.untaken.borrow_mut().push(id);
    }

    /// The number here of the request that the owner behind this link calls so.
    pub fn find(&self, link: u64, owners: ExchangeId) -> Option<ExchangeId> {
        self.by_owner.borrow().get(&link)?.get(&owners).copied()
    }

    fn remove(&self, id: ExchangeId) -> Option<Guest> {
        let guest = self.all.borrow_mut().remove(&id)?;
        if let Some(numbers) = self.by_owner.borrow_mut().get_mut(&guest.link)
            && numbers.get(&guest.owners) == Some(&id)
        {
            numbers.remove(&guest.owners);
        }
        Some(guest)
    }

    /// The link has ended: the guests that came by it.
    pub fn of_link(&self, link: u64) -> Vec<ExchangeId> {
        let numbers = self.by_owner.borrow_mut().remove(&link).unwrap_or_default();
        numbers.into_values().collect()
    }

    /// All of them, with the slots and the numbers of their owners.
    pub fn exchanges(&self) -> Vec<(usize, ExchangeId, Arc<Exchange>)> {
        let all = self.all.borrow();
        let of = |guest: &Guest| {
            let slot = self.links.get(guest.link)?.slot;
            Some((slot, guest.owners, Arc::clone(guest.end.exchange())))
        };
        all.values().filter_map(of).collect()
    }

    /// What has to be looked at, since no mail says that a thread has taken it.
    pub fn untaken(&self) -> Vec<ExchangeId> {
        let all = self.all.borrow();
        let mut untaken = self.untaken.borrow_mut();
        untaken.retain(|id| all.get(id).is_some_and(|guest| !guest.end.is_taken()));
        untaken.clone()
    }
}

/// Whether this worker takes nothing of others any more.
fn is_leaving() -> bool {
    // SAFETY: a plain variable of nginx.
    unsafe { ngx_exiting != 0 || retire::is_draining() }
}
