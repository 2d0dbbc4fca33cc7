//! What a worker changes of its process before Python starts in it: signals, descriptors, image.
//!
//! Called by `module.rs` in init_process of a worker or single process, and by the runner for its
//! own thread.
//! Runs on: event loop (start of the worker), pool thread (`unblock_signals`).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::thread;
use std::time::Duration;

use ngx::ffi::{ngx_connection_t, ngx_cycle_t, ngx_http_init_connection, ngx_listening_t};

use super::conf::MainConf;
use crate::wsgi::fork;

/// What pthread needs at least for deep recursion in Python (musl's default is 128 KiB).
const STACK_SIZE: usize = 1 << 20;

/// Gives threads created from now on a stack that Python can recurse on.
pub fn ensure_stack_size() {
    // SAFETY: the attribute object is initialised by pthread_getattr_default_np and destroyed
    // after use; failures leave the default as it is.
    unsafe {
        let mut attr: libc::pthread_attr_t = std::mem::zeroed();
        let mut size = 0;
        if pthread_getattr_default_np(&mut attr) != 0 {
            return;
        }
        if libc::pthread_attr_getstacksize(&attr, &mut size) == 0
            && size < STACK_SIZE
            && libc::pthread_attr_setstacksize(&mut attr, STACK_SIZE) == 0
        {
            pthread_setattr_default_np(&attr);
        }
        libc::pthread_attr_destroy(&mut attr);
    }
}

unsafe extern "C" {
    fn pthread_getattr_default_np(attr: *mut libc::pthread_attr_t) -> libc::c_int;
    fn pthread_setattr_default_np(attr: *const libc::pthread_attr_t) -> libc::c_int;
}

/// Stack of a thread as nginx's pools make them, in bytes.
pub fn stack_size() -> usize {
    let mut size = 0;
    // SAFETY: as above.
    unsafe {
        let mut attr: libc::pthread_attr_t = std::mem::zeroed();
        if pthread_getattr_default_np(&mut attr) == 0 {
            libc::pthread_attr_getstacksize(&attr, &mut size);
            libc::pthread_attr_destroy(&mut attr);
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

/// Environment and working directory of the applications.
pub fn enter(main: &MainConf) -> Result<(), String> {
    for (name, value) in &main.env {
        // SAFETY: called in init_process, before this worker's pool threads run anything of ours,
        // or in a process with one thread.
        unsafe { std::env::set_var(name, value) };
    }
    match &main.chdir {
        Some(path) => std::env::set_current_dir(path)
            .map_err(|err| format!("wsgi_chdir \"{}\": {err}", path.display())),
        None => Ok(()),
    }
}

/// The signal on which Python writes all stacks.
pub fn stack_signal() -> i32 {
    libc::SIGRTMAX() - 1
}

/// A file in memory, for the stacks of a worker that does not stop.
pub fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: a constant C string; the result is checked before it is owned.
    unsafe {
        match libc::memfd_create(c"wsgi-stacks".as_ptr(), libc::MFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
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

/// Lets children that the application forks know that they are.
pub fn mark_forked_children() {
    extern "C" fn ngx_http_wsgi_mark() {
        fork::mark_child();
    }
    // SAFETY: the handler is a function of this image, which stays; it does one atomic store.
    unsafe { libc::pthread_atfork(None, None, Some(ngx_http_wsgi_mark)) };
}

/// Raises a signal in a forked child and waits for its end, at most `timeout`. What its handler
/// reads is a snapshot that no thread changes meanwhile, and a crash hurts nobody.
pub fn raise_in_child(signal: i32, timeout: Duration) {
    let mut ends = [-1; 2];
    // SAFETY: the child only raises the signal and leaves. The parent reads the end of the pipe
    // as the end of the child, and reaps it.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == -1 {
            return;
        }
        let [read, write] = ends;
        let child = libc::fork();
        if child == 0 {
            unblock_signals();
            libc::raise(signal);
            libc::_exit(0);
        }
        libc::close(write);
        if child != -1 {
            let mut poll = libc::pollfd { fd: read, events: libc::POLLIN, revents: 0 };
            let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            if libc::poll(&mut poll, 1, timeout) != 1 {
                libc::kill(child, libc::SIGKILL);
            }
            libc::waitpid(child, ptr::null_mut(), 0);
        }
        libc::close(read);
    }
}

/// Keeps a descriptor from children.
pub fn set_cloexec(fd: RawFd) {
    // SAFETY: fcntl with integer arguments; a bad descriptor is an error and nothing else.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFD);
        if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC);
        }
    }
}

