//! `wsgi.input`: the request body as a seekable binary file.
//!
//! `call` makes the object for each request and closes it at the end; an application that keeps the
//! object longer, or uses it from another thread, gets a ValueError. Nothing is read before it is
//! asked for, so a body of many GB in nginx's temp file costs no memory. The lock is held only to
//! look at or reserve a range; large reads happen detached and without it.
//! Runs on: any Python thread. PEP 3333, "Input and Error Streams".

use std::io;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use memchr::memchr;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::python::interpreter::exception;
use crate::wsgi::lock::lock;
use crate::wsgi::request::body::RequestBody;

use super::file::{self, limit};

/// Bytes read ahead for readline, so that many short lines do not cost a pread each.
const AHEAD: usize = 16 * 1024;
/// From this size on a read lets other threads run.
const DETACH: usize = 64 * 1024;
/// What lies in memory is copied as it is up to this size.
const COPY: usize = 1024 * 1024;
/// Step of the search for a far line end.
const STEP: usize = 256 * 1024;
/// Most that `readinto` and `read1` hand out in one call.
const MAX_PART: u64 = 1024 * 1024;

#[derive(Default)]
struct State {
    /// `None` after the end of the request.
    body: Option<Arc<RequestBody>>,
    pos: u64,
    /// A part of the body, and where it starts.
    ahead: Vec<u8>,
    ahead_at: u64,
}

impl State {
    fn body(&self) -> PyResult<&Arc<RequestBody>> {
        self.body.as_ref().ok_or_else(|| {
            PyValueError::new_err("wsgi.input cannot be used after the end of its request")
        })
    }

    /// The bytes from the position on that have been read ahead.
    fn window(&self) -> &[u8] {
        let skip = self.pos.checked_sub(self.ahead_at).and_then(|n| usize::try_from(n).ok());
        skip.and_then(|skip| self.ahead.get(skip..)).unwrap_or_default()
    }

    /// Reads ahead from the position on.
    fn fill(&mut self) -> PyResult<()> {
        let body = Arc::clone(self.body()?);
        let left = body.len().saturating_sub(self.pos);
        self.ahead.resize(AHEAD.min(usize::try_from(left).unwrap_or(AHEAD)), 0);
        self.ahead_at = self.pos;
        let filled = body.read_at(&mut self.ahead, self.pos);
        self.ahead.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(drop).map_err(|err| failed(&err))
    }
}

#[pyclass(frozen, weakref, module = "wsgi", name = "InputStream")]
pub struct Input(Mutex<State>);

impl Input {
    /// One without a request.
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// A request begins. `None`: an empty body.
    pub fn begin(&self, body: Option<Arc<RequestBody>>) {
        static EMPTY: LazyLock<Arc<RequestBody>> = LazyLock::new(Arc::default);
        let body = body.unwrap_or_else(|| Arc::clone(&EMPTY));
        *self.lock() = State { body: Some(body), ..State::default() };
    }

