//! The connection of a request for a WebSocket, as its application gets it.
//!
//! `environ["werkzeug.socket"]` and `environ["gunicorn.socket"]` are the same `socket.socket`, the
//! application's end of a pair: libraries that speak RFC 6455 by themselves look for the one or the
//! other.
//! Runs on: pool thread.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::wsgi::upgrade::Upgrade;

/// The application's end of the connection, which is closed with the request.
pub struct Connection<'py> {
    upgrade: Arc<Upgrade>,
    socket: Option<Bound<'py, PyAny>>,
}

impl<'py> Connection<'py> {
    /// Puts the connection into the environ.
    pub fn open(environ: &Bound<'py, PyAny>, upgrade: Arc<Upgrade>) -> PyResult<Self> {
        let py = environ.py();
        let socket = upgrade.raw.take().map(|end| socket(py, end)).transpose()?;
        if let Some(socket) = &socket {
            environ.set_item(intern!(py, "werkzeug.socket"), socket)?;
            environ.set_item(intern!(py, "gunicorn.socket"), socket)?;
        }
        Ok(Self { upgrade, socket })
    }

    /// Whether the application has answered on it.
    pub fn is_used(&self) -> bool {
        self.upgrade.is_used()
    }

    /// The request has ended, whatever the application keeps.
    pub fn close(&self) {
        if let Some(socket) = &self.socket {
            // A socket that is closed already is closed once more without a word.
            let _ = socket.call_method0(intern!(socket.py(), "close"));
        }
    }
}

/// A `socket.socket` that owns this descriptor.
fn socket(py: Python<'_>, end: OwnedFd) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class =
        CLASS.get_or_try_init(py, || py.import("socket")?.getattr("socket").map(Bound::unbind))?;
    let (unix, stream) = (libc::AF_UNIX, libc::SOCK_STREAM);
    let socket = class.bind(py).call1((unix, stream, 0, end.as_raw_fd()))?;
    // It is the socket's now.
    let _ = end.into_raw_fd();
    Ok(socket)
}
