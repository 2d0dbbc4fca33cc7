//! One queue over all workers: requests that wait in this one are handed to others.
//!
//! `zone.rs` is what all workers see of each other, `peers.rs` whom of them a request is given to.
//! `link.rs` carries the messages of `wsgi/relay`. `given.rs` are the requests of this worker's
//! clients that others run, `guests.rs` those of others that this one runs. What comes of a message
//! is here.
//! Runs on: event loop.

mod link;
pub mod zone;

mod given;
mod guests;
mod links;
mod peers;
mod task;

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ngx::ffi::{ngx_cycle_t, ngx_msec_t, ngx_worker};

use self::given::{Back, Entry, Given, Returned};
use self::guests::Guests;
use self::link::{Link, Said};
use self::links::Links;
use self::peers::{IDLE, Peers, ROOM, Wanted};
use self::task::{Task, task};
use self::zone::{Table, WORDS};
use super::config::MainConf;
use super::sys::timer::Timer;
use super::sys::{eventfd, log};
use super::worker::identity::{identity, is_alive, own_pid};
use super::worker::{retire, worker};
use crate::wsgi::application::Import;
use crate::wsgi::error::Failure;
use crate::wsgi::mailbox::{ExchangeId, Level};
use crate::wsgi::offer::Offer;
use crate::wsgi::queue::{Claim, Claimant, Job, Overflow, Place};
use crate::wsgi::relay::message::{Answer, Kind, Malformed, Message, Order, Run, Ticket};
use crate::wsgi::relay::{Goes, OwnerEnd};

/// How often what waits is looked at while another worker could take it.
const SOON: ngx_msec_t = 1;
/// How often while none could, and how often it is asked whether offers and guests have been taken.
const TICK: ngx_msec_t = 5;
/// How many of those that wait are looked at at a time.
const FIRST: usize = 16;

/// This worker among those that hand requests to each other.
pub struct Balance {
    own: usize,
    table: Table,
    main: &'static MainConf,
    peers: Peers,
    links: &'static Links,
    given: Given,
    pub guests: &'static Guests,
    tick: Timer,
    stacks: OnceCell<Box<dyn Fn(StacksSaid)>>,
}

/// What another worker says of stacks, which is about no request.
pub enum StacksSaid {
    /// It asks over this link, with this number.
    Asked(u64, u64),
    /// The worker of this slot answers, and may have more to say.
    Told(usize, u64, String, bool),
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static BALANCE: Cell<Option<&'static Balance>> = const { Cell::new(None) };
}

/// This worker among those that hand requests to each other, if it is.
pub fn balance() -> Option<&'static Balance> {
    BALANCE.get()
}

/// The worker has been taken out, and its event loop has ended: its links are closed.
pub fn close() {
    if let Some(balance) = BALANCE.take() {
        balance.table.close(balance.own);
        for link in balance.links.numbers().into_iter().filter_map(|link| balance.links.get(link)) {
            balance.end(&link, None);
        }
    }
}

/// Takes this worker's slot. `read_mail` reads what has been posted so far.
///
/// # Safety
///
/// Called in init_process of a worker, once, when its applications' pools are there; `main` is of
/// `cycle`, which lives until the process ends.
pub unsafe fn start(cycle: *mut ngx_cycle_t, main: &'static MainConf, read_mail: fn()) {
    // SAFETY: a plain variable of nginx.
    let own = unsafe { ngx_worker };
    let (Some(table), Some(clock), Some(worker)) = (zone::of(main), main.balance.clock, worker())
    else {
        return;
    };
    let Some(slot) = table.slots().get(own) else { return };
    let mine = identity(own_pid());
    let holder = slot.holder.swap(mine, Ordering::AcqRel);
    if holder != 0 && holder != mine && is_alive(holder) {
        slot.holder.store(holder, Ordering::Release);
        log::write_worker(
            Level::Notice,
            &format!("does without wsgi_balance, process {} has its place", holder >> 32),
        );
        return;
    }
    table.close(own);
    // SAFETY: the cycle of this process, as the caller says.
    let log = unsafe { (*cycle).log };
    let links = Links::leak(own, main, read_mail, log);
    let this: &'static Balance = Box::leak(Box::new(Balance {
        own,
        table,
        main,
        peers: Peers::new(own, table, clock, main.balance.forced),
        links,
        given: Given::new(WORDS),
        guests: Guests::leak(own, table, main, links, log),
        tick: Timer::new(log),
        stacks: OnceCell::new(),
    }));
    this.tick.calls(|| this.tick());
    this.links.says_to(|link, said| this.said(link, said));
    let Some(inbox) = this.links.inbox() else { return };
    // SAFETY: init_process; the inbox stays open for the life of the configuration.
    if !unsafe { eventfd::listen(inbox.as_raw_fd(), cycle, || this.links.read_inbox()) } {
        return;
    }
    for (index, board) in table.boards(own).iter().enumerate() {
        if let Some(pool) = worker.pool(index) {
            pool.queue().show_on(board, clock);
            pool.overflows_into(move |overflow| match overflow {
                Overflow::Nothing => (),
                Overflow::Soon => this.tick.set_by(SOON),
                Overflow::Now => this.look(index, IDLE),
            });
        }
    }
    slot.is_open.store(true, Ordering::Release);
    BALANCE.set(Some(this));
}

