//! What a worker changes of its process before Python starts in it: signals, memory, image. What
//! an application sees of its surroundings is in `surroundings.rs`, what its children inherit in
//! `children.rs`.
//!
//! Called by `hooks.rs` in init_process of a worker or single process, and by the runner for its
//! own thread.
//! Runs on: event loop (start of the worker), pool thread (`unblock_signals`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::thread;

use ngx::ffi::{
    pthread_attr_destroy, pthread_attr_getstacksize, pthread_attr_setstacksize, pthread_attr_t,
    pthread_getattr_default_np, pthread_setattr_default_np,
};

use crate::wsgi::fork;

/// What pthread needs at least for deep recursion in Python (musl's default is 128 KiB).
const STACK_SIZE: usize = 1 << 20;

/// Gives threads created from now on a stack that Python can recurse on.
pub fn ensure_stack_size() {
    // SAFETY: the attribute object is initialised by pthread_getattr_default_np and destroyed
    // after use; failures leave the default as it is.
    unsafe {
        let mut attr: pthread_attr_t = std::mem::zeroed();
        let mut size = 0;
        if pthread_getattr_default_np(&mut attr) != 0 {
            return;
        }
        if pthread_attr_getstacksize(&attr, &mut size) == 0
            && size < STACK_SIZE
            && pthread_attr_setstacksize(&mut attr, STACK_SIZE) == 0
        {
            pthread_setattr_default_np(&attr);
        }
        pthread_attr_destroy(&mut attr);
    }
}

/// Stack of a thread as nginx's pools make them, in bytes.
pub fn stack_size() -> usize {
    let mut size = 0;
    // SAFETY: the attribute object is initialised by pthread_getattr_default_np and destroyed
    // after use.
    unsafe {
        let mut attr: pthread_attr_t = std::mem::zeroed();
        if pthread_getattr_default_np(&mut attr) == 0 {
            pthread_attr_getstacksize(&attr, &mut size);
            pthread_attr_destroy(&mut attr);
        }
    }
    size.max(STACK_SIZE)
}

/// Keeps glibc from giving memory back to the kernel, and getting it again page by page, for each
/// body and each response: in a worker they come and go all the time. Blocks from 4 MiB on are
/// still mapped and unmapped; the others leave at most 8 MiB unused at the end of each of malloc's
/// arenas. (glibc's own limits begin at 128 KiB and grow with what is freed, to 32 and 64 MiB.)
pub fn keep_freed_memory() {
    // SAFETY: numbers, before the threads of this process are at work.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 8 << 20);
    }
}

/// Bytes of a process in memory.
pub fn resident_set(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(size).ok()?)
}

/// Keeps this image mapped until the process ends. The configuration's pool, destroyed at exit,
/// would unmap code that threads still run. Not for the master: a kept image keeps its
/// `module->index`, which may belong to another module two reloads later.
pub fn pin_image() {
    // SAFETY: dladdr fills `info` for an address of this image, whose name is a C string that
    // lives as long as the image; RTLD_NOLOAD only raises the reference count.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(pin_image as *const libc::c_void, &mut info) != 0 {
            libc::dlopen(info.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}

/// Takes SIGCHLD away from nginx, whose handler reaps every child with waitpid(-1): Python would
/// never learn how its own ended. A handler that is not nginx's is left alone.
pub fn release_sigchld() {
    // SAFETY: sigaction only reads and writes the structures given.
    unsafe {
        let mut child: libc::sigaction = std::mem::zeroed();
        let mut hangup: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, ptr::null(), &mut child);
        libc::sigaction(libc::SIGHUP, ptr::null(), &mut hangup);
        // nginx has one handler for all signals.
        if child.sa_sigaction == hangup.sa_sigaction {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
    }
}

/// What Python's own start does and this one leaves out with the handlers of signals: a file that
/// is over its limit (RLIMIT_FSIZE) is an OSError, not the end of the process. SIGPIPE is ignored
/// by nginx as well. Python gives both back to the programs that `subprocess` starts.
pub fn ignore_signals() {
    // SAFETY: numbers, and no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets exit(2), called by a C library, end the worker as a crash does: nginx's master never starts
/// one again in place of a worker that ends with 2. nginx itself calls it on the thread of the
/// event loop, which no application runs on, and means it.
pub fn wrap_exit() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn on_exit(
                handler: extern "C" fn(libc::c_int, *mut libc::c_void),
                arg: *mut libc::c_void,
            ) -> libc::c_int;
        }
        extern "C" fn ngx_http_wsgi_on_exit(status: libc::c_int, _arg: *mut libc::c_void) {
            // SAFETY: system calls without arguments by reference.
            unsafe {
                let in_event_loop = libc::gettid() == libc::getpid();
                if status & 0xff == 2 && !in_event_loop && !fork::is_child() {
                    libc::_exit(70);
                }
            }
        }
        // SAFETY: the handler is a function of this image, which is pinned.
        unsafe { on_exit(ngx_http_wsgi_on_exit, ptr::null_mut()) };
    }
}

/// nginx blocks all signals in its pool threads, and children inherit the mask: terminate() would
/// have no effect. Signals for the process still go to the main thread, which does not block them.
pub fn unblock_signals() {
    // SAFETY: an empty set, initialised before use.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// Starts a thread that no signal of the process is delivered to: nginx's handlers only count when
/// they interrupt the event loop.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // SAFETY: two sets, initialised before use; this thread's mask is put back.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let spawned =
            thread::Builder::new().name(name.to_owned()).stack_size(stack_size()).spawn(run);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        spawned.map(drop)
    }
}

/// The signal on which Python writes all stacks.
pub fn stack_signal() -> i32 {
    libc::SIGRTMAX() - 1
}

/// A file in memory.
pub fn memory_file(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: a C string; the result is checked before it is owned.
    unsafe {
        match libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Whether nginx ends this process, or waits for its connections to end.
pub fn is_leaving() -> bool {
    // SAFETY: nginx's own flags, on the event loop.
    unsafe { ngx::ffi::ngx_exiting != 0 || ngx::ffi::ngx_terminate != 0 }
}

/// The number of this process; nginx's own is of before it became a daemon.
pub fn id() -> libc::pid_t {
    // SAFETY: always succeeds.
    unsafe { libc::getpid() }
}

/// A pipe, its reading end without blocking; both are closed in programs that are started.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has the two elements that pipe2 fills, and nobody else owns what it made.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == -1 {
            return Err(io::Error::last_os_error());
        }
        let [read, write] = ends.map(|fd| OwnedFd::from_raw_fd(fd));
        if libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok((read, write))
    }
}
