//! A new worker: it leaves new connections to those that serve until its applications are loaded.
//!
//! nginx has put its listening sockets into the event loop by then. They are taken out, as nginx
//! does while another worker has the accept mutex, and put in again when the applications are
//! loaded or nobody else serves: at a first start at once. Sockets that this configuration has
//! opened are left in, since the workers before do not have them, and so are those for datagrams,
//! QUIC among them.
//! Runs on: event loop.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ngx::ffi::{
    ngx_cycle_t, ngx_exiting, ngx_listening_t, ngx_msec_t, ngx_quit, ngx_use_accept_mutex,
    ngx_use_exclusive_accept,
};

use super::generation::{self, Membership};
use super::identity::{is_alive, runs};
use crate::nginx::config::MainConf;
use crate::nginx::sys::event::{Woken, add_read_event, del_read_event};
use crate::nginx::sys::timer::Timer;
use crate::nginx::sys::{bits, log};
use crate::wsgi::generation::{Others, Socket, Sockets, Stage, Vacancy};
use crate::wsgi::mailbox::Level;

/// How often the worker looks whether it may accept.
const TICK: ngx_msec_t = 20;

/// A worker that does not accept so far.
struct Newcomer {
    cycle: *mut ngx_cycle_t,
    since: Instant,
    /// How long this worker, when loaded, waits for others of its generation.
    grace: Duration,
    /// nginx uses its accept mutex.
    has_mutex: bool,
    settled: Cell<Option<Instant>>,
    vacancy: Cell<Vacancy>,
    accepts: Cell<Option<Sockets>>,
    timer: Timer,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static NEWCOMER: Cell<Option<&'static Newcomer>> = const { Cell::new(None) };
}

/// The worker starts: it accepts unless others serve.
///
/// # Safety
///
/// Called in init_process of a worker, with its cycle.
pub unsafe fn start(cycle: *mut ngx_cycle_t, main: &MainConf, member: Membership) {
    let sockets = member.table.sockets(member.own, Others::Awaited, runs);
    if sockets.all {
        return;
    }
    let now = Instant::now();
    // SAFETY: the cycle lives as long as the process; plain variables of nginx, whose event module
    // has been started.
    let newcomer: &'static Newcomer = unsafe {
        Box::leak(Box::new(Newcomer {
            cycle,
            since: now,
            grace: main.check_timeout(),
            has_mutex: ngx_use_accept_mutex != 0,
            settled: Cell::new(None),
            vacancy: Cell::new(Vacancy::new(now)),
            accepts: Cell::new(None),
            timer: Timer::new((*cycle).log),
        }))
    };
    newcomer.timer.calls(move || newcomer.look(member));
    NEWCOMER.set(Some(newcomer));
    // SAFETY: a plain variable of nginx. With the mutex nginx would put all sockets in again.
    unsafe { ngx_use_accept_mutex = 0 };
    newcomer.accept(sockets);
    log::write_worker(
        Level::Notice,
        "leaves new connections to others until its applications are loaded",
    );
    newcomer.timer.set(TICK);
}

/// All imports of this worker have ended, or Python could not be started.
pub fn settled() {
    let Some(member) = generation::membership() else { return };
    if member.own.seat().stage != Stage::Loading || is_leaving(member) {
        return;
    }
    member.own.reach(Stage::Settled);
    let newcomer = NEWCOMER.get();
    if let Some(newcomer) = newcomer {
        newcomer.settled.set(Some(Instant::now()));
    }
    match newcomer.filter(|newcomer| !newcomer.accepts_all()) {
        Some(newcomer) => newcomer.look(member),
        None => {
            member.table.note_loaded(member.generation, Others::Awaited);
            member.own.reach(Stage::Serving);
        }
    }
}

/// A leaving worker has closed its sockets, or is about to.
fn is_leaving(member: Membership) -> bool {
    // SAFETY: plain variables of nginx.
    let told = unsafe { ngx_exiting != 0 || ngx_quit != 0 };
    told || member.own.seat().stage == Stage::Leaving
}

