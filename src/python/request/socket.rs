//! The connection of a request for a WebSocket, as its application gets it.
//!
//! `environ["werkzeug.socket"]` and `environ["gunicorn.socket"]` are the same `socket.socket`, the
//! application's end of a pair: libraries that speak RFC 6455 by themselves look for the one or the
//! other. `environ["wsgi.websocket"]` is for those that leave that to the server.
//! Runs on: pool thread.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::python::websocket::socket::WebSocket;
use crate::python::websocket::uwsgi::Serving;
use crate::wsgi::upgrade::Upgrade;
use crate::wsgi::websocket::handshake::Refusal;
use crate::wsgi::websocket::{End, Outcome};

/// The application's end of the connection, which is closed with the request.
pub struct Connection<'py> {
    upgrade: Arc<Upgrade>,
    socket: Option<Bound<'py, PyAny>>,
    _serving: Serving,
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
        let websocket = WebSocket::new(Arc::clone(&upgrade.frames), environ.cast::<PyDict>()?)?;
        let websocket = Bound::new(py, websocket)?;
        environ.set_item(intern!(py, "wsgi.websocket"), &websocket)?;
        Ok(Self { upgrade, socket, _serving: Serving::enter(&websocket) })
    }

    /// Whether the application has answered on it.
    pub fn is_used(&self) -> bool {
        self.upgrade.is_used()
    }

    /// Why the client's request is no handshake, if the application has tried.
    pub fn refusal(&self) -> Option<Refusal> {
        self.upgrade.frames.refusal()
    }

    /// Why the client sends nothing more, unless it is the application's own doing.
    fn end(&self) -> Option<End> {
        self.upgrade.frames.end().filter(|end| *end != End::Application)
    }

    /// The client of a WebSocket has closed it or has gone, or the worker leaves, and the
    /// application has to do with it: it has used it, or has tried to.
    pub fn has_lost_websocket(&self) -> bool {
        self.end().is_some() && (self.is_used() || self.upgrade.frames.has_missed())
    }

    /// The application has returned or raised.
    pub fn ended(&self, outcome: Outcome) {
        self.upgrade.frames.ended(outcome);
    }

    /// The request has ended, whatever the application keeps.
    pub fn close(&self) {
        self.ended(Outcome::Raised);
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