impl Balance {
    /// Who is told what other workers say of stacks. Only the first call counts.
    pub fn says_stacks_to(&self, listener: impl Fn(StacksSaid) + 'static) {
        let _ = self.stacks.set(Box::new(listener));
    }

    fn say_stacks(&self, said: StacksSaid) {
        if let Some(listener) = self.stacks.get() {
            listener(said);
        }
    }

    /// Asks the worker of a slot for its stacks; false if it cannot be asked.
    pub fn ask_for_stacks(&self, slot: usize, number: u64) -> bool {
        let is_there = slot < self.table.slots().len() && slot != self.own;
        let Some(link) = is_there.then(|| self.links.to(slot).ok()).flatten() else { return false };
        self.links.send(&link, Message::order(number, Order::Stacks));
        true
    }

    /// Answers a worker that has asked over this link.
    pub fn tell_stacks(&self, link: u64, number: u64, text: &str, more: bool) {
        if let Some(link) = self.links.get(link) {
            for answer in Answer::stacks(text, more) {
                self.links.send(&link, Message::answer(number, answer));
            }
        }
    }

    /// An import has ended.
    pub fn imported(&self) {
        let Some(worker) = worker() else { return };
        for (index, loaded) in self.table.loaded(self.own).iter().enumerate() {
            let is_loaded = worker.app(index).is_some_and(|app| app.import() == Import::Done);
            loaded.store(is_loaded, Ordering::Release);
        }
    }

    /// Whether another worker could take one more request at once.
    pub fn has_room(&self, pool: usize, app: usize) -> bool {
        self.peers.has_room(pool, app)
    }

    /// For tests: whether requests are to be [forced](Self::force).
    pub fn is_forced(&self) -> bool {
        self.main.balance.is_forced()
    }

    /// For tests: hands a request over that could be served here. It comes back if nobody takes it.
    pub fn force(&self, job: Job) -> Option<Job> {
        let task = job.id().and_then(task);
        let pool = task.as_ref().and_then(|task| worker()?.pool(task.pool));
        let (Some(task), Some(pool)) = (task, pool) else { return Some(job) };
        match self.peers.choose(task.pool, task.app, ROOM, Instant::now()) {
            Some(slot) => self.offer(slot, &task, job, pool.queue().place()).err(),
            None => Some(job),
        }
    }

    /// Requests of this pool wait that nobody comes for, or that have waited for a moment. An
    /// interpreter counts as idle after this time.
    fn look(&self, index: usize, idle: Duration) {
        let Some(pool) = worker().and_then(|worker| worker.pool(index)) else { return };
        let claimants = pool.queue().claimants(FIRST, task::may_go);
        if claimants.is_empty() || retire::is_outdated() {
            return;
        }
        let now = Instant::now();
        let mut pause = TICK;
        for Claimant { id, claim } in claimants {
            let Some(task) = task(id) else { continue };
            if claim == Claim::Nothing {
                pause = SOON;
            } else if let Some(slot) =
                self.peers.choose(index, task.app, Wanted { claim, idle }, now)
            {
                if let Some((job, place)) = pool.queue().take_out(id)
                    && let Err(job) = self.offer(slot, &task, job, place)
                {
                    pool.put_back(job, place);
                }
            } else if self.peers.is_served(task.app) {
                pause = SOON;
            }
        }
        self.tick.set_by(pause);
    }

