//! An old worker: it serves on after a reload until the new ones have loaded their applications.
//!
//! The master tells the old workers to quit 100 ms after it has started the new ones, by nginx's
//! channel. The quit is put back, and takes effect when the newest generation has loaded, has died
//! or has been told to quit itself, or when `wsgi_check_timeout` is over. nginx's shutdown timers
//! begin then. A quit that comes as a signal is not held, nor is a termination.
//! Runs on: event loop.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ngx::ffi::{
    ngx_channel, ngx_cycle_t, ngx_event_handler_pt, ngx_event_t, ngx_exiting, ngx_msec_t, ngx_quit,
};

use super::accepting;
use super::generation;
use super::identity::is_alive;
use crate::nginx::config::MainConf;
use crate::nginx::sys::log;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::timer::Timer;
use crate::wsgi::generation::{Outlook, Stage, Vacancy};
use crate::wsgi::mailbox::Level;

/// How often the worker looks how far the new ones are.
const TICK: ngx_msec_t = 20;

/// A quit that is held.
#[derive(Clone, Copy)]
struct Held {
    begun: Instant,
    /// The generation that this worker waits for, and since when.
    newest: u32,
    since: Instant,
    vacancy: Vacancy,
}

struct Hold {
    cycle: *mut ngx_cycle_t,
    timeout: Duration,
    /// nginx's handler of the channel, once it has been found.
    handler: Cell<ngx_event_handler_pt>,
    held: Cell<Option<Held>>,
    timer: Timer,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static HOLD: Cell<Option<&'static Hold>> = const { Cell::new(None) };
}

/// The worker starts.
///
/// # Safety
///
/// Called in init_process of a worker, with its cycle.
pub unsafe fn start(cycle: *mut ngx_cycle_t, main: &MainConf) {
    let hold: &'static Hold = Box::leak(Box::new(Hold {
        cycle,
        timeout: main.check_timeout(),
        handler: Cell::new(None),
        held: Cell::new(None),
        // SAFETY: the cycle of this process has a log.
        timer: Timer::new(unsafe { (*cycle).log }),
    }));
    hold.timer.calls(move || hold.look());
    HOLD.set(Some(hold));
    // nginx watches the channel behind init_process: it is there in the first turn of the loop.
    hold.timer.set(0);
}

/// Whether this worker has been told to quit, and serves on.
pub fn is_held() -> bool {
    HOLD.get().is_some_and(|hold| hold.held.get().is_some())
}

/// This worker quits now.
pub fn quit() {
    generation::leaves();
    // SAFETY: what nginx's signal handler does on SIGQUIT; the loop looks at it next.
    unsafe { ngx_quit = 1 };
}

impl Hold {
    /// Stands in for nginx's handler of the channel.
    fn watch_channel(&self) {
        // SAFETY: the cycle's connections are an array that stays as it is; plain variables.
        unsafe {
            for n in 0..(*self.cycle).connection_n {
                let c = (*self.cycle).connections.add(n);
                if (*c).fd == ngx_channel {
                    self.handler.set((*(*c).read).handler);
                    (*(*c).read).handler = Some(ngx_http_wsgi_channel);
                    break;
                }
            }
            // nginx's own handler may have read a quit in this very turn.
            if ngx_quit != 0 {
                self.quit_came();
            }
        }
    }

    /// The master has told this worker to quit.
    fn quit_came(&self) {
        let Some(member) = generation::membership() else { return };
        // SAFETY: a plain variable of nginx.
        if unsafe { ngx_exiting != 0 } {
            // It has been told before, by a signal, and has closed its sockets.
            return generation::leaves();
        }
        let outlook = member.table.outlook(member.generation);
        match outlook {
            Outlook::Last => member.table.end(member.generation),
            Outlook::Pending(newest)
                if member.own.seat().stage == Stage::Serving && self.held.get().is_none() =>
            {
                // SAFETY: a plain variable of nginx, which the event loop looks at later.
                unsafe { ngx_quit = 0 };
                let now = Instant::now();
                let vacancy = Vacancy::new(now);
                self.held.set(Some(Held { begun: now, newest, since: now, vacancy }));
                self.timer.set(TICK);
                let text = "serves on until the applications of the new workers are loaded";
                return log::write_worker(
                    Level::Notice,
                    &format!("{text}, at most {:?}", self.timeout),
                );
            }
            _ => (),
        }
        generation::leaves();
    }

    fn look(&self) {
        let Some((mut held, member)) = self.held.get().zip(generation::membership()) else {
            return self.watch_channel();
        };
        // SAFETY: plain variables of nginx.
        if unsafe { ngx_exiting != 0 || ngx_quit != 0 } {
            // By a signal.
            return generation::leaves();
        }
        if is_full() {
            // It turns new connections away: the new workers accept them.
            generation::leaves();
        }
        let now = Instant::now();
        let end = match member.table.outlook(member.generation) {
            Outlook::Pending(newest) => {
                if newest != held.newest {
                    held = Held { newest, since: now, vacancy: Vacancy::new(now), ..held };
                }
                if now - held.since >= self.timeout {
                    Some("it takes the new workers too long to load their applications")
                } else if held.vacancy.is_final(now, || member.table.progress(is_alive)) {
                    Some("new workers have died")
                } else {
                    None
                }
            }
            Outlook::Ended => Some("the new workers have been told to quit"),
            Outlook::Dropped => Some("listening sockets are to be closed"),
            Outlook::Loaded | Outlook::Last => {
                Some("the new workers have loaded their applications")
            }
        };
        self.held.set(Some(held));
        let Some(reason) = end else { return self.timer.set(TICK) };
        let time = held.begun.elapsed().as_secs_f32();
        log::write_worker(
            Level::Notice,
            &format!("quits {time:.3} s after it was told to: {reason}"),
        );
        quit();
    }
}

/// The master has sent something.
unsafe extern "C" fn ngx_http_wsgi_channel(ev: *mut ngx_event_t) {
    let Some(hold) = HOLD.get() else { return };
    // SAFETY: nginx's handler with nginx's event, which it may have closed afterwards; the cycle of
    // this process; a plain variable, set by that handler, or by a signal before.
    unsafe {
        let before = ngx_quit;
        if let Some(handler) = hold.handler.get() {
            handler(ev);
        }
        protect((), || {
            if before == 0 && ngx_quit != 0 {
                hold.quit_came();
            } else if ngx_exiting != 0 {
                // By a signal. The successor of another worker must not rely on this one.
                generation::leaves();
            }
            // Most of what the master sends is of workers that come and go.
            accepting::look_again(hold.cycle);
        });
    }
}

/// All connections of this worker are in use.
fn is_full() -> bool {
    // SAFETY: the current cycle is live.
    unsafe { (*ngx::ffi::ngx_cycle).free_connection_n == 0 }
}
