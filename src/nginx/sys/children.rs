//! What children of a worker inherit of nginx: descriptors and signal handlers.
//!
//! Programs that are started lose nginx's descriptors by close-on-exec and its handlers by the
//! exec; children that fork() makes and that go on in Python lose both in atfork handlers.
//! Otherwise a child holds the port after nginx has stopped, and SIGTERM does nothing to it.
//! Runs on: event loop (`keep_descriptors`), the thread that forks (the handlers), any thread
//! (`raise_in_child`).

use std::cell::Cell;
use std::fs;
use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ngx::ffi::{
    NGX_MAX_PROCESSES, ngx_connection_handler_pt, ngx_connection_t, ngx_cycle_t, ngx_int_t,
    ngx_listening_t, ngx_open_file_t, ngx_process_slot, ngx_process_t, ngx_processes,
};

use super::list;
use crate::wsgi::fork;

/// How long a killed child is waited for. One that hangs in the kernel is not reaped.
const REAP_TIMEOUT: Duration = Duration::from_millis(100);

/// Lets children that the application forks know that they are.
pub fn mark_forked_children() {
    extern "C" fn ngx_http_wsgi_mark() {
        fork::mark_child();
    }
    // SAFETY: the handler is a function of this image, which stays; it does one atomic store.
    unsafe { libc::pthread_atfork(None, None, Some(ngx_http_wsgi_mark)) };
}

/// Raises a signal in a copy of this process and waits for its end, at most `timeout`. What its
/// handler reads is a snapshot that no thread changes meanwhile, and a crash hurts nobody.
///
/// The system call, not fork(): that runs the atfork handlers of the application's libraries, which
/// may wait for ever for a lock of theirs. A copy that sends no signal at its end is found by no
/// wait() of the application.
pub fn raise_in_child(signal: i32, timeout: Duration) {
    // SAFETY: without CLONE_VM and a stack it is a fork; the child makes system calls only, but for
    // the handler, and leaves. The C library does not know the child's thread: tgkill, not raise.
    unsafe {
        let zero: libc::c_long = 0;
        let child = libc::syscall(libc::SYS_clone, zero, zero, zero, zero, zero) as libc::pid_t;
        if child == 0 {
            let mut blocked: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&mut blocked);
            libc::sigdelset(&mut blocked, signal);
            libc::pthread_sigmask(libc::SIG_SETMASK, &blocked, ptr::null_mut());
            libc::syscall(
                libc::SYS_tgkill,
                libc::getpid(),
                libc::syscall(libc::SYS_gettid),
                signal,
            );
            libc::_exit(0);
        }
        if child != -1 && !reaped(child, timeout) {
            libc::kill(child, libc::SIGKILL);
            reaped(child, REAP_TIMEOUT);
        }
    }
}

/// Waits for the end of a child.
fn reaped(child: libc::pid_t, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        // SAFETY: a number, and no status wanted.
        let found = unsafe { libc::waitpid(child, ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
        if found != 0 {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Keeps a descriptor from programs that are started.
pub fn set_cloexec(fd: RawFd) {
    // SAFETY: fcntl with integer arguments; a bad descriptor is an error and nothing else.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFD);
        if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC);
        }
    }
}

/// A descriptor that is open when the worker starts, with its inode if it is a socket: nginx closes
/// some of these sockets, and their numbers may become anybody's. The others stay.
type Opened = (RawFd, Option<libc::ino_t>);

static OPENED: OnceLock<Vec<Opened>> = OnceLock::new();
/// What nginx calls for the connections of each listening socket.
static ACCEPTED: OnceLock<Vec<ngx_connection_handler_pt>> = OnceLock::new();
static CYCLE: AtomicPtr<ngx_cycle_t> = AtomicPtr::new(ptr::null_mut());
/// nginx's one handler for all signals.
static SIGNAL_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

/// epoll, eventfd; inotify, that is `wsgi_reload`.
const EVENTS: [&[u8]; 2] = [b"anon_inode:[event", b"anon_inode:inotify"];

/// Keeps nginx's descriptors and signal handlers from children.
///
/// # Safety
///
/// Called once, before anything of an application is open; `cycle` is the cycle of this worker and
/// lives until the process ends.
pub unsafe fn keep_descriptors(cycle: *mut ngx_cycle_t) {
    let opened =
        fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().filter_map(|entry| {
            let fd = entry.file_name().to_str()?.parse::<RawFd>().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let target = target.as_os_str().as_bytes();
            if target.starts_with(b"socket:") {
                return Some((fd, Some(socket(fd)?)));
            }
            EVENTS.iter().any(|kind| target.starts_with(kind)).then_some((fd, None))
        });
    let opened: Vec<Opened> = opened.collect();
    for (fd, _) in &opened {
        set_cloexec(*fd);
    }
    let _ = OPENED.set(opened);
    // SAFETY: the listening array of a started cycle holds ngx_listening_t's.
    let listening = unsafe { (*cycle).listening.as_slice_mut::<ngx_listening_t>() };
    // Before the first of them is called, which the event loop does.
    let _ = ACCEPTED.set(listening.iter().map(|ls| ls.handler).collect());
    for ls in listening {
        set_cloexec(ls.fd);
        if ls.handler.is_some() {
            ls.handler = Some(ngx_http_wsgi_accepted);
        }
    }
    CYCLE.store(cycle, Ordering::Relaxed);
    // SAFETY: sigaction fills the structure; the handlers are functions of this image, which is
    // pinned.
    unsafe {
        let mut hangup: libc::sigaction = mem::zeroed();
        libc::sigaction(libc::SIGHUP, ptr::null(), &mut hangup);
        if hangup.sa_sigaction != libc::SIG_IGN {
            SIGNAL_HANDLER.store(hangup.sa_sigaction, Ordering::Relaxed);
        }
        libc::pthread_atfork(
            Some(ngx_http_wsgi_before_fork),
            Some(ngx_http_wsgi_after_fork),
            Some(ngx_http_wsgi_forked),
        );
    }
}

/// In place of a listening socket's handler, be it that of http, stream or mail: accepted sockets
/// have no close-on-exec flag.
unsafe extern "C" fn ngx_http_wsgi_accepted(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls this with the connection it has just accepted; its listening socket is an
    // element of the cycle's array.
    unsafe {
        set_cloexec((*c).fd);
        let first = (*CYCLE.load(Ordering::Relaxed)).listening.elts.cast::<ngx_listening_t>();
        let index = (*c).listening.offset_from(first) as usize;
        if let Some(Some(handler)) = ACCEPTED.get().and_then(|handlers| handlers.get(index)) {
            handler(c);
        }
    }
}

thread_local! {
    /// The signal mask of a thread that forks. Without a destructor, which would keep the image
    /// mapped in a master that unloads it.
    static MASK: Cell<libc::sigset_t> = const {
        // SAFETY: all-zero bytes are a valid set.
        Cell::new(unsafe { MaybeUninit::zeroed().assume_init() })
    };
}

/// Blocks all signals, so that none of the child's meets a handler of nginx, which would only set a
/// variable. Registered before any of the application's, it is the last to run.
unsafe extern "C" fn ngx_http_wsgi_before_fork() {
    // SAFETY: two sets, initialised before use.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        MASK.set(before);
    }
}