    /// Offers a request to the worker of a slot. It comes back if that is not possible.
    fn offer(&self, slot: usize, task: &Task, job: Job, place: Place) -> Result<(), Job> {
        let now = Instant::now();
        let Job::Call { app, request, response } = job else { return Err(job) };
        let back = |request, response| Err(Job::Call { app, request, response });
        let link = match self.links.to(slot) {
            Ok(link) => link,
            Err(err) => {
                match err.kind() {
                    // Its inbox is full.
                    io::ErrorKind::WouldBlock => self.peers.rest(slot, now),
                    _ => self.peers.unlinked(slot, now),
                }
                return back(request, response);
            }
        };
        let Some(word) = self.given.take_word() else {
            self.peers.rest(slot, now);
            return back(request, response);
        };
        let id = response.id();
        let offer = Offer::make(&self.table.words(self.own)[word]);
        // Indices of the configuration are small.
        let run = Run {
            app: task.app as u32,
            pool: task.pool as u32,
            ticket: Ticket { word: word as u32, epoch: offer.epoch() },
            waited: now.saturating_duration_since(place.since),
            limit: task.limit.clone(),
            flags: request.flags,
            buffering: task.buffering,
            vars: request.vars.clone(),
            body: request.body.clone(),
        };
        if !run.fits() {
            self.given.free_word(word);
            task::stays(id);
            return back(request, response);
        }
        response.exchange().hand_over(offer, self.peers.pid(slot));
        let entry = Entry {
            end: OwnerEnd::new(response),
            link: link.number,
            slot,
            pool: task.pool,
            word,
            back: Some(Back { app, request, place }),
            offered: now,
        };
        self.given.insert(id, entry);
        self.peers.offered(slot);
        retire::uncount();
        self.links.send(&link, Message::order(id, Order::Run(Box::new(run))));
        self.tick.set_by(TICK);
        Ok(())
    }

    /// Queues a request here again; false if it has been taken.
    fn take_back(&self, id: ExchangeId) -> bool {
        let returned = self.given.take_back(id);
        let is_back = returned.is_some();
        returned.into_iter().for_each(|returned| self.queue(returned));
        is_back
    }

    /// Queues a request here again. It may be offered to another worker at once.
    fn queue(&self, Returned { job, place, pool, slot }: Returned) {
        self.peers.settled(slot);
        retire::count();
        if let Some(pool) = worker().and_then(|worker| worker.pool(pool)) {
            pool.put_back(job, place);
        }
    }

    /// A request that was handed over has an end.
    fn forget(&self, id: ExchangeId) -> Option<Entry> {
        let entry = self.given.remove(id)?;
        if entry.back.is_some() {
            self.peers.settled(entry.slot);
        }
        Some(entry)
    }

    /// The worker that runs the request of this exchange is to be told something.
    pub fn relay(&self, id: ExchangeId) {
        let all = self.given.all.borrow();
        let Some(entry) = all.get(&id) else { return };
        let link = self.links.get(entry.link);
        let mut is_cancelled = false;
        while let Some(message) = entry.end.order() {
            is_cancelled |= matches!(message.kind, Kind::Order(Order::Cancel));
            if let Some(link) = &link {
                self.links.send(link, message);
            }
        }
        drop(all);
        if is_cancelled {
            self.forget(id);
        }
    }

    /// Has the worker that runs a request log its stack, this many frames at most.
    pub fn show(&self, id: ExchangeId, depth: u32) {
        if let Some(link) = self.given.link(id).and_then(|link| self.links.get(link)) {
            self.links.send(&link, Message::order(id, Order::Stack(depth)));
        }
    }

    /// What the worker that runs a request says.
    fn answer(&self, link: &Link, id: ExchangeId, answer: Answer) -> Result<(), Malformed> {
        let is_taken = matches!(answer, Answer::Taken { .. });
        let mut all = self.given.all.borrow_mut();
        // It may have gone, or been offered to another worker meanwhile.
        let Some(entry) = all.get_mut(&id).filter(|entry| entry.link == link.number) else {
            return Ok(());
        };
        let goes = entry.end.receive(answer)?;
        let pool = entry.pool;
        if is_taken && entry.back.take().is_some() {
            self.peers.settled(entry.slot);
        }
        drop(all);
        match goes {
            Goes::On => (),
            Goes::Back => {
                self.peers.rest(link.slot, Instant::now());
                self.take_back(id);
            }
            Goes::Ended => {
                self.forget(id);
                // There is room now, and most likely nothing else to do there.
                self.look(pool, Duration::ZERO);
            }
        }
        Ok(())
    }