/// Descriptors that a forked child must not keep: epoll and eventfds of the worker.
const MAX_EVENT_FDS: usize = 16;
static EVENT_FDS: [AtomicI32; MAX_EVENT_FDS] = [const { AtomicI32::new(-1) }; MAX_EVENT_FDS];
static CYCLE: AtomicPtr<ngx_cycle_t> = AtomicPtr::new(ptr::null_mut());

/// epoll, eventfd; inotify, that is `wsgi_reload`.
const KEPT: [&[u8]; 2] = [b"anon_inode:[event", b"anon_inode:inotify"];

/// Keeps nginx's descriptors from children: on exec by close-on-exec, in forked children that go
/// on in Python by closing them. Otherwise a child holds the port after nginx has stopped.
///
/// # Safety
///
/// `cycle` is the cycle of this worker and lives until the process ends.
pub unsafe fn keep_descriptors(cycle: *mut ngx_cycle_t) {
    let anonymous = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().filter(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|to| KEPT.iter().any(|kind| to.as_os_str().as_bytes().starts_with(kind)))
    });
    let fds = anonymous.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for (slot, fd) in EVENT_FDS.iter().zip(fds) {
        set_cloexec(fd);
        slot.store(fd, Ordering::Relaxed);
    }
    // SAFETY: the listening array of a started cycle holds ngx_listening_t's.
    let listening = unsafe { (*cycle).listening.as_slice_mut::<ngx_listening_t>() };
    for ls in listening {
        set_cloexec(ls.fd);
        if ls.handler.is_some_and(|handler| {
            ptr::fn_addr_eq(handler, ngx_http_init_connection as unsafe extern "C" fn(_))
        }) {
            ls.handler = Some(ngx_http_wsgi_init_connection);
        }
    }
    CYCLE.store(cycle, Ordering::Relaxed);
    // SAFETY: the handler is a function of this image, which is pinned.
    unsafe { libc::pthread_atfork(None, None, Some(ngx_http_wsgi_forked)) };
}

/// In place of ngx_http_init_connection: accepted sockets have no close-on-exec flag.
unsafe extern "C" fn ngx_http_wsgi_init_connection(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls this with the connection it has just accepted.
    unsafe {
        set_cloexec((*c).fd);
        ngx_http_init_connection(c);
    }
}

/// In a child of fork(), on the forking thread: only async-signal-safe calls.
unsafe extern "C" fn ngx_http_wsgi_forked() {
    fork::mark_child();
    for slot in &EVENT_FDS {
        let fd = slot.load(Ordering::Relaxed);
        if fd != -1 {
            // SAFETY: the descriptors are the event loop's, which does not run in the child.
            unsafe { libc::close(fd) };
        }
    }
    let cycle = CYCLE.load(Ordering::Relaxed);
    // SAFETY: the cycle, its connections and listening sockets live until the worker ends. nginx
    // sets `fd` to -1 before it closes a descriptor, so the array never names one that belongs to
    // Python.
    unsafe {
        // With reuseport a worker also holds the sockets of the others, without a connection.
        for ls in (*cycle).listening.as_slice::<ngx_listening_t>() {
            libc::close(ls.fd);
        }
        for n in 0..(*cycle).connection_n {
            let fd = ptr::read_volatile(&raw const (*(*cycle).connections.add(n)).fd);
            if fd != -1 {
                libc::close(fd);
            }
        }
    }
}
