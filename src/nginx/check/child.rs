//! The child of `wsgi_check`: becomes what a worker is, and imports the applications.
//!
//! Forked by `trial.rs`; ends with `_exit`, so that nothing which it shares with the master is
//! cleaned up twice. Python is finalized before that, as at the end of any script: what the imports
//! have made (temporary files, threads) is not left behind. The imports are made on Python's main
//! thread, as in a worker.
//! Runs on: the only thread of the child.

use std::ffi::c_int;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use ngx::ffi::{NGX_CONF_UNSET, ngx_cycle_t, ngx_set_environment};

use crate::nginx::config::{MainConf, core_of_cycle};
use crate::nginx::sys::{children, process};
use crate::nginx::worker::surroundings;
use crate::wsgi::error::LoadError;
use crate::wsgi::interpreter::{SharedInterpreter, StartInterpreter};
use crate::wsgi::mailbox::{Mail, Mailbox};
use crate::wsgi::trial::{BEGIN, CAUSE, CONFLICT, DONE, TRACEBACK};

/// Bytes of a traceback that are told at most.
const TRACEBACK_LIMIT: usize = 256 * 1024;

/// The life of the child.
///
/// # Safety
///
/// Called in a child just forked from a process with one thread, all signals blocked; `cycle` is
/// being built and `main` is of it.
pub unsafe fn run(
    cycle: *mut ngx_cycle_t,
    main: &MainConf,
    start: StartInterpreter,
    parent: libc::pid_t,
    answer: OwnedFd,
    output: OwnedFd,
) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: this is a child just forked from a process with one thread.
        let Ok(answer) = (unsafe { leave_the_master(answer, output) }) else {
            return;
        };
        // SAFETY: the cycle is being built and `main` is of it, as the caller says.
        let result = unsafe { become_a_worker(cycle, main, parent) };
        let interpreter = result.and_then(|()| import(main, start, &answer));
        if let Err(text) = &interpreter {
            answer.say(CAUSE, text);
        }
        answer.write(DONE);
        // The master waits for this too, but it does not count any more.
        if let Ok(interpreter) = interpreter {
            interpreter.finalize();
        }
    }));
    // SAFETY: ends the process, and nothing else.
    unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 70 }) }
}

/// The writing end of a pipe. An application may close every descriptor and open its own files
/// under the same numbers; those are not written to.
struct Outlet {
    fd: RawFd,
    file: Option<(libc::dev_t, libc::ino_t)>,
}

impl Outlet {
    fn new(fd: RawFd) -> Self {
        Self { fd, file: identity(fd) }
    }

    fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.file.is_some() && identity(self.fd) == self.file {
            // SAFETY: pointer and length of one slice.
            let written = unsafe { libc::write(self.fd, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(written) {
                Ok(n) => bytes = &bytes[n..],
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return,
            }
        }
    }

    fn say(&self, kind: &str, text: &str) {
        self.write(format!("{kind}{}\n", text.replace('\n', " ")).as_bytes());
    }
}

fn identity(fd: RawFd) -> Option<(libc::dev_t, libc::ino_t)> {
    // SAFETY: fstat fills the structure, or fails.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some((stat.st_dev, stat.st_ino))
    }
}

/// Signals, terminal and descriptors: nothing of the master's is left but the pipes.
unsafe fn leave_the_master(answer: OwnedFd, output: OwnedFd) -> io::Result<Outlet> {
    // SAFETY: only this process is changed; it has one thread, and nothing of nginx's runs in it
    // any more that would use a descriptor.
    unsafe {
        // A group of its own, so that the master can end whatever it starts.
        libc::setsid();
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        // As in a worker.
        process::ignore_signals();
        process::unblock_signals();
        let answer = check(libc::fcntl(answer.into_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))?;
        let output = check(libc::fcntl(output.into_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))?;
        let null = check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC))?;
        if null != 0 {
            check(libc::dup2(null, 0))?;
        } else {
            check(libc::fcntl(0, libc::F_SETFD, 0))?;
        }
        check(libc::dup2(output, 1))?;
        check(libc::dup2(output, 2))?;
        close_range(3, answer - 1);
        close_range(answer + 1, c_int::MAX);
        Ok(Outlet::new(answer))
    }
}

