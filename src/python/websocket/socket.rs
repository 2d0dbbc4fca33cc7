//! `environ["wsgi.websocket"]`: receive, send and close, as gevent-websocket has them.
//!
//! The handshake is done when the application first uses the object: until then it may answer the
//! request as any other, or take the raw socket.
//! Runs on: any thread of Python.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};

use crate::python::interpreter::{exception, ffi};
use crate::wsgi::websocket::handshake::{self, Offer};
use crate::wsgi::websocket::{Conversation, End, Kind, MAX_REASON, Message, Unable, may_send};

pyo3::create_exception!(
    wsgi,
    WebSocketError,
    PyOSError,
    "A WebSocket that is closed, or a client's request that is no proper handshake."
);

const ALREADY_CLOSED: &str = "Connection is already closed";

/// The WebSocket of one request.
#[pyclass(frozen, weakref, module = "wsgi", name = "WebSocket")]
pub struct WebSocket {
    conversation: Arc<Conversation>,
    /// The application knows that nothing more comes.
    told: AtomicBool,
    key: Option<Py<PyString>>,
    #[pyo3(get)]
    version: Option<Py<PyString>>,
    #[pyo3(get)]
    origin: Option<Py<PyString>>,
    #[pyo3(get)]
    protocol: Option<Py<PyString>>,
    #[pyo3(get)]
    path: Option<Py<PyString>>,
}

/// What the application has to say at the handshake.
#[derive(Default)]
pub struct Words<'a> {
    /// In place of the client's Sec-WebSocket-Key.
    pub key: Option<&'a [u8]>,
    pub protocol: Option<&'a str>,
}

impl WebSocket {
    pub fn new(conversation: Arc<Conversation>, environ: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = environ.py();
        let get = |name: &Bound<'_, PyString>| -> PyResult<Option<Py<PyString>>> {
            let Some(value) = environ.get_item(name)? else { return Ok(None) };
            Ok(value.cast_into::<PyString>().ok().map(Bound::unbind))
        };
        Ok(Self {
            conversation,
            told: AtomicBool::new(false),
            key: get(intern!(py, "HTTP_SEC_WEBSOCKET_KEY"))?,
            version: get(intern!(py, "HTTP_SEC_WEBSOCKET_VERSION"))?,
            origin: get(intern!(py, "HTTP_ORIGIN"))?,
            protocol: get(intern!(py, "HTTP_SEC_WEBSOCKET_PROTOCOL"))?,
            path: get(intern!(py, "PATH_INFO"))?,
        })
    }

    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Does the handshake, unless it has been done.
    pub fn accept(&self, py: Python<'_>, words: &Words<'_>) -> Result<(), Unable> {
        fn bytes<'a>(value: Option<&'a Bound<'_, PyString>>) -> Option<&'a [u8]> {
            value.and_then(ffi::latin1_bytes)
        }
        let [key, version, protocols] = [&self.key, &self.version, &self.protocol]
            .map(|value| value.as_ref().map(|value| value.bind(py)));
        let offer = Offer {
            key: words.key.or(bytes(key)),
            version: bytes(version),
            protocols: bytes(protocols),
        };
        self.conversation.accept(&offer, words.protocol)
    }

    /// The next message; waits for it.
    pub fn next(&self, py: Python<'_>) -> Result<Message, Unable> {
        let there = self.conversation.poll();
        there.unwrap_or_else(|| py.detach(|| self.conversation.receive()))
    }

    /// Sends a message; waits until there is room for it.
    pub fn put(&self, py: Python<'_>, kind: Kind, data: &[u8]) -> Result<(), Unable> {
        let sent = self.conversation.send_now(kind, data);
        sent.unwrap_or_else(|| py.detach(|| self.conversation.send(kind, data)))
    }
}

/// What sending and receiving raise; of the class that the application may have from
/// gevent-websocket, if it does.
fn raised(py: Python<'_>, text: String) -> PyErr {
    let class = || -> PyResult<Bound<'_, PyAny>> {
        let modules = py.import("sys")?.getattr("modules")?;
        modules.get_item("geventwebsocket.exceptions")?.getattr("WebSocketError")
    };
    match class().and_then(|class| class.call1((text.as_str(),))) {
        Ok(exc) => PyErr::from_value(exc),
        Err(_) => WebSocketError::new_err(text),
    }
}