/// In parent and child.
unsafe extern "C" fn ngx_http_wsgi_after_fork() {
    let before = MASK.get();
    // SAFETY: the set that `ngx_http_wsgi_before_fork` has stored on this thread.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
}

/// In a child of fork(), on the forking thread: only async-signal-safe calls.
unsafe extern "C" fn ngx_http_wsgi_forked() {
    fork::mark_child();
    // Once: in a child of this child the same numbers are descriptors of the application.
    let cycle = CYCLE.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the cycle lives until the worker ends; signals are blocked here, and nothing of
    // nginx's runs in the child any more.
    unsafe {
        if !cycle.is_null() {
            reset_signals();
            close_descriptors(cycle);
        }
        ngx_http_wsgi_after_fork();
    }
}

/// Handlers that nginx has set and nobody has replaced.
unsafe fn reset_signals() {
    let handler = SIGNAL_HANDLER.load(Ordering::Relaxed);
    if handler == libc::SIG_DFL {
        return;
    }
    // nginx has no handlers of real-time signals.
    for signal in 1..32 {
        // SAFETY: a structure that sigaction fills; numbers.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &mut action) == 0
                && action.sa_sigaction == handler
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// The inode of a socket; none for anything else.
fn socket(fd: RawFd) -> Option<libc::ino_t> {
    // SAFETY: fstat fills the structure, or fails.
    unsafe {
        let mut stat: libc::stat = mem::zeroed();
        let is_socket =
            libc::fstat(fd, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK;
        is_socket.then_some(stat.st_ino)
    }
}

/// nginx sets `fd` of a connection to -1 before it closes the descriptor, so that the array never
/// names one that belongs to Python. With others there is a moment, and their kind is looked at.
unsafe fn close_descriptors(cycle: *mut ngx_cycle_t) {
    for (fd, inode) in OPENED.get().into_iter().flatten() {
        if inode.is_none() || socket(*fd) == *inode {
            // SAFETY: the descriptor is the event loop's, which does not run in the child.
            unsafe { libc::close(*fd) };
        }
    }
    // SAFETY: the cycle, its files, connections and listening sockets, and the table of processes
    // live until the worker ends.
    unsafe {
        // With reuseport a worker also holds the sockets of the others, without a connection.
        for ls in (*cycle).listening.as_slice::<ngx_listening_t>() {
            if socket(ls.fd).is_some() {
                libc::close(ls.fd);
            }
        }
        for n in 0..(*cycle).connection_n {
            let fd = ptr::read_volatile(&raw const (*(*cycle).connections.add(n)).fd);
            if fd != -1 {
                libc::close(fd);
            }
        }
        // Channels to workers that were started later; ngx_last_process does not count those. That
        // of this one is closed, but not -1.
        let processes = (&raw const ngx_processes).cast::<ngx_process_t>();
        for n in (0..NGX_MAX_PROCESSES as usize).filter(|n| *n as ngx_int_t != ngx_process_slot) {
            let process = processes.add(n);
            let fd = ptr::read_volatile(&raw const (*process).channel[0]);
            // All zero, or all -1: not in use.
            if (*process).pid > 0 && fd > libc::STDERR_FILENO && socket(fd).is_some() {
                libc::close(fd);
            }
        }
        // Logs, whose space on the disk would not be free before the child has ended.
        for file in list::elements::<ngx_open_file_t>(&raw const (*cycle).open_files) {
            let fd = ptr::read_volatile(&raw const (*file).fd);
            let flags = libc::fcntl(fd, libc::F_GETFL);
            if fd > libc::STDERR_FILENO && flags != -1 && flags & libc::O_APPEND != 0 {
                libc::close(fd);
            }
        }
    }
}