fn check(rc: c_int) -> io::Result<c_int> {
    if rc == -1 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// Closes descriptors, both ends included.
fn close_range(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: what is closed is nobody's in this process; numbers that are not open are errors.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == -1 {
            // Linux before 5.9.
            let limit = c_int::try_from(libc::sysconf(libc::_SC_OPEN_MAX)).unwrap_or(1 << 16);
            for fd in first..=last.min(limit) {
                libc::close(fd);
            }
        }
    }
}

/// What nginx does at the start of a worker, as far as an import can tell.
unsafe fn become_a_worker(
    cycle: *mut ngx_cycle_t,
    main: &MainConf,
    parent: libc::pid_t,
) -> Result<(), String> {
    // SAFETY: the configuration of the core module is complete; the cycle's memory is a copy of
    // this process's own.
    let ccf = unsafe { core_of_cycle(cycle) };
    let failed = |what: &str| Err(format!("{what} failed: {}", io::Error::last_os_error()));
    // SAFETY: system calls with numbers, strings of the configuration that nginx has terminated
    // with a zero byte, and structures of this function.
    unsafe {
        if ngx_set_environment(cycle, std::ptr::null_mut()).is_null() {
            return Err(String::from("out of memory"));
        }
        if ccf.rlimit_nofile != NGX_CONF_UNSET as isize {
            let limit = ccf.rlimit_nofile as libc::rlim_t;
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
        if libc::geteuid() == 0 {
            if libc::setgid(ccf.group) == -1 {
                return failed(&format!("setgid({})", ccf.group));
            }
            // A worker goes on without its groups; the import shows what that means.
            libc::initgroups(ccf.username, ccf.group);
            if libc::setuid(ccf.user) == -1 {
                return failed(&format!("setuid({})", ccf.user));
            }
        }
        // Else /proc/self belongs to root.
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        // The change of the user would have undone it.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != parent {
            libc::_exit(0);
        }
        let directory = ccf.working_directory;
        if directory.len > 0 && libc::chdir(directory.data.cast()) == -1 {
            return failed(&format!("chdir(\"{directory}\")"));
        }
    }
    children::mark_forked_children();
    process::ensure_stack_size();
    surroundings::enter(main)
}

/// Imports all applications that are tried in one interpreter; the error is that of Python's start.
fn import(
    main: &MainConf,
    start: StartInterpreter,
    answer: &Outlet,
) -> Result<SharedInterpreter, String> {
    // Stacks go where everything goes that the application prints.
    let settings = main.settings(Some((process::stack_signal(), 2)));
    let interpreter = start(&settings, printing())?;
    interpreter.attach(&mut || {
        let tried = main.checked.keys().filter_map(|index| Some((index, main.apps.get(*index)?)));
        for (index, (target, ..)) in tried {
            answer.say(BEGIN, &index.to_string());
            if let Err(error) = interpreter.try_import(target) {
                tell(answer, &error);
                return;
            }
        }
    });
    Ok(interpreter)
}

fn tell(answer: &Outlet, error: &LoadError) {
    answer.say(if error.is_conflict { CONFLICT } else { CAUSE }, &error.cause);
    let mut left = TRACEBACK_LIMIT;
    for line in &error.traceback {
        left = left.saturating_sub(line.len() + 1);
        if left == 0 {
            answer.say(TRACEBACK, "...");
            return;
        }
        answer.say(TRACEBACK, line);
    }
}

/// A mailbox that prints what is logged.
fn printing() -> Arc<Mailbox> {
    let output = Outlet::new(libc::STDERR_FILENO);
    Arc::new_cyclic(|mailbox: &Weak<Mailbox>| {
        let mailbox = mailbox.clone();
        Mailbox::new(move || {
            let Some(mailbox) = mailbox.upgrade() else { return };
            for mail in mailbox.collect(Vec::new()) {
                if let Mail::Log(record) = mail {
                    record.text.split('\n').for_each(|line| output.say("", line));
                }
            }
        })
    })
}
