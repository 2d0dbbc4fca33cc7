//! `wsgi.input` with `wsgi_request_buffering off`: a binary file without a position.
//!
//! Made by `call` in place of `input`'s object. A read waits, without the interpreter, until the
//! client has sent what it asks for. What is read is gone: no seek, no tell, no fileno, as with a
//! socket's file. A body that does not come to its end raises OSError, so that a part is never
//! taken for the whole.
//! Runs on: any Python thread. PEP 3333, "Input and Error Streams".

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::python::interpreter::exception;
use crate::wsgi::lock::lock;
use crate::wsgi::request::body_pipe::{BodyError, BodyPipe, Until};

use super::file;

/// `None` after the end of the request.
#[pyclass(frozen, weakref, module = "wsgi", name = "UnbufferedInputStream")]
pub struct Stream(Mutex<Option<Arc<BodyPipe>>>);

impl Stream {
    pub fn new(pipe: Arc<BodyPipe>) -> Self {
        Self(Mutex::new(Some(pipe)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<BodyPipe>>> {
        lock(&self.0)
    }

    /// Whether the body does not come to its end.
    pub fn is_broken(&self) -> bool {
        self.lock().as_ref().is_some_and(|pipe| pipe.is_broken())
    }

    /// The request has ended. A thread of the application that waits in a read is woken.
    pub fn end(&self) {
        let pipe = self.lock().take();
        if let Some(pipe) = pipe {
            pipe.close();
        }
    }

    fn take<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        until: Until,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let pipe = self.lock().clone().ok_or_else(|| failed(BodyError::Over))?;
        let read = pipe.read_now(limit, until);
        let read = read.unwrap_or_else(|| py.detach(|| pipe.read(limit, until)));
        read.map(|bytes| PyBytes::new(py, &bytes)).map_err(failed)
    }

    fn line<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit, Until::Line)
    }
}

/// The errno chooses the class: ConnectionResetError, TimeoutError, OSError.
fn failed(error: BodyError) -> PyErr {
    let errno = match error {
        BodyError::Over => return PyValueError::new_err(error.to_string()),
        BodyError::Gone => libc::ECONNRESET,
        BodyError::TimedOut => libc::ETIMEDOUT,
        BodyError::TooLarge => libc::EFBIG,
        BodyError::Malformed => libc::EPROTO,
        BodyError::Forked => libc::EIO,
    };
    PyOSError::new_err((errno, error.to_string()))
}

/// As [`file::limit`].
fn limit(size: Option<i64>) -> usize {
    usize::try_from(file::limit(size)).unwrap_or(usize::MAX)
}

#[pymethods]
impl Stream {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Until::Limit)
    }

    /// What is there; waits only for the first byte.
    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Until::Some)
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.line(py, limit(size))
    }

    /// All lines that are left; with a hint, none begins after that many bytes.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        file::lines(py, hint, || self.line(py, usize::MAX))
    }

    /// What is there, as `read1`: a buffer around this object asks again.
    fn readinto(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = buffer.py();
        file::read_into(buffer, |len| self.take(py, len, Until::Some))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        file::next(self.line(py, usize::MAX))
    }

    #[pyo3(signature = (offset, whence = 0, /))]
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        let _ = (offset, whence);
        Err(exception::unsupported(py, "seek"))
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        Err(exception::unsupported(py, "tell"))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Err(exception::unsupported(py, "fileno"))
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }

    fn flush(&self) {}

    /// Does nothing, as with a body that is complete.
    fn close(&self) {}

    #[getter]
    fn closed(&self) -> bool {
        self.lock().is_none()
    }
}
