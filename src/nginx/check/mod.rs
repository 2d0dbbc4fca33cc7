//! `wsgi_check`: tries the applications of a new configuration before it is accepted.
//!
//! Called by `hooks.rs` at a reload, at the start of an upgraded binary, and at `nginx -t`. A
//! forked child (`child.rs`) imports the applications as a worker would; this file decides
//! whether there is a check, waits for the child, ends it with all that it has started, and says
//! what was wrong. The master itself never runs Python, and waits only for a bounded time.
//! Runs on: event loop (configuration, in the master).

mod child;
mod trial;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ngx::ffi::{
    NGX_PROCESS_SIGNALLER, ngx_cycle_t, ngx_inherited, ngx_process, ngx_test_config,
    ngx_time_update, ngx_uint_t,
};

use self::trial::{Child, End};
use super::config::{MainConf, core_of_cycle};
use super::sys::{log, process};
use super::worker::{counters, zone};
use crate::wsgi::interpreter::StartInterpreter;
use crate::wsgi::lines;
use crate::wsgi::mailbox::Level;
use crate::wsgi::status::counters::Check;
use crate::wsgi::trial::{Answer, MOST_LINES};

/// What an operator can do about an application that cannot be imported beside the running one.
const HINT: &str = "\"wsgi_check off;\" in its location skips the trial of this application";

/// False when the new configuration must not be used; the log says why.
///
/// # Safety
///
/// `cycle` is being built, complete but for the init_conf of some modules; `main` is of it.
pub unsafe fn accepts(cycle: *mut ngx_cycle_t, main: &MainConf, start: StartInterpreter) -> bool {
    // SAFETY: the cycle is being built and has a log, `main` is of it, as the caller says.
    let Some(level) = (unsafe { consequence(cycle, main) }) else {
        return true;
    };
    // SAFETY: the cycle is complete but for some init_conf, as the caller says.
    let outcome = unsafe { try_applications(cycle, main, start) };
    // A conflict lies in the configuration, whatever else runs or does not run.
    let level = if outcome.is_conflict { Level::Emerg } else { level };
    let is_good = outcome.failure.is_empty() || level != Level::Emerg;
    // SAFETY: the old cycle is live, or the empty one of a start.
    if let Some(counters) = unsafe { counters::of_cycle((*cycle).old_cycle) } {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let said = outcome.failure.first().cloned().unwrap_or_default();
        counters.checked(&Check { at: now.map_or(0, |now| now.as_secs()), is_good, said });
    }
    // SAFETY: the cycle has a log. nginx's clock has stood still meanwhile.
    unsafe {
        ngx_time_update();
        for line in &outcome.failure {
            log::write((*cycle).log, level, format_args!("{line}"));
        }
        if let Some(line) = outcome.unclean {
            log::write((*cycle).log, Level::Warn, format_args!("{line}"));
        }
    }
    is_good
}

/// The level at which a failure is logged; `None`: no check is made.
unsafe fn consequence(cycle: *mut ngx_cycle_t, main: &MainConf) -> Option<Level> {
    if main.checked.is_empty() {
        return None;
    }
    // SAFETY: plain variables of nginx; the old cycle of a start has no configuration.
    let (process, test, running) = unsafe {
        let reload = !(*(*cycle).old_cycle).conf_ctx.is_null();
        (ngx_process, ngx_test_config != 0, reload || ngx_inherited != 0)
    };
    if process == NGX_PROCESS_SIGNALLER as ngx_uint_t {
        return None;
    }
    if test {
        // A server must start after a power cut even if a database has not.
        // SAFETY: the core module's init_conf has been called for this cycle.
        return Some(if unsafe { is_served(cycle) } { Level::Emerg } else { Level::Warn });
    }
    running.then_some(Level::Emerg)
}

