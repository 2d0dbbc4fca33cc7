//! A socket of our own in nginx's event loop, on one of the worker's connections.
//!
//! As with nginx's own it is closed at worker_shutdown_timeout, and in a child that forks off.
//! Runs on: event loop.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

use ngx::ffi::{
    ngx_close_connection, ngx_connection_t, ngx_event_t, ngx_get_connection, ngx_handle_read_event,
    ngx_handle_write_event, ngx_log_t,
};

use super::panic::protect;
use super::{bits, code};

/// What has happened to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// There is something to receive. Said once: the caller receives until nothing is left.
    Reading,
    /// There is room again, see [`Socket::watch_room`].
    Writing,
    /// The worker gives up what is under way: the caller closes the socket.
    Closing,
}

type Act = Rc<dyn Fn(Ready)>;

/// A socket that is watched. It stays open until [`Self::close`].
pub struct Socket(*mut ngx_connection_t);

impl Socket {
    /// Watches a socket that does not block. `None`, and the socket is closed, if the worker has no
    /// free connection or cannot watch it, which nginx has logged.
    ///
    /// # Safety
    ///
    /// On the event loop of a worker; `log` lives as long as the process.
    pub unsafe fn open(fd: OwnedFd, log: *mut ngx_log_t, act: Act) -> Option<Self> {
        let fd = fd.into_raw_fd();
        // SAFETY: the event method is initialised in a worker. A connection that nginx gives is
        // this caller's alone, with zeroed events, until it is closed, which closes the descriptor
        // too. The data is taken back by `close`.
        unsafe {
            let c = ngx_get_connection(fd, log);
            if c.is_null() {
                libc::close(fd);
                return None;
            }
            (*c).data = Box::into_raw(Box::new(act)).cast();
            (*c).log = log;
            (*(*c).read).log = log;
            (*(*c).write).log = log;
            (*(*c).read).handler = Some(ngx_http_wsgi_socket_readable);
            (*(*c).write).handler = Some(ngx_http_wsgi_socket_writable);
            let socket = Self(c);
            if ngx_handle_read_event((*c).read, 0) != code::OK {
                socket.close();
                return None;
            }
            Some(socket)
        }
    }

    /// Nothing more could be sent: [`Ready::Writing`] is said when there is room. False if that
    /// cannot be watched, which nginx has logged.
    pub fn watch_room(&self) -> bool {
        // SAFETY: the connection is open until `close`. The event is edge-triggered with epoll, and
        // stays watched from the first time on.
        unsafe {
            bits::event::set_ready((*self.0).write, false);
            ngx_handle_write_event((*self.0).write, 0) == code::OK
        }
    }

    /// Closes the socket; nothing is said of it any more. Called once, also from within what it
    /// says.
    pub fn close(&self) {
        // SAFETY: the connection is open until here, and its data was made by `open`.
        unsafe {
            let act = Box::from_raw((*self.0).data.cast::<Act>());
            (*self.0).data = ptr::null_mut();
            ngx_close_connection(self.0);
            drop(act);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the connection has its descriptor until `close`, after which nobody asks.
        unsafe { BorrowedFd::borrow_raw((*self.0).fd) }
    }
}

/// # Safety
///
/// Called by nginx with an event of an open connection of a [`Socket`].
unsafe fn say(ev: *mut ngx_event_t, ready: Ready) {
    // SAFETY: the data of the event is its connection, and that of the connection what `open` has
    // put there: it is null only when the connection has been closed, and then not called. What is
    // called keeps itself alive over a `close`.
    unsafe {
        let c: *mut ngx_connection_t = (*ev).data.cast();
        let ready = if bits::connection::close(c) { Ready::Closing } else { ready };
        if let Some(act) = (*c).data.cast::<Act>().as_ref() {
            let act = Rc::clone(act);
            act(ready);
        }
    }
}

unsafe extern "C" fn ngx_http_wsgi_socket_readable(ev: *mut ngx_event_t) {
    // SAFETY: nginx's event, of a connection that `open` has prepared.
    protect((), || unsafe { say(ev, Ready::Reading) });
}

unsafe extern "C" fn ngx_http_wsgi_socket_writable(ev: *mut ngx_event_t) {
    // SAFETY: nginx's event, of a connection that `open` has prepared.
    protect((), || unsafe { say(ev, Ready::Writing) });
}
