//! The master's side of the child that tries the applications: waits for what it tells, and ends
//! it.
//!
//! Runs on: event loop (configuration, in the master).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ngx::ffi::ngx_cycle_t;

use super::child;
use crate::nginx::config::MainConf;
use crate::nginx::sys::process;
use crate::wsgi::interpreter::StartInterpreter;
use crate::wsgi::trial;

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

/// Bytes of the child's answer that are kept at most.
const ANSWER_LIMIT: usize = 1 << 20;

/// Bytes of what the applications print that are logged at most: the last ones.
const OUTPUT_LIMIT: usize = 16 * 1024;

/// How the child came to its end, as far as it matters.
pub enum End {
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
pub struct Inlet {
    pipe: Option<File>,
    pub bytes: Vec<u8>,
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
pub struct Child {
    pid: libc::pid_t,
    pub answer: Inlet,
    pub output: Inlet,
}

impl Child {
    /// # Safety
    ///
    /// As [`accepts`].
    pub unsafe fn fork(
        cycle: *mut ngx_cycle_t,
        main: &MainConf,
        start: StartInterpreter,
    ) -> io::Result<Self> {
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
                child::run(cycle, main, start, parent, answer_end, output_end);
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

    pub fn watch(&mut self, deadline: Instant) -> End {
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
    pub fn let_clean_up(&mut self, time: Duration, deadline: Instant) -> Option<String> {
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
    pub fn ask_for_stacks(&mut self) {
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
    pub fn kill(&self) {
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
