//! Keeps nginx's logs in nginx's time zone.
//!
//! C has one time zone in a process, and an application changes it: Django with its TIME_ZONE,
//! `time.tzset()`, even `time.mktime()` once TZ is in the environment. nginx asks C for the local
//! time once a second, for all of its logs and the variables `$time_local` and `$time_iso8601`.
//! What it has made of the answer is written over here, before anything reads it: for that the
//! event loop waits for events, has nginx look at the clock, and only then takes them. The zone is
//! that of the worker's start, as a table of its changes.
//!
//! That second system call is made while applications are imported, and for as long as the zone of
//! C differs. Left alone is what asks C itself: dates of SSI, `expires @`.
//! Runs on: event loop.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ngx::ffi::{
    NGX_UPDATE_TIME, ngx_cached_err_log_time, ngx_cached_http_log_iso8601,
    ngx_cached_http_log_time, ngx_cached_syslog_time, ngx_cached_time, ngx_cycle_t,
    ngx_event_actions, ngx_event_timer_alarm, ngx_gmtime, ngx_int_t, ngx_msec_t, ngx_str_t,
    ngx_time_update, ngx_tm_t, ngx_uint_t,
};

use super::is_settled;
use crate::nginx::sys::{code, eventfd};
use crate::wsgi::zone::Zone;

/// nginx's epoll, as proc(5) shows it.
const EVENTPOLL: &str = "anon_inode:[eventpoll]";

/// What C says now.
fn offset_in_c(at: i64) -> i64 {
    // SAFETY: localtime_r fills the structure, or leaves its zero.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&at, &mut tm);
        tm.tm_gmtoff / 60
    }
}

type ProcessEvents = unsafe extern "C" fn(*mut ngx_cycle_t, ngx_msec_t, ngx_uint_t) -> ngx_int_t;

struct Clock {
    zone: Zone,
    /// nginx's epoll.
    events: RawFd,
    /// nginx's own way to wait for events.
    process_events: ProcessEvents,
    /// The zone of C may be another one.
    is_apart: AtomicBool,
}

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// Keeps the zone that this process has.
///
/// # Safety
///
/// Called in init_process, before Python runs or its descriptors are open.
pub unsafe fn keep_zone() {
    // SAFETY: the event method has been initialised, and fills its table once in a process. The
    // function put there is one of this image, which is pinned.
    unsafe {
        let (Some(events), Some(process_events)) = (epoll(), ngx_event_actions.process_events)
        else {
            return;
        };
        let zone = Zone::new((*ngx_cached_time).sec, offset_in_c);
        let clock = Clock { zone, events, process_events, is_apart: AtomicBool::new(true) };
        if CLOCK.set(clock).is_ok() {
            ngx_event_actions.process_events = Some(ngx_http_wsgi_process_events);
        }
    }
}

/// The epoll descriptor of this process, if it is the only one.
fn epoll() -> Option<RawFd> {
    let fds = fs::read_dir("/proc/self/fd").ok()?.flatten();
    let is_epoll = |path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == EVENTPOLL);
    let mut found = fds.filter(|entry| is_epoll(entry.path()));
    let only = found.next()?.file_name().to_str()?.parse().ok();
    if found.next().is_none() { only } else { None }
}

/// In place of nginx's own.
unsafe extern "C" fn ngx_http_wsgi_process_events(
    cycle: *mut ngx_cycle_t,
    timer: ngx_msec_t,
    flags: ngx_uint_t,
) -> ngx_int_t {
    let Some(clock) = CLOCK.get() else {
        return code::OK;
    };
    // SAFETY: what nginx does itself, in two steps: it looks at the clock between waiting and the
    // first event. One pollfd; -1, for no limit, is the same for both.
    unsafe {
        if !clock.is_apart.load(Ordering::Relaxed) {
            let rc = (clock.process_events)(cycle, timer, flags);
            clock.look_after(rc);
            if clock.correct() {
                clock.is_apart.store(true, Ordering::Relaxed);
            }
            return rc;
        }
        let mut poll = libc::pollfd { fd: clock.events, events: libc::POLLIN, revents: 0 };
        let ready = libc::poll(&mut poll, 1, timer as libc::c_int);
        let interrupted =
            ready == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if flags & NGX_UPDATE_TIME as ngx_uint_t != 0 || ngx_event_timer_alarm != 0 {
            ngx_time_update();
        }
        if !clock.correct() && is_settled() && clock.agrees() {
            clock.is_apart.store(false, Ordering::Relaxed);
        }
        if interrupted {
            // nginx looks at what its handlers of signals have set.
            ngx_event_timer_alarm = 0;
            return code::OK;
        }
        let rc = (clock.process_events)(cycle, 0, flags & !(NGX_UPDATE_TIME as ngx_uint_t));
        clock.look_after(rc);
        rc
    }
}

