//! `import uwsgi`, with `wsgi_uwsgi_api on`: what uWSGI's own API has for WebSockets in Rust, all
//! else in uwsgi.py.
//!
//! The functions take no WebSocket: they act on that of the request which the calling thread serves.
//! Runs on: any thread of Python; `bring` on the main thread.

use std::cell::RefCell;
use std::ffi::CString;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyDict};
use pyo3::wrap_pyfunction;

use crate::wsgi::interpreter::UwsgiApi;
use crate::wsgi::websocket::{Kind, Message, Unable};

use super::socket::{Data, WebSocket, Words, check_protocol, data};

const MODULE: &str = include_str!("uwsgi.py");
const DECORATORS: &str = include_str!("uwsgidecorators.py");

thread_local! {
    /// The WebSocket of the request that this thread serves.
    static CURRENT: RefCell<Option<Py<WebSocket>>> = const { RefCell::new(None) };
}

/// While it lives, the functions of this thread act on one WebSocket.
pub struct Serving;

impl Serving {
    pub fn enter(socket: &Bound<'_, WebSocket>) -> Self {
        CURRENT.with_borrow_mut(|current| *current = Some(socket.clone().unbind()));
        Self
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let left = CURRENT.take();
        drop(left);
    }
}

/// Puts `uwsgi` and `uwsgidecorators` in front of what may be installed under these names.
/// `request` returns what the request of the calling thread is known by.
pub fn bring(py: Python<'_>, api: &UwsgiApi, request: &Bound<'_, PyCFunction>) -> PyResult<()> {
    let facts = PyDict::new(py);
    facts.set_item("worker", api.worker)?;
    facts.set_item("processes", api.processes)?;
    facts.set_item("threads", api.threads)?;
    facts.set_item("has_master", api.has_master)?;
    facts.set_item("lock_file", api.lock_file)?;
    // Running a module's code is what makes it the one that is imported.
    let module = PyModule::from_code(py, &CString::new(MODULE)?, c"<uwsgi>", c"uwsgi")?;
    for function in [
        wrap_pyfunction!(websocket_handshake, &module)?,
        wrap_pyfunction!(websocket_recv, &module)?,
        wrap_pyfunction!(websocket_recv_nb, &module)?,
        wrap_pyfunction!(websocket_send, &module)?,
        wrap_pyfunction!(websocket_send_binary, &module)?,
        wrap_pyfunction!(connection_fd, &module)?,
        wrap_pyfunction!(disconnect, &module)?,
    ] {
        module.add_function(function)?;
    }
    module.call_method1("_begin", (facts, request))?;
    let code = CString::new(DECORATORS)?;
    PyModule::from_code(py, &code, c"<uwsgidecorators>", c"uwsgidecorators").map(drop)
}

/// The WebSocket of the calling thread's request; `what` cannot be done without one.
fn current<'py>(py: Python<'py>, what: &str) -> PyResult<Bound<'py, WebSocket>> {
    let current =
        CURRENT.with_borrow(|current| current.as_ref().map(|socket| socket.clone_ref(py)));
    current.map(|socket| socket.into_bound(py)).ok_or_else(|| {
        let line = format!("{what}: this thread serves no request of a WebSocket");
        PyOSError::new_err(line)
    })
}

fn raised(what: &str) -> impl Fn(Unable) -> PyErr {
    move |unable| PyOSError::new_err(format!("{what}: {unable}"))
}

/// Does the handshake. The key is that of the client's request, the subprotocol the client's first,
/// unless they are given; what the client is told of its origin is of no use to any client.
#[pyfunction]
#[pyo3(signature = (key = None, origin = None, proto = None, /))]
fn websocket_handshake(
    py: Python<'_>,
    key: Option<&Bound<'_, PyAny>>,
    origin: Option<&Bound<'_, PyAny>>,
    proto: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    const WHAT: &str = "unable to complete websocket handshake";
    origin.map(data).transpose()?;
    let (key, proto) = (key.map(data).transpose()?, proto.map(data).transpose()?);
    let key = key.as_ref().map(|key| key.as_bytes()).filter(|key| !key.is_empty());
    let protocol = proto.as_ref().map(Data::as_text).transpose()?.filter(|proto| !proto.is_empty());
    protocol.map_or(Ok(()), check_protocol)?;
    let socket = current(py, WHAT)?;
    socket.get().accept(py, &Words { key, protocol }).map_err(raised(WHAT))
}

const RECEIVE: &str = "unable to receive websocket message";

/// The next message, as bytes; waits for it.
#[pyfunction]
fn websocket_recv(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let socket = current(py, RECEIVE)?;
    let Message { data, .. } = socket.get().next(py).map_err(raised(RECEIVE))?;
    Ok(PyBytes::new(py, &data))
}

/// The next message if there is one, else `b""`.
#[pyfunction]
fn websocket_recv_nb(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let socket = current(py, RECEIVE)?;
    let message = socket.get().conversation().poll().transpose().map_err(raised(RECEIVE))?;
    Ok(PyBytes::new(py, message.as_ref().map_or(&[], |message| &message.data)))
}

/// Sends str or bytes as text.
#[pyfunction]
fn websocket_send(message: &Bound<'_, PyAny>) -> PyResult<()> {
    const WHAT: &str = "unable to send websocket message";
    let data = data(message)?;
    data.as_text()?;
    let socket = current(message.py(), WHAT)?;
    socket.get().put(message.py(), Kind::Text, data.as_bytes()).map_err(raised(WHAT))
}

/// Sends str or bytes as a binary message.
#[pyfunction]
fn websocket_send_binary(message: &Bound<'_, PyAny>) -> PyResult<()> {
    const WHAT: &str = "unable to send websocket binary message";
    let data = data(message)?;
    let socket = current(message.py(), WHAT)?;
    socket.get().put(message.py(), Kind::Binary, data.as_bytes()).map_err(raised(WHAT))
}

/// A descriptor that is readable while `websocket_recv_nb` has something to say.
#[pyfunction]
fn connection_fd(py: Python<'_>) -> PyResult<i32> {
    let socket = current(py, "unable to get the connection's descriptor")?;
    Ok(socket.get().conversation().bell()?)
}

/// Closes the WebSocket; a request of another kind is not ended early.
#[pyfunction]
fn disconnect(py: Python<'_>) {
    if let Ok(socket) = current(py, "") {
        // It may be closed.
        let _ = socket.get().conversation().close(1000, "");
    }
}