/// Whether an nginx runs that this configuration is meant for: its pid file names a live master.
unsafe fn is_served(cycle: *mut ngx_cycle_t) -> bool {
    // SAFETY: the core module's init_conf, the first of all, has set the name.
    let file = unsafe { core_of_cycle(cycle).pid.as_bytes() };
    let file = Path::new(std::ffi::OsStr::from_bytes(file));
    let pid = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = pid.filter(|pid| *pid > 0 && *pid != process::id()) else {
        return false;
    };
    // SAFETY: signal 0 only asks.
    let known = unsafe { libc::kill(pid, 0) == 0 }
        || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    // The file may be left from before a crash, and its number another process's.
    known && is_master(pid)
}

/// Whether a process is a master of nginx, or a single process of this binary.
fn is_master(pid: i32) -> bool {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if title.starts_with(b"nginx: ") {
        return title.starts_with(b"nginx: master process");
    }
    let binary = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let (own, other) = (binary("self"), binary(&pid.to_string()));
    own.zip(other).is_some_and(|(own, other)| {
        // An upgrade has replaced the file.
        let other = other.as_os_str().as_bytes();
        own.as_os_str().as_bytes() == other.strip_suffix(b" (deleted)").unwrap_or(other)
    })
}

/// What has come of a trial.
#[derive(Default)]
struct Outcome {
    /// What is wrong, for the log; empty: nothing.
    failure: Vec<String>,
    /// Two applications cannot be served by one interpreter.
    is_conflict: bool,
    /// The imports have left something behind that would not end.
    unclean: Option<String>,
}

unsafe fn try_applications(
    cycle: *mut ngx_cycle_t,
    main: &MainConf,
    start: StartInterpreter,
) -> Outcome {
    let timeout = main.check_timeout();
    // SAFETY: the old cycle goes on until the new one is accepted; that of a start is empty.
    let _hold = unsafe { zone::Hold::new((*cycle).old_cycle) };
    // SAFETY: the cycle is complete but for some init_conf, and `main` is of it.
    let mut child = match unsafe { Child::fork(cycle, main, start) } {
        Ok(child) => child,
        Err(err) => {
            let failure = vec![format!("wsgi_check: cannot fork: {err}")];
            return Outcome { failure, ..Outcome::default() };
        }
    };
    let deadline = Instant::now() + timeout;
    let end = child.watch(deadline);
    let answer = Answer::read(&child.answer.bytes, lines::printable);
    let unclean = match end {
        End::Answered => {
            // As long as a worker that leaves.
            let time = main.shutdown_timeout();
            child.let_clean_up(time, deadline)
        }
        End::TimedOut => {
            child.ask_for_stacks();
            None
        }
        _ => None,
    };
    child.kill();
    let output = lines::printable(&child.output.bytes);
    let output = &output[output.len().saturating_sub(MOST_LINES)..];
    let is_conflict = answer.is_conflict;
    let failure = failure(answer, main, &end, timeout, output);
    Outcome { failure, is_conflict, unclean }
}

/// What is wrong according to the child's answer and its end, for the log.
fn failure(
    answer: Answer,
    main: &MainConf,
    end: &End,
    timeout: Duration,
    output: &[String],
) -> Vec<String> {
    let cause = match (answer.cause, end) {
        (Some(cause), _) => cause,
        (None, End::Answered) => return Vec::new(),
        (None, End::TimedOut) => format!("it takes longer than {timeout:?}"),
        (None, End::Exited(code)) => format!("it ended the process with code {code}"),
        (None, End::Killed(signal)) => format!("it ended the process by signal {signal}"),
        (None, End::Closed) => String::from("it closed descriptors that are not its own"),
        (None, End::Lost) => String::from("it ended the process"),
    };
    let app = answer.app.and_then(|index| main.apps.get(index).zip(main.checked.get(&index)));
    let what = match app {
        Some((_, place)) if answer.is_conflict => format!("{cause}, in {place}"),
        Some(((target, ..), place)) => {
            format!("wsgi_app \"{target}\" in {place}: cannot be imported: {cause}")
        }
        None => format!("wsgi_check: {cause}"),
    };
    let mut lines = [vec![what], answer.traceback].concat();
    lines.extend(output.iter().map(|line| format!("wsgi_check output: {line}")));
    // Two that are in conflict are served no better without the trial.
    if app.is_some() && !answer.is_conflict {
        lines.push(String::from(HINT));
    }
    lines
}
