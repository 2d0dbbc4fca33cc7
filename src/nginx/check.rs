//! `wsgi_check`: tries the applications of a new configuration before it is accepted.
//!
//! Called by `refuse.rs` at a reload, at the start of an upgraded binary, and at `nginx -t`. A
//! forked child (`check_child.rs`) imports the applications as a worker would; this file decides
//! whether there is a check, waits for the child, ends it with all that it has started, and says
//! what was wrong. The master itself never runs Python, and waits only for a bounded time.
//! Runs on: event loop (configuration, in the master).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ngx::ffi::{
    NGX_LOG_EMERG, NGX_LOG_WARN, NGX_PROCESS_SIGNALLER, ngx_cycle_t, ngx_inherited, ngx_process,
    ngx_test_config, ngx_time_update, ngx_uint_t,
};

use super::check_child;
use super::conf::{MainConf, SHUTDOWN_TIMEOUT, core_of_cycle};
use super::dispatch::StartHost;
use super::{process, zone};
use crate::wsgi::lines;
use crate::wsgi::trial::{self, Answer};

/// What `module.rs` supplies of Python.
pub struct Python {
    pub start: StartHost,
}

/// `wsgi_check_timeout` when none is given.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often the child is looked at when it says nothing.
const TICK: Duration = Duration::from_millis(50);
/// The same when its end is close.
const MOMENT: Duration = Duration::from_millis(1);

/// How long a child may live on that has closed the pipe of its answer.
const CLOSED: Duration = Duration::from_millis(500);

/// The stacks of a child that hangs are written in milliseconds.
const STACKS: Duration = Duration::from_secs(1);
const STACKS_QUIET: Duration = Duration::from_millis(200);

/// A killed process is gone at once, unless it hangs in the kernel.
const REAP: Duration = Duration::from_secs(2);

/// What an operator can do about an application that cannot be imported beside the running one.
const HINT: &str = "\"wsgi_check off;\" in its location skips the trial of this application";

/// Bytes of the child's answer that are kept at most.
const ANSWER_LIMIT: usize = 1 << 20;

/// Bytes of what the applications print that are logged at most: the last ones.
const OUTPUT_LIMIT: usize = 16 * 1024;

/// False when the new configuration must not be used; the log says why.
///
/// # Safety
///
/// `cycle` is being built, complete but for the init_conf of some modules; `main` is of it.
pub unsafe fn accepts(cycle: *mut ngx_cycle_t, main: &MainConf, python: &Python) -> bool {
    // SAFETY: the caller's.
    let Some(level) = (unsafe { consequence(cycle, main) }) else {
        return true;
    };
    // SAFETY: the caller's.
    let outcome = unsafe { try_applications(cycle, main, python) };
    // A conflict lies in the configuration, whatever else runs or does not run.
    let level = if outcome.is_conflict { NGX_LOG_EMERG } else { level };
    // SAFETY: the cycle has a log. nginx's clock has stood still meanwhile.
    unsafe {
        ngx_time_update();
        for line in &outcome.failure {
            ngx::ngx_log_error!(level as ngx_uint_t, (*cycle).log, "{line}");
        }
        if let Some(line) = outcome.unclean {
            ngx::ngx_log_error!(NGX_LOG_WARN as ngx_uint_t, (*cycle).log, "{line}");
        }
    }
    outcome.failure.is_empty() || level != NGX_LOG_EMERG
}

/// The level at which a failure is logged; `None`: no check is made.
unsafe fn consequence(cycle: *mut ngx_cycle_t, main: &MainConf) -> Option<u32> {
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
        // SAFETY: the caller's.
        return Some(if unsafe { is_served(cycle) } { NGX_LOG_EMERG } else { NGX_LOG_WARN });
    }
    running.then_some(NGX_LOG_EMERG)
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

