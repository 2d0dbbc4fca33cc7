//! What children of a worker inherit of nginx: descriptors.
//!
//! Programs that are started lose them by close-on-exec; children that fork() makes and that go on
//! in Python lose them in an atfork handler. Otherwise a child holds the port after nginx has
//! stopped.
//! Runs on: event loop (`keep_descriptors`), the thread that forks (the handler), any thread
//! (`raise_in_child`).

use std::fs;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::Duration;

use ngx::ffi::{ngx_connection_t, ngx_cycle_t, ngx_http_init_connection, ngx_listening_t};

use super::process::unblock_signals;
use crate::wsgi::fork;

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
