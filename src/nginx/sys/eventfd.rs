//! The eventfd through which pool threads wake the event loop of their worker.
//!
//! `ngx_notify` has one global handler slot and belongs to nginx's own thread pools. The event
//! sits on a connection structure of our own, as nginx's notify event does: it takes none of the
//! worker_connections, and it is not mistaken for a socket left open at exit.
//! Runs on: event loop; the waking function on any thread.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use ngx::ffi::{ngx_connection_t, ngx_cycle_t, ngx_event_t, ngx_handle_read_event};

use super::panic::protect;
use super::{bits, code};
use crate::wsgi::fork;

/// An eventfd in nginx's event loop. Lives as long as its process: a late thread may still write.
pub struct Eventfd {
    fd: OwnedFd,
}

impl Eventfd {
    /// Makes the eventfd; [`Self::listen`] puts it into the event loop.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no arguments by reference; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// What wakes the event loop; usable from any thread, never blocks.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let fd = self.fd();
        move || {
            // There the number may be that of a file of the application.
            if fork::is_child() {
                return;
            }
            let one = 1u64.to_ne_bytes();
            // SAFETY: writes 8 bytes from a live array; a descriptor that is not open is an error.
            let written = unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
            // EAGAIN means the counter is full, that is, a wake-up is pending.
            if written == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF) {
                robbed();
            }
        }
    }

    /// Ends the process if the descriptor has been closed.
    pub fn ensure_open(&self) {
        ensure_is(self.fd(), "anon_inode:[eventfd]");
    }

    /// Has `act` called on the event loop after each wake-up.
    ///
    /// # Safety
    ///
    /// Called in init_process, when the worker's event method is initialised. The descriptor stays
    /// open for the life of the process.
    pub unsafe fn listen(&self, cycle: *mut ngx_cycle_t, act: impl Fn() + 'static) -> bool {
        // SAFETY: init_process, and a descriptor that stays open, as the caller says.
        unsafe { listen(self.fd(), cycle, act) }
    }

    /// Blocks until a wake-up or the timeout. Only when the event loop has ended.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up, so that the deadline has passed when the timeout is over.
        let timeout = i32::try_from(timeout.as_millis() + 1).unwrap_or(i32::MAX);
        let mut count = [0u8; 8];
        // SAFETY: one pollfd, one live buffer of 8 bytes; failures (EINTR, EAGAIN) only make the
        // caller look again.
        unsafe {
            libc::poll(&mut poll, 1, timeout);
            libc::read(self.fd(), count.as_mut_ptr().cast(), count.len());
        }
    }
}

/// Ends the process if this descriptor has been closed, be its number that of another file by now.
/// `kind`: what proc(5) shows it as.
pub fn ensure_is(fd: RawFd, kind: &str) {
    let is_lost = match fs::read_link(format!("/proc/self/fd/{fd}")) {
        Ok(target) => target.as_os_str() != kind,
        // SAFETY: only asks; a descriptor that is not open is an error.
        Err(_) => unsafe { libc::fcntl(fd, libc::F_GETFD) == -1 },
    };
    if is_lost {
        robbed();
    }
}

/// The application has closed descriptors that are not its own, nginx's among them: the worker
/// serves nobody any more, and its event loop spins. It ends as by a crash, so that another one
/// follows. Descriptor 2 is what such code leaves. Runs on: any thread.
fn robbed() {
    if fork::is_child() {
        // Its descriptors were closed on purpose.
        return;
    }
    let text = b"nginx: [alert] wsgi worker ends: an application has closed its descriptors\n";
    // SAFETY: pointer and length of one array; ends the process.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(70)
    }
}

/// What is done when a descriptor becomes readable.
type Act = Box<dyn Fn()>;

/// Has `act` called on the event loop whenever a descriptor becomes readable, edge-triggered.
///
/// # Safety
///
/// Called in init_process, when the worker's event method is initialised. `fd` stays open for the
/// life of the process.
pub unsafe fn listen(fd: RawFd, cycle: *mut ngx_cycle_t, act: impl Fn() + 'static) -> bool {
    let act: Act = Box::new(act);
    // SAFETY: all-zero bytes are a valid value of these plain C structures. They are never freed,
    // because the event loop keeps pointers to them until the process ends. The cycle is the one
    // being started, its log lives as long. epoll keeps the pointer to the connection. The event is
    // edge-triggered, so that each write is reported and nothing need be read.
    unsafe {
        let c = Box::into_raw(Box::new(mem::zeroed::<ngx_connection_t>()));
        let read = Box::into_raw(Box::new(mem::zeroed::<ngx_event_t>()));
        let write = Box::into_raw(Box::new(mem::zeroed::<ngx_event_t>()));
        (*c).fd = fd;
        (*c).log = (*cycle).log;
        (*c).data = Box::into_raw(Box::new(act)).cast();
        (*c).read = read;
        (*c).write = write;
        (*read).handler = Some(ngx_http_wsgi_readable);
        for event in [read, write] {
            (*event).log = (*cycle).log;
            (*event).data = c.cast();
            // nginx marks events of a reused connection with alternating instances; ours is never
            // reused, but epoll compares the bit.
            bits::event::set_instance(event, true);
        }
        ngx_handle_read_event(read, 0) == code::OK
    }
}

unsafe extern "C" fn ngx_http_wsgi_readable(ev: *mut ngx_event_t) {
    protect((), || {
        // SAFETY: `listen` has set the event's data to its connection, and that of the connection
        // to an `Act`; both are never freed.
        let act = unsafe { &*(*(*ev).data.cast::<ngx_connection_t>()).data.cast::<Act>() };
        act();
    });
}