unsafe fn try_applications(cycle: *mut ngx_cycle_t, main: &MainConf, python: &Python) -> Outcome {
    let timeout = main.check_timeout.unwrap_or(TIMEOUT);
    // SAFETY: the old cycle goes on until the new one is accepted; that of a start is empty.
    let _hold = unsafe { zone::Hold::new((*cycle).old_cycle) };
    // SAFETY: the caller's.
    let mut child = match unsafe { Child::fork(cycle, main, python.start) } {
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
            let time = main.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
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
    let output = &output[output.len().saturating_sub(trial::MOST_LINES)..];
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
        Some((_, place)) if answer.is_conflict => {
            format!("{cause}, in {}:{}", place.file, place.line)
        }
        Some(((target, ..), place)) => format!(
            "wsgi_app \"{target}\" in {}:{}: cannot be imported: {cause}",
            place.file, place.line
        ),
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

/// How the child came to its end, as far as it matters.
enum End {
    Answered,
    TimedOut,
    Exited(i32),
    Killed(i32),
    /// It goes on, but cannot answer any more.
    Closed,
    /// Another has reaped it.
    Lost,
}

/// One of the child's pipes.
struct Inlet {
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Inlet {
    fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(File::from(pipe)), bytes: Vec::new() }
    }

    fn poll(&self) -> libc::pollfd {
        let fd = self.pipe.as_ref().map_or(-1, |pipe| pipe.as_raw_fd());
        libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
    }

    /// Takes what is there, but not for ever from a writer who never stops.
    fn read(&mut self) {
        let mut block = [0; 1 << 16];
        for _ in 0..16 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut block) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.bytes.extend_from_slice(&block[..n]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

/// The master's side of the child.
struct Child {
    pid: libc::pid_t,
    answer: Inlet,
    output: Inlet,
}

impl Child {
    /// # Safety
    ///
    /// As [`accepts`].
    unsafe fn fork(cycle: *mut ngx_cycle_t, main: &MainConf, start: StartHost) -> io::Result<Self> {
        let (answer, answer_end) = process::pipe()?;
        let (output, output_end) = process::pipe()?;
        let parent = process::id();
        // SAFETY: the process has one thread. No handler of nginx's runs in the child: it unblocks
        // the signals only when it has reset them.
        let pid = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
            let pid = libc::fork();
            if pid == 0 {
                check_child::run(cycle, main, start, parent, answer_end, output_end);
            }
            let failed = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
            if pid == -1 {
                return Err(failed);
            }
            pid
        };
        Ok(Self { pid, answer: Inlet::new(answer), output: Inlet::new(output) })
    }

    fn read(&mut self) {
        self.answer.read();
        self.answer.bytes.truncate(ANSWER_LIMIT);
        self.output.read();
        let bytes = &mut self.output.bytes;
        bytes.drain(..bytes.len().saturating_sub(OUTPUT_LIMIT));
    }

    /// Waits until the child says something; false when it did not in time.
    fn wait(&self, timeout: Duration) -> bool {
        let mut polls = [self.answer.poll(), self.output.poll()];
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: an array of two; nginx blocks its signals here, and an interrupted wait is as
        // good as one that is over.
        unsafe { libc::poll(polls.as_mut_ptr(), 2, timeout) > 0 }
    }

    fn watch(&mut self, deadline: Instant) -> End {
        // When the child began to be out of reach.
        let mut closed = None;
        loop {
            // Before the pipes are read: what a child has told before its end counts.
            let end = self.end();
            self.read();
            if trial::is_done(&self.answer.bytes) {
                return End::Answered;
            }
            if let Some(end) = end {
                return end;
            }
            let now = Instant::now();
            if now >= deadline {
                return End::TimedOut;
            }
            // Children of the application may hold the pipe open, so that its end is not waited
            // for; and a process that ends closes it a moment before.
            if self.answer.pipe.is_none() && now > *closed.get_or_insert(now) + CLOSED {
                return End::Closed;
            }
            self.wait(TICK.min(deadline - now));
        }
    }

    /// The child has answered and cleans up: waits for its end, at most until `deadline`. Returns
    /// what is to be said if it does not come to that.
    fn let_clean_up(&mut self, time: Duration, deadline: Instant) -> Option<String> {
        let deadline = deadline.min(Instant::now() + time);
        let text = loop {
            let end = self.end();
            self.read();
            match end {
                Some(End::Killed(signal)) => break format!("ended by signal {signal}"),
                Some(End::Exited(code)) if code != 0 => break format!("ended with code {code}"),
                Some(_) => return None,
                None => (),
            }
            let now = Instant::now();
            if now >= deadline {
                break String::from("did not end in time");
            }
            // A process that ends closes its pipes a moment before.
            let tick = if self.answer.pipe.is_none() { MOMENT } else { TICK };
            self.wait(tick.min(deadline - now));
        };
        Some(format!(
            "wsgi_check: the process of the trial {text} when it ran exit functions and waited for \
             threads of the applications"
        ))
    }

    /// How the child has ended, without reaping it: its number stays its own.
    fn end(&self) -> Option<End> {
        // SAFETY: an all-zero siginfo is what waitid leaves when nothing has ended.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, options) == -1 {
                return Some(End::Lost);
            }
            match info.si_code {
                0 => None,
                libc::CLD_EXITED => Some(End::Exited(info.si_status())),
                _ => Some(End::Killed(info.si_status())),
            }
        }
    }

    /// Lets the child say where it hangs.
    fn ask_for_stacks(&mut self) {
        let deadline = Instant::now() + STACKS;
        // SAFETY: the child is not reaped yet, so the number is its own.
        unsafe { libc::kill(self.pid, process::stack_signal()) };
        while Instant::now() < deadline && self.wait(STACKS_QUIET) {
            self.read();
            if self.output.pipe.is_none() {
                return;
            }
        }
    }

    /// Ends the child and all processes of its group, and reaps it. Nobody else hears of it: what
    /// is left for nginx's SIGCHLD handler are its own children.
    fn kill(&self) {
        // SAFETY: the child is not reaped yet, so that its number, which is its group's too once
        // it has called setsid(), belongs to nobody else.
        unsafe {
            libc::kill(-self.pid, libc::SIGKILL);
            libc::kill(self.pid, libc::SIGKILL);
            let deadline = Instant::now() + REAP;
            while libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG) == 0
                && Instant::now() < deadline
            {
                libc::poll(std::ptr::null_mut(), 0, 1);
            }
        }
    }
}