/// Text in UTF-8, or what is not text.
pub enum Data<'a, 'py> {
    Text(&'a str),
    Bytes(Bound<'py, PyBytes>),
}

impl Data<'_, '_> {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes.as_bytes(),
        }
    }

    /// As text, which has to be UTF-8: a browser fails the connection on any other.
    pub fn as_text(&self) -> PyResult<&str> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes.as_bytes())
                .map_err(|_| PyValueError::new_err("bytes that are sent as text must be UTF-8")),
        }
    }
}

/// The bytes of a message.
pub fn data<'a, 'py>(message: &'a Bound<'py, PyAny>) -> PyResult<Data<'a, 'py>> {
    if let Ok(text) = message.cast::<PyString>() {
        return Ok(Data::Text(text.to_str()?));
    }
    if let Ok(bytes) = message.cast::<PyBytes>() {
        return Ok(Data::Bytes(bytes.clone()));
    }
    if message.is_instance_of::<PyByteArray>() || message.is_instance_of::<PyMemoryView>() {
        let bytes = message.py().get_type::<PyBytes>().call1((message,))?;
        return Ok(Data::Bytes(bytes.cast_into()?));
    }
    Err(exception::wrong_type("message", "str or bytes", message))
}

#[pymethods]
impl WebSocket {
    /// The next message, str or bytes; None when there will be none.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.told.load(Ordering::Relaxed) {
            return Err(raised(py, ALREADY_CLOSED.to_owned()));
        }
        let received = self.accept(py, &Words::default()).and_then(|()| self.next(py));
        match received {
            Ok(Message { kind: Kind::Text, data }) => {
                // Checked when it came.
                Ok(Some(PyString::new(py, &String::from_utf8_lossy(&data)).into_any()))
            }
            Ok(Message { kind: Kind::Binary, data }) => {
                Ok(Some(PyBytes::new(py, &data).into_any()))
            }
            Err(Unable::Closed(_)) => {
                self.told.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(unable) => Err(raised(py, unable.to_string())),
        }
    }

    /// Sends str as text and bytes as a binary message, unless `binary` says what it is to be.
    #[pyo3(signature = (message, binary = None))]
    fn send(&self, message: &Bound<'_, PyAny>, binary: Option<bool>) -> PyResult<()> {
        let py = message.py();
        let data = data(message)?;
        let binary = binary.unwrap_or(matches!(data, Data::Bytes(_)));
        if !binary {
            data.as_text()?;
        }
        let kind = if binary { Kind::Binary } else { Kind::Text };
        let sent =
            self.accept(py, &Words::default()).and_then(|()| self.put(py, kind, data.as_bytes()));
        sent.map_err(|unable| match unable {
            Unable::Closed(End::Application) => raised(py, ALREADY_CLOSED.to_owned()),
            unable => raised(py, unable.to_string()),
        })
    }

    /// Says the client that this was all. A WebSocket that is closed stays as it is.
    #[pyo3(signature = (code = 1000, message = None))]
    fn close(&self, py: Python<'_>, code: u16, message: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if !may_send(code) {
            return Err(PyValueError::new_err(format!("no close frame has code {code}")));
        }
        let data = message.map(data).transpose()?;
        let reason = data.as_ref().map_or(Ok(""), Data::as_text)?;
        if reason.len() > MAX_REASON {
            let line = format!("a close frame's message has at most {MAX_REASON} bytes");
            return Err(PyValueError::new_err(line));
        }
        let accepted = self.accept(py, &Words::default());
        let closed = accepted.and_then(|()| self.conversation.close(code, reason));
        self.told.store(true, Ordering::Relaxed);
        match closed {
            Ok(()) | Err(Unable::Closed(_)) => Ok(()),
            Err(unable) => Err(raised(py, unable.to_string())),
        }
    }

    /// Whether nothing can be sent any more, and nothing is left to be received.
    #[getter]
    fn closed(&self) -> bool {
        self.told.load(Ordering::Relaxed) || self.conversation.is_exhausted()
    }
}

/// A subprotocol of the application's choice.
pub fn check_protocol(name: &str) -> PyResult<()> {
    if handshake::is_token(name.as_bytes()) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name:?} is no subprotocol")))
}