    /// The request has ended.
    pub fn end(&self) {
        let state = std::mem::take(&mut *self.lock());
        drop(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Reserves up to `limit` bytes from the position on and reads them.
    fn take<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let (body, pos, len) = {
            let mut state = self.lock();
            let body = Arc::clone(state.body()?);
            let pos = state.pos;
            let len = body.len().saturating_sub(pos).min(limit);
            state.pos += len;
            (body, pos, len)
        };
        let len = usize::try_from(len).map_err(|_| PyOSError::new_err("body too large"))?;
        // Not zeroed first, as the buffer below is.
        if len < COPY
            && let Some(bytes) = body.in_memory(pos, len)
        {
            return Ok(PyBytes::new(py, bytes));
        }
        PyBytes::new_with(py, len, |buf| {
            let read = if len < DETACH {
                body.read_at(buf, pos)
            } else {
                py.detach(|| body.read_at(buf, pos))
            };
            read.map(drop).map_err(|err| failed(&err))
        })
    }

    /// One line of at most `limit` bytes; `b''` at the end.
    fn line<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let (body, pos, seen) = {
            let mut state = self.lock();
            for refill in [true, false] {
                let body_left = state.body()?.len().saturating_sub(state.pos);
                let most = usize::try_from(limit.min(body_left)).unwrap_or(usize::MAX);
                let window = state.window();
                let part = &window[..window.len().min(most)];
                let end = memchr(b'\n', part).map(|at| at + 1);
                if let Some(len) = end.or((part.len() == most).then_some(most)) {
                    let line = PyBytes::new(py, &part[..len]);
                    state.pos += len as u64;
                    return Ok(line);
                }
                if refill {
                    state.fill()?;
                }
            }
            (Arc::clone(state.body()?), state.pos, state.window().len() as u64)
        };
        // Longer than the window: look for its end first, so that only the line is allocated.
        let len = py.detach(|| line_len(&body, pos, seen, limit)).map_err(|err| failed(&err))?;
        self.take(py, len)
    }

    /// The position that `offset` means.
    fn target(state: &State, offset: i64, whence: i32) -> PyResult<u64> {
        let len = state.body()?.len();
        let base = match whence {
            0 => 0,
            1 => state.pos,
            2 => len,
            _ => return Err(PyValueError::new_err(format!("invalid whence {whence}"))),
        };
        let base = i64::try_from(base).unwrap_or(i64::MAX);
        let too_far = || PyOverflowError::new_err("seek position is too large");
        let target = base.checked_add(offset).ok_or_else(too_far)?;
        u64::try_from(target)
            .map_err(|_| PyValueError::new_err(format!("negative seek position {target}")))
    }
}

/// Length of the line at `pos`, whose first `seen` bytes hold no line end.
fn line_len(body: &RequestBody, pos: u64, seen: u64, limit: u64) -> io::Result<u64> {
    let mut step = vec![0; STEP];
    let mut len = seen;
    while len < limit {
        let n = body.read_at(&mut step, pos + len)?;
        if n == 0 {
            break;
        }
        if let Some(at) = memchr(b'\n', &step[..n]) {
            len += at as u64 + 1;
            break;
        }
        len += n as u64;
    }
    Ok(len.min(limit))
}

fn failed(err: &io::Error) -> PyErr {
    PyOSError::new_err((err.raw_os_error().unwrap_or(libc::EIO), format!("request body: {err}")))
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size))
    }

    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size).min(MAX_PART))
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.line(py, limit(size))
    }

    /// All lines that are left; with a hint, none begins after that many bytes.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        file::lines(py, hint, || self.line(py, u64::MAX))
    }

    fn readinto(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = buffer.py();
        file::read_into(buffer, |len| self.take(py, (len as u64).min(MAX_PART)))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        file::next(self.line(py, u64::MAX))
    }

    #[pyo3(signature = (offset, whence = 0, /))]
    fn seek(&self, offset: i64, whence: i32) -> PyResult<u64> {
        let mut state = self.lock();
        state.pos = Self::target(&state, offset, whence)?;
        Ok(state.pos)
    }

    fn tell(&self) -> PyResult<u64> {
        let state = self.lock();
        state.body()?;
        Ok(state.pos)
    }

    /// The descriptor of the temp file; `io.UnsupportedOperation` if the body is in memory.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let fd = self.lock().body()?.as_file();
        fd.ok_or_else(|| exception::unsupported(py, "fileno"))
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        true
    }

    fn isatty(&self) -> bool {
        false
    }

    fn flush(&self) {}

    /// Does nothing: the body belongs to the server, and a wrapper closes the object that it wraps
    /// when the wrapper is collected, while the application may well read on.
    fn close(&self) {}

    #[getter]
    fn closed(&self) -> bool {
        self.lock().body.is_none()
    }
}