/// A worker has come or gone. A connection that has woken a dying worker has woken no other one
/// (EPOLLEXCLUSIVE), and waits until the next connection comes. In nginx the successor finds it
/// when it begins to watch the sockets; here a successor does not accept for a while, so that the
/// others begin to watch anew.
///
/// # Safety
///
/// Called on the event loop of a worker, with its cycle.
pub unsafe fn look_again(cycle: *mut ngx_cycle_t) {
    // SAFETY: the worker's own sockets and their events; plain variables of nginx, which does the
    // same once in a while.
    unsafe {
        if ngx_use_exclusive_accept == 0 || ngx_exiting != 0 {
            return;
        }
        for ls in listening(cycle) {
            let event = (*(*ls).connection).read;
            if bits::event::active(event) && !bits::listening::reuseport(ls) {
                del_read_event(event);
                add_read_event(event, Woken::One);
            }
        }
    }
}

/// The sockets for streams that are this worker's to accept on.
///
/// # Safety
///
/// `cycle` is that of this worker.
unsafe fn listening(cycle: *mut ngx_cycle_t) -> impl Iterator<Item = *mut ngx_listening_t> {
    // SAFETY: the cycle's array of listening sockets, complete and unchanged in a worker.
    let (first, len) = unsafe {
        let listening = &(*cycle).listening;
        (listening.elts.cast::<ngx_listening_t>(), listening.nelts)
    };
    // SAFETY: elements of the cycle's array. Those of other workers have no connection here; when
    // nginx has closed them the array is empty.
    (0..len).map(move |n| unsafe { first.add(n) }).filter(|ls| {
        // SAFETY: an element of that array.
        unsafe { !(**ls).connection.is_null() && (**ls).type_ == libc::SOCK_STREAM }
    })
}

/// Who is woken for a connection that several workers may accept, as nginx has decided at its start.
fn woken() -> Woken {
    // SAFETY: a plain variable of nginx.
    if unsafe { ngx_use_exclusive_accept != 0 } { Woken::One } else { Woken::All }
}

impl Newcomer {
    fn accepts_all(&self) -> bool {
        self.accepts.get().is_some_and(|sockets| sockets.all)
    }

    fn look(&self, member: Membership) {
        if self.accepts_all() || is_leaving(member) {
            return;
        }
        let now = Instant::now();
        let mut vacancy = self.vacancy.get();
        let is_over = vacancy.is_final(now, || member.table.progress(is_alive))
            || self.settled.get().is_some_and(|since| now - since > self.grace);
        self.vacancy.set(vacancy);
        let others = if is_over { Others::GivenUp } else { Others::Awaited };
        let sockets = member.table.sockets(member.own, others, runs);
        self.accept(sockets);
        if !sockets.all {
            return self.timer.set(TICK);
        }
        self.timer.clear();
        let time = self.since.elapsed().as_secs_f32();
        log::write_worker(
            Level::Notice,
            &format!("accepts connections {time:.3} s after its start"),
        );
        if member.own.seat().stage == Stage::Settled {
            member.own.reach(Stage::Serving);
        }
    }

    /// Has these sockets in the event loop, and no others.
    fn accept(&self, sockets: Sockets) {
        if self.accepts.replace(Some(sockets)) == Some(sockets) {
            return;
        }
        // SAFETY: the worker's own sockets and their events; plain variables of nginx.
        unsafe {
            let has_mutex = sockets.all && self.has_mutex;
            if has_mutex {
                ngx_use_accept_mutex = 1;
            }
            for ls in listening(self.cycle) {
                let event = (*(*ls).connection).read;
                let is_own = bits::listening::reuseport(ls);
                let is_in = bits::event::active(event);
                let socket = Socket { is_own, is_new: bits::listening::open(ls) };
                if !sockets.include(socket) {
                    if is_in {
                        del_read_event(event);
                    }
                } else if !is_in && (is_own || !has_mutex) {
                    // With the mutex nginx puts it in when it has that.
                    add_read_event(event, if is_own { Woken::All } else { woken() });
                }
            }
        }
    }
}