    /// The timer: what waits, and what no mail tells of.
    fn tick(&self) {
        for id in self.given.overdue(Instant::now()) {
            self.withdraw(id);
        }
        for id in self.guests.untaken() {
            self.guests.tell_owner(id);
        }
        (0..self.main.pools.len()).for_each(|pool| self.look(pool, IDLE));
        if self.given.has_untaken() || !self.guests.untaken().is_empty() {
            self.tick.set_by(TICK);
        }
    }

    /// Nobody has taken an offer: the worker it was made to is busy, or stopped.
    fn withdraw(&self, id: ExchangeId) {
        let link = self.given.link(id).and_then(|link| self.links.get(link));
        let Some(returned) = self.given.take_back(id) else { return };
        if let Some(link) = link {
            if self.peers.let_lie(link.slot, Instant::now()) {
                let pid = self.peers.pid(link.slot);
                let text = format!("process {pid} does not take the requests it is offered");
                log::write_worker(Level::Notice, &text);
            }
            self.links.send(&link, Message::order(id, Order::Cancel));
        }
        self.queue(returned);
    }

    /// What a link says.
    fn said(&self, link: &Link, said: Said) {
        match said {
            Said::Message(Message { id, kind }) => {
                self.peers.has_spoken(link.slot);
                let done = match kind {
                    Kind::Order(Order::Stacks) => {
                        self.say_stacks(StacksSaid::Asked(link.number, id));
                        Ok(())
                    }
                    Kind::Answer(Answer::Stacks { text, more }) => {
                        self.say_stacks(StacksSaid::Told(link.slot, id, text, more));
                        Ok(())
                    }
                    Kind::Order(order) => {
                        if matches!(order, Order::Run(_)) {
                            self.tick.set_by(TICK);
                        }
                        self.guests.order(link, id, order)
                    }
                    Kind::Answer(answer) => self.answer(link, id, answer),
                };
                if let Err(malformed) = done {
                    self.end(link, Some(malformed));
                }
            }
            // Only a request that is offered has descriptors.
            Said::Cut(id, true) => self.links.send(link, Message::answer(id, Answer::No)),
            Said::Cut(id, false) => {
                if let Some(entry) = self.forget(id) {
                    log::write_worker(Level::Error, "cannot open a file of another worker");
                    entry.end.fail();
                    self.links.send(link, Message::order(id, Order::Cancel));
                }
            }
            Said::Sent => self.guests.may_leave(),
            Said::Refused(Message { id, kind }, err) => self.refused(link, id, &kind, &err),
            Said::End(malformed) => self.end(link, malformed),
        }
    }

    /// The kernel lets no more descriptors be on their way, or lacks memory.
    fn refused(&self, link: &Link, id: ExchangeId, kind: &Kind, err: &io::Error) {
        match kind {
            Kind::Order(Order::Run(_)) => {
                task::stays(id);
                self.take_back(id);
            }
            Kind::Answer(Answer::File { .. } | Answer::Spooled { .. }) => {
                let text = format!("cannot pass a file to another worker: {err}");
                log::write_worker(Level::Error, &text);
                if let Some(guest) = self.guests.find(link.number, id) {
                    self.guests.dismiss(guest);
                    let end = Answer::End(Err(Failure::Lost));
                    self.links.send(link, Message::answer(id, end));
                }
            }
            // What follows makes no sense without it.
            _ => {
                let text = format!("ends a link to another worker: {err}");
                log::write_worker(Level::Error, &text);
                self.end(link, None);
            }
        }
    }

    /// The other worker has gone, or is not understood, or this one leaves. What it has not taken is
    /// this worker's again.
    fn end(&self, link: &Link, malformed: Option<Malformed>) {
        if let Some(malformed) = malformed {
            log::write_worker(Level::Alert, &format!("ends a link: {malformed}"));
        }
        self.links.close(link.number);
        let now = Instant::now();
        self.peers.ended(link.slot, malformed.is_some(), link.was_used(), now);
        for id in self.given.of_link(link.number) {
            if !self.take_back(id)
                && let Some(entry) = self.forget(id)
            {
                entry.end.died();
            }
        }
        for id in self.guests.of_link(link.number) {
            self.guests.dismiss(id);
        }
    }
}