/// To be called after ngx_time_update() elsewhere.
///
/// # Safety
///
/// On the thread of the event loop.
pub unsafe fn correct() {
    if let Some(clock) = CLOCK.get() {
        // SAFETY: on the event loop's thread, as the caller says, nobody else changes nginx's
        // clock.
        unsafe { clock.correct() };
    }
}

impl Clock {
    /// nginx could not wait for events, and would try again at once, for ever, if that is because
    /// an application has closed its descriptors.
    fn look_after(&self, rc: ngx_int_t) {
        if rc == code::ERROR {
            eventfd::ensure_is(self.events, EVENTPOLL);
        }
    }

    /// Whether nginx would get its own time from C now. What it has is of this second, and C may
    /// have changed its mind since.
    unsafe fn agrees(&self) -> bool {
        // SAFETY: nginx's cached time.
        let now = unsafe { (*ngx_cached_time).sec };
        offset_in_c(now) == self.zone.offset(now)
    }

    /// Writes nginx's own time over what was made of another zone's; false if it was right.
    unsafe fn correct(&self) -> bool {
        // SAFETY: nginx's cached time and the strings made of it lie in static memory, all of the
        // slot that is used now; no thread but this one makes others.
        unsafe {
            let time = ngx_cached_time;
            let offset = self.zone.offset((*time).sec);
            if (*time).gmtoff as i64 == offset {
                return false;
            }
            (*time).gmtoff = offset as ngx_int_t;
            let mut tm: ngx_tm_t = std::mem::zeroed();
            ngx_gmtime((*time).sec + offset * 60, &mut tm);
            let local = Local { tm, offset };
            overwrite(ngx_cached_err_log_time, |to| local.error_log(to));
            overwrite(ngx_cached_http_log_time, |to| local.access_log(to));
            overwrite(ngx_cached_http_log_iso8601, |to| local.iso8601(to));
            overwrite(ngx_cached_syslog_time, |to| local.syslog(to));
            true
        }
    }
}

/// # Safety
///
/// `old` is a string of nginx's that may be written to.
unsafe fn overwrite(old: ngx_str_t, write: impl Fn(&mut String) -> fmt::Result) {
    let mut new = String::new();
    if write(&mut new).is_ok() && new.len() == old.len {
        // SAFETY: of the same length, and it may be written to, as the caller says.
        unsafe { old.data.copy_from_nonoverlapping(new.as_ptr(), new.len()) };
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time as nginx has it: months from 1, and whole years.
struct Local {
    tm: ngx_tm_t,
    /// Minutes.
    offset: i64,
}

impl Local {
    fn month(&self) -> &'static str {
        MONTHS.get((self.tm.tm_mon - 1) as usize).copied().unwrap_or_default()
    }

    fn clock(&self) -> impl fmt::Display {
        format!("{:02}:{:02}:{:02}", self.tm.tm_hour, self.tm.tm_min, self.tm.tm_sec)
    }

    fn ahead(&self) -> (char, i64, i64) {
        let minutes = self.offset.abs();
        (if self.offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }

    fn error_log(&self, to: &mut String) -> fmt::Result {
        let ngx_tm_t { tm_year, tm_mon, tm_mday, .. } = self.tm;
        write!(to, "{tm_year:4}/{tm_mon:02}/{tm_mday:02} {}", self.clock())
    }

    fn access_log(&self, to: &mut String) -> fmt::Result {
        let ngx_tm_t { tm_year, tm_mday, .. } = self.tm;
        let (sign, hours, minutes) = self.ahead();
        let (month, clock) = (self.month(), self.clock());
        write!(to, "{tm_mday:02}/{month}/{tm_year}:{clock} {sign}{hours:02}{minutes:02}")
    }

    fn iso8601(&self, to: &mut String) -> fmt::Result {
        let ngx_tm_t { tm_year, tm_mon, tm_mday, .. } = self.tm;
        let (sign, hours, minutes) = self.ahead();
        let clock = self.clock();
        write!(to, "{tm_year:4}-{tm_mon:02}-{tm_mday:02}T{clock}{sign}{hours:02}:{minutes:02}")
    }

    fn syslog(&self, to: &mut String) -> fmt::Result {
        write!(to, "{} {:2} {}", self.month(), self.tm.tm_mday, self.clock())
    }
}
